"""Whom Docker asks for names in a sandbox's stead."""

from pathlib import Path

import pytest

from sandboxd import resolver
from sandboxd.policy import UNRESTRICTED, Policy, parse

CLOSED = parse([], [], internet=False)
NAMED = parse(["pypi.org"], [], internet=False)


def write(root: Path, *servers: str, file: str = "etc/resolv.conf") -> None:
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"nameserver {one}\n" for one in servers)
    (root / file).write_text(f"# nameserver 1.1.1.1\nsearch example.com\n{lines}nameserver\noptions edns0\n")


def test_the_hosts_servers(tmp_path: Path) -> None:
    write(tmp_path, "192.0.2.53", "2001:db8::53", "fe80::1%eth0", "no-address")
    assert resolver.servers(tmp_path) == ["192.0.2.53", "2001:db8::53", "fe80::1%eth0"]


def test_behind_the_stub_are_others_as_docker_has_it(tmp_path: Path) -> None:
    write(tmp_path, "127.0.0.53")
    assert resolver.servers(tmp_path) == ["127.0.0.53"]
    write(tmp_path, "192.0.2.53", file="run/systemd/resolve/resolv.conf")
    assert resolver.servers(tmp_path) == ["192.0.2.53"]
    write(tmp_path, "127.0.0.53", "127.0.0.1")
    assert resolver.servers(tmp_path) == ["127.0.0.53", "127.0.0.1"]


def test_a_host_that_names_nobody_has_dockers_own(tmp_path: Path) -> None:
    assert resolver.servers(tmp_path) == ["8.8.8.8", "8.8.4.4"]


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (["192.0.2.53"], []),
        (["192.0.2.53", "2001:db8::53"], ["192.0.2.53"]),
        (["2001:db8::53"], []),
        (["127.0.0.1"], []),
        (["127.0.0.1", "192.0.2.53", "2001:db8::53"], []),  # the host's own may know what others do not
    ],
)
def test_a_sandbox_is_told_to_ask_those_that_it_can_ask_itself(found: list[str], told: list[str]) -> None:
    assert resolver.from_sandbox(found) == told


@pytest.mark.parametrize(
    ("policy", "found", "shut"),
    [
        (UNRESTRICTED, ["192.0.2.53"], False),
        (UNRESTRICTED, ["127.0.0.1"], False),
        (CLOSED, ["192.0.2.53"], True),
        (CLOSED, ["127.0.0.1"], True),
        (CLOSED, ["2001:db8::53"], True),
        (CLOSED, ["192.0.2.53", "2001:db8::53"], True),
        (parse(["192.0.2.53"], [], internet=False), ["192.0.2.53"], False),
        (parse(["192.0.2.53"], [], internet=False), ["198.51.100.53", "192.0.2.53"], False),
        (parse(["192.0.2.53"], [], internet=False), ["192.0.2.53", "2001:db8::53"], False),
        (parse(["192.0.2.53"], [], internet=False), ["192.0.2.53", "127.0.0.1"], True),
        (NAMED, ["192.0.2.53"], False),  # which answers in fact, see `wall`
        (NAMED, ["192.0.2.53", "127.0.0.1"], True),
        (NAMED, ["2001:db8::53"], True),
        (parse([], ["192.0.2.0/24"]), ["192.0.2.53"], True),
        (parse([], ["192.0.2.0/24"]), ["192.0.2.53", "198.51.100.53"], False),
        (parse([], ["192.0.2.0/24"]), ["192.0.2.53", "2001:db8::53"], True),
        (parse([], ["192.0.2.0/24"]), ["127.0.0.1"], False),
    ],
)
def test_names_are_shut_when_nobody_may_be_asked_or_the_host_would_ask(
    policy: Policy, found: list[str], shut: bool
) -> None:
    assert resolver.shut(policy, found) is shut


@pytest.mark.parametrize(
    ("found", "by_host"),
    [
        (["192.0.2.53", "2001:db8::53"], []),
        (["192.0.2.53", "127.0.0.1", "2001:db8::53"], ["127.0.0.1", "2001:db8::53"]),
        (["2001:db8::53"], ["2001:db8::53"]),
    ],
)
def test_whom_the_host_asks_in_a_sandboxs_stead(found: list[str], by_host: list[str]) -> None:
    assert resolver.asked_by_host(found) == by_host


def test_the_hosts_own_programs_ask_what_the_file_names(tmp_path: Path) -> None:
    write(tmp_path, "127.0.0.53", "fe80::1%eth0")
    write(tmp_path, "192.0.2.53", file="run/systemd/resolve/resolv.conf")
    assert resolver.asked_by_programs(tmp_path) == ("127.0.0.53",), "a packet rule takes no zone"
    write(tmp_path, "127.0.0.53")
    assert resolver.asked_by_programs(tmp_path) == ("127.0.0.53",) and resolver.servers(tmp_path) == ["192.0.2.53"]
