"""Where things are: what a reading changes, and what came to pass while it was under way."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fleet.config import Host
from fleet.index import Index
from fleet.nodes import Node, Nodes
from sandboxd.errors import Conflict
from tests.unit.fleet.fleets import WHOLE

START = "2026-11-27T12:00:00Z"


@pytest.fixture
def index() -> Index:
    hosts = [Host(name, "worker", "10.0.0.1", Path("/none")) for name in "ab"]
    return Index(Nodes({host.name: Node(host, "example.com") for host in hosts}, "a"), WHOLE)


def told(*ids: str, warm: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    row = {
        **{"templateID": "base", "state": "running", "owner": "ada", "unlimited": True, "memoryMB": 512, "cpus": 0.5},
        **{"startedAt": START, "endAt": START, "clientID": "local", "envdVersion": "0.6", "metadata": {}},
        **{"cpuCount": 1, "diskSizeMB": 0},
    }
    return {
        "sandboxes": [{**row, "sandboxID": one} for one in ids],
        "warm": [{"sandboxID": one, "templateID": "base", "memoryMB": 512, "cpus": 0.5} for one in warm],
        "pools": True,
        "volumes": [],
        "templates": [],
        "keys": {"version": 1, "fingerprint": "f"},
        **more,
    }


def now(index: Index) -> int:
    return next(index._clock)


def where(index: Index, prefix: str) -> str:
    node = index.find(prefix)
    return node.name if node else ""


def test_find(index: Index) -> None:
    index._take("a", told("abc1", "abd2"), now(index))
    index._take("b", told("abe3"), now(index))
    assert [where(index, one) for one in ("abc1", "abe3", "abe", "abe3-local", "x", "")] == ["a", "b", "b", "b", "", ""]
    with pytest.raises(Conflict, match=r"'ab' is ambiguous: abc1, abd2, abe3\. Give more characters"):
        index.find("ab")


def test_what_was_made_while_a_host_was_read_stays(index: Index) -> None:
    began = now(index)
    index.entered("b", "new1", "base", "ada", 512, 0.5)
    index._take("b", told("old1"), began)
    assert where(index, "new1") == "b" and index.count_of("ada") == 2
    index._take("b", told("old1", "new1"), now(index))
    assert index.contents["b"].made == {} and index.contents["b"].sandboxes["new1"] is not None
    index._take("b", told("old1"), now(index))
    assert where(index, "new1") == ""


def test_what_ended_while_a_host_was_read_does_not_come_back(index: Index) -> None:
    index._take("b", told("old1"), now(index))
    began = now(index)
    index.left("b", "old1")
    index._take("b", told("old1"), began)
    assert where(index, "old1") == "" and index.count_of("ada") == 0


def test_the_older_of_two_answers_changes_nothing(index: Index) -> None:
    first, second = now(index), now(index)
    index._take("b", told("new1", keys={"version": 2, "fingerprint": "g"}), second)
    index._take("b", told("old1"), first)
    assert (where(index, "new1"), where(index, "old1")) == ("b", "") and index.contents["b"].keys == (2, "g")


def test_a_member_that_is_claimed_is_warm_no_more(index: Index) -> None:
    index._take("b", told(warm=("new1",)), now(index))
    assert index.elsewhere() == {"new1": "b"} and index.count_of("ada") == 0
    began = now(index)
    index.entered("b", "new1", "base", "ada", 512, 0.5)
    index._take("b", told(warm=("new1",)), began)
    assert index.contents["b"].warm == {} and index.elsewhere() == {"new1": "b"}


def test_of_two_hosts_the_map_has_the_one_that_is_asked(index: Index) -> None:
    def both(generations: tuple[int, int]) -> tuple[dict[str, str], str]:
        for name, generation in zip("ab", generations, strict=True):
            row = {**told("kept")["sandboxes"][0], "generation": generation}
            index._take(name, told(sandboxes=[row]), now(index))
        return index.elsewhere(), where(index, "kept")

    assert both((1, 2)) == ({"kept": "b"}, "b") and both((2, 1)) == ({}, "a")
    index.nodes["a"].lost_since = 1.0
    assert both((2, 2)) == ({"kept": "b"}, "b") and both((3, 2)) == ({}, "a")


def test_the_map_is_made_of_one_look_at_each_sandbox() -> None:
    """Each create needs it: with a thousand hosts nobody can look for each sandbox on each of them."""
    names, looks = [f"n{number}" for number in range(50)], 0

    class Counted(dict[str, Any]):
        def __contains__(self, key: object) -> bool:
            nonlocal looks
            looks += 1
            return super().__contains__(key)

    hosts = {name: Host(name, "worker", "10.0.0.1", Path("/none")) for name in names}
    index = Index(Nodes({name: Node(host, "example.com") for name, host in hosts.items()}, "n0"), WHOLE)
    for name in names:
        index._take(name, told(f"{name}x", f"{name}y"), now(index))
        index.contents[name].sandboxes = Counted(index.contents[name].sandboxes)
    assert index.elsewhere() == {f"{name}{one}": name for name in names[1:] for one in "xy"}
    assert looks <= 4 * len(names)


def test_volumes_and_templates(index: Index) -> None:
    volumes = [{"name": "vol-1", "owner": "ada", "title": "data"}, {"name": "work", "owner": "", "title": ""}]
    templates = [{"name": "saved", "memoryMB": 512, "cpus": 0.5}]
    index._take("b", told(volumes=volumes, templates=templates), now(index))
    assert (index.volume("work"), index.volume("vol-1"), index.volume("none")) == ("b", "b", "")
    assert index.volumes_of("ada") == {"data": ("b", "vol-1")} and index.volumes_of("") == {}
    assert (index.template("saved"), index.size("saved"), index.size("none")) == ("b", (512, 0.5), None)


def test_the_reconcile_hears_nothing_of_a_lost_host(index: Index) -> None:
    index._take("a", told("abc1", warm=("abd2",)), now(index))
    held = index.held()
    assert held["b"] is None and [(one.id, one.state) for one in held["a"] or []] == [
        ("abc1", "running"),
        ("abd2", "warm"),
    ]
    index.nodes["a"].lost_since = 1.0
    assert index.held()["a"] is None


def test_a_round_that_fails_is_not_the_last(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[str] = []

    async def read(node: Node) -> bool:
        rounds.append(node.name)
        if len(rounds) < 3:
            raise RuntimeError("nobody thought of that")
        raise asyncio.CancelledError

    async def follow() -> None:
        node = index.nodes["b"]
        node.lost_s = 0.0
        with suppress(asyncio.CancelledError):
            await index.follow(node)

    monkeypatch.setattr(index, "read", read)
    asyncio.run(follow())
    assert rounds == ["b", "b", "b"]
