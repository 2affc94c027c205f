"""The mark of the storage, made by a deploy's commands on hosts that have mounted it by NFS."""

from __future__ import annotations

import re
from shlex import quote

from deploys.shared import MARKER, command, missing
from tests.nfs.machine import ANSWER_S, Host

ROUNDS = 20


def test_where_nothing_is_mounted_nothing_is_marked(a: Host) -> None:
    empty = f"{a.storage}-empty"
    assert a.run(missing(empty)) == "missing"
    done = a.do("run", command(empty), 60)
    assert done["code"] == 1 and f"{empty}: nothing is mounted there" in done["err"]
    assert a.run(f"ls -A {empty}") == ""


def test_of_two_hosts_that_come_at_once_one_makes_the_mark(a: Host, b: Host, server: Host) -> None:
    """Also when their shells have the same process number."""
    seen = set()
    for _ in range(ROUNDS):
        server.run(f"rm -f /export/{MARKER}")
        assert a.run(missing(a.storage)) == b.run(missing(b.storage)) == "missing"
        at = a.soon()
        made = [
            host.begin(
                "run", f"unshare --pid --fork sh -c {quote(f'{command(host.storage)}; s=$?; exit $s')}", 60, at=at
            )
            for host in (a, b)
        ]
        assert [one.result(ANSWER_S)["code"] for one in made] == [0, 0], [one.result() for one in made]
        mark = a.store("identity")
        assert re.fullmatch("[0-9a-f]{32}", mark) and b.store("identity") == mark
        assert a.run(missing(a.storage)) == b.run(missing(b.storage)) == ""
        assert server.run(f"ls -A /export | grep {MARKER}") == MARKER, "nothing else is left"
        seen.add(mark)
    assert len(seen) == ROUNDS


def test_a_mark_that_is_there_stays(a: Host, b: Host) -> None:
    before = a.store("identity")
    assert a.run(missing(a.storage)) == ""
    b.run(command(b.storage))
    assert a.store("identity") == b.store("identity") == before
