"""Hosts as members: what is said of them, and cordon, drain and activate."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from fleet.config import Host
from fleet.index import Index
from fleet.leases import Member
from fleet.membership import Membership
from fleet.nodes import Node, Nodes
from tests.unit.fleet.fleets import WHOLE, Fleet, running
from tests.unit.fleet.memory_leases import MemoryLeases
from tests.unit.sandboxd.conftest import member, until


def rows(fleet: Fleet) -> dict[str, dict[str, Any]]:
    answer = fleet.unix.get("/nodes")
    assert answer.status_code == 200, answer.text
    return {row["name"]: row for row in answer.json()}


def act(fleet: Fleet, name: str, action: str, **body: Any) -> dict[str, Any]:
    answer = fleet.unix.post(f"/nodes/{name}/{action}", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_rows(patient: Fleet) -> None:
    patient.create()
    patient.create(templateID="large")
    found = member(patient.nodes["b"].world)
    until(lambda: found in patient.services.index.contents["b"].warm, "the member is not known")
    both = rows(patient)
    assert list(both) == ["a", "b"] and [row["role"] for row in both.values()] == ["manager", "worker"]
    assert {row["state"] for row in both.values()} == {"ready"}
    assert sum(row["sandboxes"] for row in both.values()) == 2 and both["b"]["warm"] == 1 and both["a"]["warm"] == 0
    assert sum(row["memoryReservedMB"] for row in both.values()) == 2048 + 8192 + 2048
    assert sum(row["cpusReserved"] for row in both.values()) == 8.0
    assert both["a"] | {"memoryMB": 16384, "cpus": 16.0, "engine": "26.1.5", "lostSince": None} == both["a"]


def test_a_lost_host_is_a_row(fleet: Fleet) -> None:
    fleet.lose("b")
    row = rows(fleet)["b"]
    assert row["state"] == "lost" and row["lostSince"].endswith("Z") and row["engine"] is None


def test_a_cordoned_host_takes_nothing_and_keeps_what_it_has(patient: Fleet) -> None:
    world = patient.nodes["b"].world
    world.pool._settings.turn(True)
    member(world)
    for _ in range(2):
        patient.create(cold=True)
    row = act(patient, "b", "cordon")
    assert (row["state"], row["sandboxes"], row["warm"]) == ("cordoned", 1, 0)
    assert patient.leases.availability("b") == "pause" and world.ledger.rows("warm") == []
    for _ in range(3):
        patient.create()
    assert len(patient.nodes["b"].ids()) == 1 and len(patient.nodes["a"].ids()) == 4
    assert act(patient, "b", "activate")["state"] == "ready"
    assert world.pool.enabled and patient.leases.availability("b") == "active"
    patient.create()
    assert len(patient.nodes["b"].ids()) == 2


def test_a_pool_that_is_turned_on_at_a_cordoned_host_goes_off_again(patient: Fleet) -> None:
    act(patient, "b", "cordon")
    patient.unix.post("/pool", json={"enabled": True}).raise_for_status()
    until(lambda: not patient.nodes["b"].world.pool.enabled, "its pool stays on")
    assert patient.nodes["a"].world.pool.enabled


def test_drain_waits_for_the_sandboxes(patient: Fleet) -> None:
    found = [patient.create()["sandboxID"] for _ in range(2)]
    (there,) = (one for one in found if patient.where(one).name == "b")
    assert act(patient, "b", "drain")["state"] == "draining" and patient.leases.availability("b") == "pause"
    assert rows(patient)["b"]["state"] == "draining"
    patient.unix.delete(f"/sandboxes/{there}").raise_for_status()
    until(lambda: patient.leases.availability("b") == "drain", "it is empty, and not drained")
    until(lambda: rows(patient)["b"]["state"] == "drained", "it is not said")
    assert act(patient, "b", "drain")["state"] == "drained"
    assert act(patient, "b", "activate")["state"] == "ready"


def test_drain_now_ends_them(patient: Fleet) -> None:
    for _ in range(6):
        patient.create()
    assert act(patient, "b", "drain", now=True)["state"] == "drained"
    assert patient.nodes["b"].ids() == set() and len(patient.nodes["a"].ids()) == 3
    assert len(patient.unix.get("/v2/sandboxes").json()) == 3


def test_drain_is_taken_back(patient: Fleet) -> None:
    for _ in range(2):
        patient.create()
    act(patient, "b", "drain")
    assert act(patient, "b", "activate")["state"] == "ready"
    (found,) = patient.nodes["b"].ids()
    patient.unix.delete(f"/sandboxes/{found}").raise_for_status()
    patient.create()
    assert patient.leases.availability("b") == "active"


def test_a_drain_that_another_manager_takes_back_is_over(patient: Fleet) -> None:
    for _ in range(2):
        patient.create()
    act(patient, "b", "drain")
    with patient.beside() as other:
        other.unix.post("/nodes/b/activate", json={}).raise_for_status()
    until(lambda: rows(patient)["b"]["state"] == "ready", "it is emptied all the same")
    (found,) = patient.nodes["b"].ids()
    patient.unix.delete(f"/sandboxes/{found}").raise_for_status()
    index = patient.services.index
    seen = index.contents["b"].at
    until(lambda: index.contents["b"].at > seen + 20, "it is not read")
    assert patient.leases.availability("b") == "active"


def test_a_host_that_was_away_gets_its_pools_back(fleet: Fleet) -> None:
    act(fleet, "b", "cordon")
    fleet.lose("b")
    assert act(fleet, "b", "activate")["state"] == "lost"
    assert not fleet.nodes["b"].world.pool.enabled and (fleet.directory / "pools-on").read_text() == "b\n"
    fleet.find_again("b")
    until(lambda: fleet.nodes["b"].world.pool.enabled, "its pools stay off")
    act(fleet, "b", "cordon")
    assert not fleet.nodes["b"].world.pool.enabled


def hanging(fleet: Fleet, name: str) -> tuple[threading.Event, threading.Event]:
    """When that host has been asked to turn its pools on or off; and it does so once this one is set."""
    gate, asked, answer = fleet.nodes[name].gate, threading.Event(), threading.Event()
    before = gate.app

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if (scope["method"], scope["path"]) == ("POST", "/pool"):
            asked.set()
            while not answer.is_set():
                await asyncio.sleep(0.01)
        await before(scope, receive, send)

    gate.app = slow
    return asked, answer


def test_a_pool_that_takes_its_time_to_go_off_costs_no_other_one() -> None:
    """Meanwhile another manager lets the next host take new sandboxes again."""
    with running("abc", lost_s=60) as fleet:
        asked, answer = hanging(fleet, "b")
        for name in "bc":
            fleet.leases.make_available(name, "pause")
        until(lambda: {fleet.services.members.availability(name) for name in "bc"} == {"pause"}, "it is not heard of")
        fleet.nodes["b"].world.pool._settings.turn(True)
        assert asked.wait(15)
        fleet.nodes["c"].world.pool._settings.turn(True)
        until(lambda: fleet.services.index.contents["c"].pools, "the pool of c is not seen")
        fleet.leases.make_available("c", "active")
        answer.set()
        until(lambda: not fleet.nodes["b"].world.pool.enabled, "the pool of b stays on")
        until(lambda: fleet.services.members.availability("c") == "active", "it is not heard of")
        assert fleet.nodes["c"].world.pool.enabled


def test_a_host_that_hangs_holds_up_no_other() -> None:
    with running("abc", lost_s=60) as fleet:
        asked, answer = hanging(fleet, "b")
        pools = {name: fleet.nodes[name].world.pool for name in "bc"}
        fleet.leases.make_available("b", "pause")
        pools["b"]._settings.turn(True)
        assert asked.wait(15)  # by the service, which does not come to c now
        fleet.leases.make_available("c", "pause")
        pools["c"]._settings.turn(True)

        async def look() -> None:
            nodes, members = await beside(fleet)
            work = asyncio.create_task(members.tick())
            async with asyncio.timeout(15):
                while pools["c"].enabled:
                    await asyncio.sleep(0.01)
            assert pools["b"].enabled
            answer.set()
            await work
            for node in nodes.values():
                await node.close()

        asyncio.run(look())


async def beside(fleet: Fleet) -> tuple[Nodes, Membership]:
    """The members as another service would see them, which does nothing by itself."""
    hosts = fleet.config.nodes.items()
    nodes = Nodes({name: Node(host, fleet.config.domain, 60.0) for name, host in hosts}, "a")
    index = Index(nodes, WHOLE)
    members = Membership(nodes, index, fleet.leases)
    await index.read_all()
    await members.read()
    return nodes, members


def test_a_manager_whose_engine_is_silent_turns_no_pool_off(patient: Fleet) -> None:
    """Another one may have activated the host since."""
    pool = patient.nodes["b"].world.pool

    async def look() -> bool:
        nodes, members = await beside(patient)
        assert members.availability("b") == "pause"
        act(patient, "b", "activate")
        await members._index.read_all()
        patient.leases.leader = False
        await members.read()
        await members.tick()
        for node in nodes.values():
            await node.close()
        return pool.enabled

    act(patient, "b", "cordon")
    assert asyncio.run(look()), "it was turned off"


def test_pools_that_are_to_be_on_again_are_so_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host was silent when it was activated, and the service ended before it answered."""
    leases = MemoryLeases({"a": "manager", "b": "worker"})
    heard: list[tuple[str, bool]] = []

    async def turn(_: Membership, node: Node, on: bool) -> bool:
        heard.append((node.name, on))
        return True

    def members() -> Membership:
        hosts = [Host(name, "worker", "10.0.0.1", Path("/none")) for name in "ab"]
        nodes = Nodes({host.name: Node(host, "example.com") for host in hosts}, "a")
        return Membership(nodes, Index(nodes, WHOLE), leases, tmp_path / "pools-on")

    async def look() -> None:
        later = members()
        for _ in range(2):
            await later.read()
            await later.tick()

    asyncio.run(members().activate("b"))
    monkeypatch.setattr(Membership, "_turn", turn)
    asyncio.run(look())
    assert heard == [("b", True)]
    asyncio.run(look())
    assert heard == [("b", True)], "it is done"


def test_the_older_of_two_answers_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The regular look had its answer before a host was cordoned, and brings it when that is known already."""
    leases = MemoryLeases({"a": "manager", "b": "worker"})
    told, held, go = leases.members, threading.Event(), threading.Event()

    def slow() -> list[Member]:
        found = told()
        if not held.is_set():
            held.set()
            assert go.wait(30)
        return found

    async def look() -> str:
        hosts = [Host(name, "worker", "10.0.0.1", Path("/none")) for name in "ab"]
        nodes = Nodes({host.name: Node(host, "example.com") for host in hosts}, "a")
        members = Membership(nodes, Index(nodes, WHOLE), leases)
        older = asyncio.create_task(members.read())
        assert await asyncio.to_thread(held.wait, 30)
        leases.make_available("b", "pause")
        await members.read()
        go.set()
        await older
        return members.availability("b")

    monkeypatch.setattr(leases, "members", slow)
    assert asyncio.run(look()) == "pause"


def test_refusals(patient: Fleet) -> None:
    answer = patient.unix.post("/nodes/c/cordon", json={})
    assert answer.status_code == 404 and "This fleet has: a, b" in answer.json()["message"]
    assert patient.unix.post("/nodes/a/remove", json={}).status_code == 400
    assert patient.unix.post("/nodes/a/drain", json={"now": "yes"}).status_code == 400
    patient.leases.leader = False
    answer = patient.unix.post("/nodes/a/cordon", json={})
    assert answer.status_code == 503 and "leader" in answer.json()["message"]
    assert rows(patient)["a"]["state"] == "ready"  # as it was known last
