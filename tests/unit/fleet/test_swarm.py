"""Leases as services of Swarm: the contract, against the double, and what only the double can be brought to do."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fleet import engine
from fleet import swarm as swarm_module
from fleet.errors import NoLeader, NoRoom, Stale
from fleet.swarm import Swarm
from tests.unit.fleet.contract import LABELS, Contract, until
from tests.unit.fleet.fake_swarm import FakeSwarm


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a real engine takes seconds for is given less here, but for a machine that is slow itself."""
    monkeypatch.setattr(swarm_module, "PLACE_S", 0.5)


class TestContract(Contract):
    pass


def test_the_tasks_of_a_lease_stay_when_it_is_labelled(swarm: FakeSwarm, leases: Swarm) -> None:
    made = leases.place("sb-a", 64, 0.5, LABELS)
    before = swarm.task_ids("sb-a")
    leases.label(made, {"sandbox.state": "running"})
    assert swarm.task_ids("sb-a") == before


def test_leases_are_spread_and_counted(swarm: FakeSwarm, leases: Swarm) -> None:
    """Three hosts of 4, 4 and 8 GB: eight of 2 GB fit, and the ninth does not."""
    placed = [leases.place(f"sb-{number}", 2048, 0.5, {}).node for number in range(8)]
    assert sorted(placed) == ["a", "a", "b", "b", "c", "c", "c", "c"] and set(placed[:3]) == {"a", "b", "c"}
    with pytest.raises(NoRoom):
        leases.place("sb-9", 2048, 0.5, {})


def test_room_that_is_free_in_a_moment_is_waited_for(
    swarm: FakeSwarm, leases: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swarm_module, "PLACE_S", 30)
    made = leases.place("sb-a", 8192, 1, {})
    swarm.lingers_s = 0.3
    leases.remove(made.id)
    assert leases.place("sb-b", 8192, 1, {}).node == "c"


def test_leases_of_others_are_not_ours(swarm: FakeSwarm, leases: Swarm) -> None:
    leases.place("sb-a", 64, 0.5, {})
    others = Swarm(swarm.path, "acme-lease:1", "other")
    others.place("sb-b", 64, 0.5, {})
    assert [one.name for one in leases.all()] == ["sb-a"] and [one.name for one in others.all()] == ["sb-b"]
    assert others.all()[0].labels == {"sandbox.project": "other"}


def test_what_nobody_assigns_is_no_refusal_and_is_removed(swarm: FakeSwarm, leases: Swarm) -> None:
    swarm.assigns_after_s = None
    with pytest.raises(NoLeader, match=r"Swarm has not placed sb-a \(64 MB, 0.5 CPUs\) within 0.5 s"):
        leases.place("sb-a", 64, 0.5, {})
    assert swarm.services == {}


def test_a_machine_that_stands_still_is_no_refusal(
    swarm: FakeSwarm, leases: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was seen before its time was over says nothing of what is when it is over."""
    asked, looks = leases._tasks, list[str]()

    def standing_still(service: str) -> Any:
        found = asked(service)
        looks.append(service)
        if len(looks) == 1:
            for task in list(swarm.tasks.values()):
                task["due"] = 0.0
            monkeypatch.setattr(swarm_module, "time", Later())
        return found

    swarm.assigns_after_s = None
    monkeypatch.setattr(leases, "_tasks", standing_still)
    assert leases.place("sb-a", 64, 0.5, {}).node and len(looks) == 2


class Later:
    """Time, an hour later."""

    def monotonic(self) -> float:
        return time.monotonic() + 3600

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def test_an_interrupted_place_is_waited_for(swarm: FakeSwarm, leases: Swarm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its service is there, and its task has no node yet."""
    monkeypatch.setattr(swarm_module, "PLACE_S", 30)
    swarm.assigns_after_s = None
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(leases.place, "sb-a", 64, 0.5, LABELS)
        until("the service is there", lambda: bool(swarm.services))
        second = pool.submit(leases.place, "sb-a", 64, 0.5, LABELS)
        until("it is found", lambda: ("GET", "/v1.45/services/sb-a") in swarm.asked)
        for task in list(swarm.tasks.values()):
            task["due"] = 0.0
        assert first.result() == second.result()
    assert len(swarm.services) == 1


def test_a_lease_on_another_node_is_made_anew_where_it_is_wanted(swarm: FakeSwarm, leases: Swarm) -> None:
    before = leases.place("sb-a", 64, 0.5, {}, node="a")
    after = leases.place("sb-a", 64, 0.5, {}, node="b")
    assert after.id != before.id and [one.node for one in leases.all()] == ["b"]


def test_a_lease_that_has_ended_keeps_its_node_and_says_why(swarm: FakeSwarm, leases: Swarm) -> None:
    made = leases.place("sb-a", 64, 0.5, LABELS)
    node = next(one.id for one in leases.members() if one.name == made.node)
    swarm.end_tasks(node)
    (ended,) = leases.all()
    assert (ended.id, ended.node, ended.ended) == (made.id, made.node, "failed: task: non-zero exit (137)")
    assert ended.labels == made.labels


def test_a_lease_on_a_host_that_is_lost_keeps_its_node(swarm: FakeSwarm, leases: Swarm) -> None:
    made = leases.place("sb-a", 64, 0.5, LABELS, node="b")
    node = next(one.id for one in leases.members() if one.name == "b")
    swarm.lose(node)
    (lost,) = leases.all()
    assert (lost.node, lost.ended, lost.labels) == ("b", "Swarm has given it up (shutdown)", made.labels)
    assert {one.name: one.state for one in leases.members()} == {"a": "ready", "b": "down", "c": "ready"}
    swarm.find_again(node)
    assert leases.all()[0].ended == "shutdown: shutdown"


def test_a_host_that_has_joined_anew(swarm: FakeSwarm, leases: Swarm) -> None:
    swarm.lose(next(one.id for one in leases.members() if one.name == "b"))
    again = swarm.join("b")
    assert [(one.name, one.state) for one in leases.members() if one.name == "b"] == [("b", "down"), ("b", "ready")]
    assert leases.place("sb-a", 64, 0.5, {}, node="b").node == "b"
    leases.make_available("b", "pause")
    assert swarm.nodes[again]["Spec"]["Availability"] == "pause"


def test_hosts_are_remembered_until_one_is_not_known(swarm: FakeSwarm, leases: Swarm) -> None:
    def looks() -> int:
        return swarm.asked.count(("GET", "/v1.45/nodes"))

    leases.members()
    made = leases.place("sb-a", 64, 0.5, LABELS, node="b")
    leases.label(made, {})
    assert leases.all()[0].node == "b" and looks() == 1
    swarm.join("d")
    assert leases.place("sb-b", 64, 0.5, {}, node="d").node == "d" and looks() == 2
    other = Swarm(swarm.path, "acme-lease:1", "acme")
    assert [one.node for one in other.all()] == ["b", "d"] and looks() == 3


def test_of_one_sandbox_only_its_leases_are_asked_for(
    swarm: FakeSwarm, leases: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        leases.place(f"sb-{number}", 64, 0.5, {"sandbox.id": f"id-{number}"})
    answer, given = swarm.answer, list[Any]()

    def watched(*asked: Any) -> Any:
        given.append(answer(*asked))
        return given[-1]

    monkeypatch.setattr(swarm, "answer", watched)
    assert [one.name for one in leases.of("id-1")] == ["sb-1"]
    assert [len(rows) for rows in given] == [1, 1], "its service, and its task"


def test_many_threads_have_a_connection_each(swarm: FakeSwarm, leases: Swarm, caplog: pytest.LogCaptureFixture) -> None:
    """docker-py keeps ten for each path, drops what is more, and says so."""
    begin = threading.Barrier(40)

    def look(_: int) -> int:
        begin.wait()
        return sum(len(leases.members()) for _ in range(3))

    with ThreadPoolExecutor(40) as several:
        assert list(several.map(look, range(40))) == [9] * 40
    assert "pool is full" not in caplog.text


def test_a_node_that_changes_by_itself_meanwhile(
    swarm: FakeSwarm, leases: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Swarm changes nodes, too. Once in between is nothing; always is said."""
    changes, update = iter([True, False]), swarm._update

    def after_a_change(found: dict[str, Any], version: int, spec: dict[str, Any]) -> dict[str, Any]:
        return update(swarm._touch(found) if next(changes, True) else found, version, spec)

    monkeypatch.setattr(swarm, "_update", after_a_change)
    leases.make_available("b", "pause")
    assert {one.name: one.availability for one in leases.members()}["b"] == "pause"
    with pytest.raises(Stale):
        leases.make_available("b", "active")


# --- No leader, no engine --------------------------------------------------------------------------------------------

CALLS: dict[str, Callable[[Swarm, Any], Any]] = {
    "place": lambda leases, made: leases.place("sb-b", 64, 0.5, {}),
    "label": lambda leases, made: leases.label(made, {}),
    "remove": lambda leases, made: leases.remove(made.id),
    "all": lambda leases, made: leases.all(),
    "of": lambda leases, made: leases.of(LABELS["sandbox.id"]),
    "members": lambda leases, made: leases.members(),
    "make_available": lambda leases, made: leases.make_available("b", "pause"),
}


@pytest.mark.parametrize("call", CALLS)
def test_without_a_leader(swarm: FakeSwarm, leases: Swarm, call: str) -> None:
    made = leases.place("sb-a", 64, 0.5, LABELS)
    swarm.leaderless = True
    with pytest.raises(NoLeader, match="have no leader"):
        CALLS[call](leases, made)
    swarm.leaderless = False
    assert [one.id for one in leases.all()] == [made.id], "nothing has become of it"
    CALLS[call](leases, leases.all()[0])


@pytest.mark.parametrize("call", CALLS)
def test_without_an_engine_and_after_its_restart(swarm: FakeSwarm, leases: Swarm, call: str) -> None:
    made = leases.place("sb-a", 64, 0.5, LABELS)
    swarm.stop()
    with pytest.raises(NoLeader, match=r"fleet engine of this host does not answer .*swarmd\.service"):
        CALLS[call](leases, made)
    swarm.start()
    CALLS[call](leases, made)


def test_an_engine_that_hangs(swarm: FakeSwarm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "TIMEOUT_S", 0.3)
    leases = Swarm(swarm.path, "acme-lease:1", "acme")
    swarm.hanging.set()
    with pytest.raises(NoLeader, match="does not answer"):  # it cannot even connect
        leases.members()
    swarm.hanging.clear()

    def wait(seconds: float) -> None:
        monkeypatch.setattr(engine, "TIMEOUT_S", seconds)
        leases._engine._connect().timeout = seconds

    wait(30)
    assert len(leases.members()) == 3
    wait(0.3)
    swarm.hanging.set()
    with pytest.raises(NoLeader, match=r"takes more than 0\.3 s: list nodes"):
        leases.members()
    swarm.hanging.clear()
    wait(30)
    assert len(leases.members()) == 3


def test_a_leader_that_is_lost_while_it_waits(swarm: FakeSwarm, leases: Swarm, monkeypatch: pytest.MonkeyPatch) -> None:
    """The service that was made stays, and the reconcile finds it."""
    monkeypatch.setattr(swarm_module, "PLACE_S", 30)
    swarm.assigns_after_s = None
    raised: list[BaseException] = []

    def place() -> None:
        try:
            leases.place("sb-a", 64, 0.5, {})
        except NoLeader as error:
            raised.append(error)

    thread = threading.Thread(target=place)
    thread.start()
    until("the service is there", lambda: bool(swarm.services))
    swarm.leaderless = True
    thread.join(30)
    assert "have no leader" in str(raised[0])
    swarm.leaderless = False
    assert [(one.name, one.node, one.ended) for one in leases.all()] == [("sb-a", "", "")]
