"""Records of volumes on NFS: one winner, nothing old read, and locks that exclude and end with who held them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from sandboxd.errors import Conflict, HostError
from sandboxd.sharedstore import IMAGE, LOCK, OWNER, TakenOver
from tests.nfs.machine import ANSWER_S, LEASE_S, Host, Machine, eventually

ROUNDS = 50
FREE = {"node": "", "slot": "", "generation": 0}


def owner(node: str, slot: str, generation: int) -> dict[str, Any]:
    return {"node": node, "slot": slot, "generation": generation}


def state(slot: str) -> str:
    return json.dumps({"slot": slot})


def test_on_what_this_was_seen(machine: Machine, server: Host, a: Host, record_property: Callable[..., None]) -> None:
    """Two clients of one server, by NFSv4.2, mounted `hard` and with locks that are the server's."""
    options = a.run(f"findmnt --noheadings --output OPTIONS {a.storage}").split(",")
    assert {"vers=4.2", "hard"} <= set(options) and "local_lock=none" in options
    clients = server.run("cat /proc/fs/nfsd/clients/*/info")
    assert clients.count("minor version: 2") == 2 and "Linux NFSv4.2 a/a" in clients and "Linux NFSv4.2 b/b" in clients
    kernel, tools = server.run("uname -r"), server.run("dpkg-query --show nfs-kernel-server").split()[-1]
    seen = f"kernel {kernel}, nfs-kernel-server {tools}, mounted {','.join(options)}"
    record_property("nfs", f"{seen}; booted with {machine.accelerator} in {machine.booted_s:.0f} s")


def together(a: Host, b: Host, method: str, *arguments: Any, other: tuple[Any, ...] | None = None) -> list[Any]:
    """What each says who is asked in the same moment: a value, or an exception."""
    at = a.soon()
    asked: list[Future[Any]] = [
        a.begin("store", 15, method, *arguments, at=at),
        b.begin("store", 15, *(other or (method, *arguments)), at=at),
    ]
    return [one.exception(ANSWER_S) or one.result() for one in asked]


def test_of_two_who_take_it_at_once_one_gets_it(a: Host, b: Host, volume: str) -> None:
    for number in range(1, ROUNDS + 1):
        slots = {"a": f"{number}-a", "b": f"{number}-b"}
        said = together(a, b, "take", volume, slots["a"], other=("take", volume, slots["b"]))
        won = [name for name, value in zip("ab", said, strict=True) if value == number]
        lost = [value for value in said if isinstance(value, Conflict)]
        assert len(won) == len(lost) == 1, (number, said)
        assert f"in use on node {won[0]}" in str(lost[0])
        winner, loser = (a, b) if won == ["a"] else (b, a)
        assert loser.store("owner", volume) == owner(won[0], slots[won[0]], number)
        winner.store("check", volume, slots[won[0]], number)
        winner.store("give_back", volume, slots[won[0]], number)
        assert loser.store("owner", volume) == owner("", "", number)


def test_of_two_who_take_it_over_at_once_one_gets_it(a: Host, b: Host, server: Host, volume: str) -> None:
    """From a third host that is off."""
    a.store("take", volume, "1")
    a.store("give_back", volume, "1", 1)
    for number in range(2, ROUNDS, 2):
        record = json.dumps(owner("c", "3", number))
        server.run(f"echo '{record}' >/export/{volume}/new && mv /export/{volume}/new /export/{volume}/{OWNER}")
        said = together(a, b, "take_over", volume, "1", "c")
        won = [name for name, value in zip("ab", said, strict=True) if value == number + 1]
        assert len(won) == 1 and [isinstance(value, Conflict) for value in said].count(True) == 1, (number, said)
        assert a.store("owner", volume) == b.store("owner", volume) == owner(won[0], "1", number + 1)


def test_what_one_writes_the_other_reads_at_once(a: Host, b: Host, server: Host, volume: str) -> None:
    """Also what was not there, or was there, when it was asked for before: nothing is answered from what was kept."""
    assert not b.store("has", volume) and b.store("owner", volume) == FREE and volume not in b.store("names")
    assert b.store("state", volume) == "" and b.store("size_mb", volume) is None
    assert a.store("take", volume, "1") == 1
    assert b.store("has", volume) and b.store("owner", volume) == owner("a", "1", 1) and volume in b.store("names")
    assert b.store("state", volume) == "" and b.store("size_mb", volume) is None
    a.run(f"truncate --size 3M {a.storage}/{volume}/{IMAGE}")
    assert b.store("size_mb", volume) == 3
    a.run(f"truncate --size 5M {a.storage}/{volume}/{IMAGE}")
    assert b.store("size_mb", volume) == 5
    for number in range(20):
        a.store("keep_state", volume, "1", 1, state("1") + " " * number)
        assert b.store("state", volume) == state("1") + " " * number
        a.store("keep_state", volume, "1", 1, "")
        assert b.store("state", volume) == ""
    a.store("give_back", volume, "1", 1)
    assert b.store("owner", volume) == owner("", "", 1)
    a.store("remove", volume)
    assert not b.store("has", volume) and volume not in b.store("names") and b.store("size_mb", volume) is None
    assert b.store("take", volume, "2") == 1, "made anew, where the other had one"
    assert a.store("owner", volume) == owner("b", "2", 1)
    b.store("give_back", volume, "2", 1)


def test_what_a_sandbox_is_made_anew_from_is_found_by_who_has_looked_before(a: Host, b: Host, volume: str) -> None:
    """Its host wrote it a moment ago, and is off now."""
    a.store("take", volume, "1")
    assert b.store("state", volume) == ""
    a.store("keep_state", volume, "1", 1, state("1"))
    assert b.store("take_over", volume, "2", "a") == 2 and b.store("state", volume) == state("1")
    with pytest.raises(Conflict, match="is not node c's, but node b's"):
        a.store("take_over", volume, "3", "c")
    b.store("give_back", volume, "2", 2)
    with pytest.raises(Conflict, match="waits for its sandbox"):
        a.store("take", volume, "3")


def test_after_a_take_over_the_old_owner_is_told(a: Host, b: Host, volume: str) -> None:
    a.store("take", volume, "1")
    a.store("keep_state", volume, "1", 1, state("1"))
    a.store("check", volume, "1", 1)
    assert b.store("take_over", volume, "2", "a") == 2
    with pytest.raises(TakenOver, match=r"taken over by node b \(number 2, not 1\)"):
        a.store("check", volume, "1", 1)
    with pytest.raises(TakenOver):
        a.store("keep_state", volume, "1", 1, state("1") + " ")
    a.store("give_back", volume, "1", 1)
    assert b.store("owner", volume) == a.store("owner", volume) == owner("b", "2", 2)
    assert b.store("state", volume) == state("1")


def test_of_one_who_removes_it_and_one_who_takes_it_both_are_right(a: Host, b: Host, volume: str) -> None:
    for number in range(ROUNDS):
        slot = str(number)
        generation = a.store("take", volume, slot)
        a.store("give_back", volume, slot, generation)
        removed, taken = together(a, b, "remove", volume, other=("take", volume, slot))
        assert isinstance(taken, int), (number, taken)
        if removed is None:
            assert taken == 1, "it was made anew"
        else:
            assert isinstance(removed, Conflict) and taken == generation + 1, (number, removed, taken)
        assert a.store("owner", volume) == owner("b", slot, taken)
        b.store("give_back", volume, slot, taken)


def delegated(server: Host, volume: str) -> list[str]:
    """The files of a volume that the server has delegated to a host."""
    states = server.run("cat /proc/fs/nfsd/clients/*/states")
    found = re.findall(r"type: deleg\b.*filename: \"[^\"]*\b" + volume + r"/([^\"]+)", states)
    return sorted(set(found))


def test_none_of_the_records_is_delegated_to_a_host(a: Host, b: Host, server: Host, volume: str) -> None:
    """Or else the next one would wait for that host, if it is lost, until its lease ends."""
    a.store("take", volume, "1")
    a.store("keep_state", volume, "1", 1, state("1"))
    a.run(f"truncate --size 3M {a.storage}/{volume}/{IMAGE}; echo >{a.storage}/{volume}/other")
    for host in (a, b):
        assert host.store("owner", volume) == owner("a", "1", 1)
        assert host.store("state", volume) == state("1") and host.store("size_mb", volume) == 3
        assert host.store("identity") and volume in host.store("names")
    assert delegated(server, volume) == []
    a.run(f"cat {a.storage}/{volume}/other")
    assert delegated(server, volume) == ["other"], "this server delegates what is asked for"
    assert b.store("take_over", volume, "2", "a") == 2
    assert delegated(server, volume) == ["other"]


def test_what_a_lost_host_was_delegated_is_waited_for_until_its_lease_ends(
    a: Host, b: Host, server: Host, volume: str
) -> None:
    """Somebody on that host has read the file of the lock. Who asks meanwhile is told, and gets nothing behind its
    back."""
    a.store("take", volume, "1")
    a.run(f"cat {a.storage}/{volume}/{LOCK}")
    assert delegated(server, volume) == [LOCK]
    server.run("ip link set to-a down")
    try:
        with pytest.raises(HostError, match=f"{volume} does not answer, though its server does"):
            b.store("take_over", volume, "2", "a", wait_s=2)
        assert b.store("owner", volume) == owner("a", "1", 1)
        assert eventually(lambda: b.store("take_over", volume, "3", "a"), HostError) == 2
    finally:
        server.run("ip link set to-a up")
    with pytest.raises(TakenOver, match="taken over by node b"):
        eventually(lambda: a.store("check", volume, "1", 1), HostError)
    assert b.store("owner", volume) == owner("b", "3", 2)


def test_a_lock_of_one_host_excludes_the_other(a: Host, b: Host, volume: str) -> None:
    a.store("take", volume, "1")
    process = b.do("hold", f"{b.storage}/{volume}/{LOCK}")
    assert a.do("run", f"flock --nonblock {a.storage}/{volume}/{LOCK} true", 60)["code"] == 1
    with pytest.raises(HostError, match=r"another host holds it for 10 s already. Try again in a minute"):
        a.store("give_back", volume, "1", 1)
    assert b.store("owner", volume) == owner("a", "1", 1), "who only reads needs no lock"
    b.run(f"kill -KILL {process}")
    eventually(lambda: a.store("give_back", volume, "1", 1), HostError)
    assert b.store("owner", volume) == owner("", "", 1)


def test_a_host_that_died_with_the_lock_has_it_until_its_lease_ends(
    a: Host, b: Host, server: Host, volume: str
) -> None:
    a.store("take", volume, "1")
    process = a.do("hold", f"{a.storage}/{volume}/{LOCK}")
    server.run("ip link set to-a down")
    try:
        assert server.run("cat /proc/fs/nfsd/nfsv4leasetime") == str(LEASE_S)
        with pytest.raises(HostError, match="another host holds it for 10 s already"):
            b.store("take_over", volume, "2", "a")
        assert eventually(lambda: b.store("take_over", volume, "2", "a"), HostError) == 2
        with pytest.raises(HostError, match="does not answer"):
            a.store("check", volume, "1", 1, wait_s=2)
    finally:
        server.run("ip link set to-a up")
    with pytest.raises(TakenOver, match="taken over by node b"):
        eventually(lambda: a.store("check", volume, "1", 1), HostError)
    a.run(f"kill -KILL {process}")
    assert b.store("owner", volume) == owner("b", "2", 2)
