"""The routing rules that close sandboxes when the packet rules are gone."""

import pytest

from sandboxd import iprules
from sandboxd.errors import HostError

SOURCES = ["10.200.0.0/16", "10.199.0.0/24"]
SHOWN = """\
0:	from all lookup local
90:	from 10.200.0.0/16 iif lo goto 93
90:	from 10.199.0.0/24 iif lo goto 93
91:	from 10.200.0.0/16 fwmark 0x20000000/0x20000000 goto 93
91:	from 10.199.0.0/24 fwmark 0x20000000/0x20000000 goto 93
92:	from 10.200.0.0/16 prohibit
92:	from 10.199.0.0/24 prohibit
93:	from all nop
5210:	from all fwmark 0x80000/0xff0000 lookup main
32766:	from all lookup main
"""


class Host:
    """ip(8) on a host that shows these rules."""

    def __init__(self, shown: str, error: str = "", heeds: str = "1") -> None:
        self.shown, self.error, self.heeds = shown, error, heeds
        self.done: list[str] = []

    def run(self, command: list[str], text: str) -> str:
        if command == iprules.SHOW:
            return self.shown
        if command == ["sysctl", "-n", iprules.HEED]:
            return f"{self.heeds}\n"
        self.done.append(" ".join(command))
        if self.error:
            raise HostError(f"{' '.join(command)}: {self.error}")
        return ""


def test_what_is_right_is_left_alone() -> None:
    host = Host(SHOWN)
    assert iprules.ensure(SOURCES, host.run) is False and host.done == []
    assert iprules.missing(SOURCES, host.run) == []


def test_on_a_fresh_host_the_one_that_closes_comes_last() -> None:
    host = Host("0:	from all lookup local\n32766:	from all lookup main\n")
    assert iprules.ensure(SOURCES[:1], host.run)
    assert host.done == [
        "ip -4 rule add pref 93 nop",
        "ip -4 rule add pref 90 from 10.200.0.0/16 iif lo goto 93",
        "ip -4 rule add pref 91 from 10.200.0.0/16 fwmark 0x20000000/0x20000000 goto 93",
        "ip -4 rule add pref 92 from 10.200.0.0/16 prohibit",
    ]
    assert len(iprules.missing(SOURCES[:1], host.run)) == 4


def test_what_another_setting_has_left_goes_and_others_stay() -> None:
    host = Host(SHOWN)
    assert iprules.ensure(SOURCES[:1], host.run)
    assert host.done == [
        "ip -4 rule del pref 90 from 10.199.0.0/24 iif lo goto 93",
        "ip -4 rule del pref 91 from 10.199.0.0/24 fwmark 0x20000000/0x20000000 goto 93",
        "ip -4 rule del pref 92 from 10.199.0.0/24 prohibit",
    ]


@pytest.mark.parametrize("before", ["", SHOWN])
def test_who_comes_second_finds_it_done(before: str) -> None:
    """Whatever the words of ip(8) are: they differ between its releases."""
    after = SHOWN if not before else "\n".join(line for line in SHOWN.splitlines() if "10.199" not in line)

    class Raced(Host):
        def run(self, command: list[str], text: str) -> str:
            if self.done:
                self.shown = after
            return super().run(command, text)

    sources = SOURCES if not before else SOURCES[:1]
    assert iprules.ensure(sources, Raced(before, "Error: somebody was faster").run)


def test_answers_must_find_their_way_back() -> None:
    host = Host(SHOWN, heeds="0")
    assert iprules.missing(SOURCES, host.run) == ["net.ipv4.conf.all.src_valid_mark is not 1"]
    assert iprules.ensure(SOURCES, host.run)
    assert host.done == ["nsenter --target 1 --mount sysctl -q -w net.ipv4.conf.all.src_valid_mark=1"]


def test_a_host_that_refuses() -> None:
    with pytest.raises(HostError, match="Operation not permitted"):
        iprules.ensure(SOURCES, Host("", "RTNETLINK answers: Operation not permitted").run)
