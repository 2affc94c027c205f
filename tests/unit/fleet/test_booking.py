"""Leases and what the hosts have, brought in step: every difference, both ways. Against the double of Swarm."""

import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import wait
from dataclasses import replace
from typing import Any

import pytest

from fleet import booking as booking_module
from fleet import swarm as swarm_module
from fleet.booking import AT_A_TIME, GRACE_S, SETTLE_S, Booking, Held
from fleet.errors import NoLeader, Stale
from fleet.leases import Lease
from fleet.swarm import Swarm
from tests.unit.fleet.fake_swarm import FakeSwarm

ONE = Held("4f1c0a9be2d7", "base", "running", "ci", "2027-01-15T08:00:00Z", 512, 0.5)
WARM = Held("7d2b11aa90cc", "base", "warm", "", "", 512, 0.5)


class Hosts:
    """What each host has; None for one that does not answer."""

    def __init__(self) -> None:
        self.have: dict[str, list[Held] | None] = {"a": [], "b": [], "c": []}

    def held(self) -> Mapping[str, Iterable[Held] | None]:
        return self.have


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swarm_module, "PLACE_S", 0.3)


@pytest.fixture
def hosts() -> Hosts:
    return Hosts()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def booking(leases: Swarm, hosts: Hosts, clock: Clock) -> Booking:
    return Booking(leases, hosts, clock)


def names(leases: Swarm) -> list[tuple[str, str]]:
    return [(one.name, one.node) for one in leases.all()]


def only(leases: Swarm) -> Lease:
    (found,) = leases.all()
    return found


# --- A sandbox without a lease ---------------------------------------------------------------------------------------


def test_a_warm_member_gets_a_lease_on_its_host_at_once(leases: Swarm, hosts: Hosts, booking: Booking) -> None:
    hosts.have["b"] = [WARM]
    booking.tick()
    found = only(leases)
    assert (found.name, found.node, found.ended) == ("sb-7d2b11aa90cc", "b", "")
    assert found.labels == {
        "sandbox.project": "acme",
        "sandbox.id": "7d2b11aa90cc",
        "sandbox.template": "base",
        "sandbox.state": "warm",
        "sandbox.owner": "",
        "sandbox.ends": "",
    }


def test_what_is_reserved_is_what_was_said(swarm: FakeSwarm, hosts: Hosts, booking: Booking) -> None:
    hosts.have["b"] = [replace(WARM, memory_mb=700, cpus=1.5)]
    booking.tick()
    template = swarm.service("sb-7d2b11aa90cc")["Spec"]["TaskTemplate"]
    assert template["Resources"]["Reservations"] == {"MemoryBytes": 700 * 1024 * 1024, "NanoCPUs": 1_500_000_000}


def test_a_sandbox_gets_a_lease_when_its_own_has_had_time_to_name_it(
    leases: Swarm, hosts: Hosts, clock: Clock, booking: Booking
) -> None:
    hosts.have["b"] = [ONE]
    booking.tick()
    clock.now += SETTLE_S - 0.1
    booking.tick()
    assert leases.all() == []
    clock.now += 0.1
    booking.tick()
    assert names(leases) == [("sb-4f1c0a9be2d7", "b")]
    version = only(leases).version
    booking.tick()
    assert only(leases).version == version, "nothing is left to do"


def test_a_lease_that_is_named_in_time_is_its_lease(
    leases: Swarm, hosts: Hosts, clock: Clock, booking: Booking
) -> None:
    """A cold create: a lease of any name, then the sandbox, then its id in the lease."""
    made = leases.place("sb-create-77", 512, 0.5, {}, node="b")
    booking.tick()
    hosts.have["b"] = [ONE]
    booking.tick()
    leases.label(made, {"sandbox.id": ONE.id})
    for _ in range(3):
        clock.now += GRACE_S
        booking.tick()
    assert (only(leases).id, only(leases).labels["sandbox.owner"]) == (made.id, "ci")


def test_a_lease_that_is_never_named_is_made_good(leases: Swarm, hosts: Hosts, clock: Clock, booking: Booking) -> None:
    """The fleet service died between the create and the label."""
    leases.place("sb-create-77", 512, 0.5, {}, node="b")
    hosts.have["b"] = [ONE]
    booking.tick()
    clock.now += SETTLE_S
    booking.tick()
    assert names(leases) == [("sb-4f1c0a9be2d7", "b"), ("sb-create-77", "b")]
    clock.now += GRACE_S - SETTLE_S
    booking.tick()
    assert names(leases) == [("sb-4f1c0a9be2d7", "b")]


@pytest.mark.parametrize("availability", ["pause", "drain"])
def test_a_host_that_takes_nothing_gets_no_lease(
    leases: Swarm, hosts: Hosts, booking: Booking, availability: str
) -> None:
    leases.make_available("b", availability)
    hosts.have.update(b=[WARM], stranger=[replace(WARM, id="000000000000")])
    booking.tick()
    assert leases.all() == []
    leases.make_available("b", "active")
    booking.tick()
    assert names(leases) == [("sb-7d2b11aa90cc", "b")]


def test_no_room_is_tried_again_after_a_while(
    swarm: FakeSwarm, leases: Swarm, hosts: Hosts, clock: Clock, booking: Booking, caplog: pytest.LogCaptureFixture
) -> None:
    """The sandbox is there all the same. Each refusal takes time: the host's others wait for the next pass."""
    filling = leases.place("sb-filling", 4096, 0.5, {}, node="b")
    members = [replace(WARM, id=f"{number:012}", memory_mb=64, cpus=0.1) for number in range(AT_A_TIME + 2)]
    hosts.have.update(b=members, c=[WARM])

    def tried() -> int:
        before = len([1 for asked in swarm.asked if asked[1].endswith("/create")])
        booking.tick()
        return len([1 for asked in swarm.asked if asked[1].endswith("/create")]) - before

    assert tried() == AT_A_TIME + 1, "those of b that were begun, and that of c"
    assert "sandbox 000000000000 on b has no lease: no host of the fleet has room" in caplog.text
    assert names(leases) == [("sb-7d2b11aa90cc", "c"), ("sb-filling", "b")]
    assert tried() == 2, "the others of b"
    assert tried() == 0
    leases.remove(filling.id)
    clock.now += GRACE_S - 0.1
    assert tried() == 0
    clock.now += 0.1
    assert tried() == AT_A_TIME + 2
    assert names(leases) == [*((f"sb-{one.id}", "b") for one in members), ("sb-7d2b11aa90cc", "c")]


def test_several_are_placed_at_once_and_not_too_many(
    leases: Swarm, hosts: Hosts, booking: Booking, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [f"{number:012}" for number in range(3 * AT_A_TIME)]
    hosts.have["c"] = [replace(WARM, id=one, memory_mb=64, cpus=0.01) for one in wanted]
    together, begun, inside, most = threading.Barrier(AT_A_TIME, timeout=30), list[str](), 0, 0
    lock, place = threading.Lock(), leases.place

    def slow(name: str, *how: Any, **more: Any) -> Lease:
        nonlocal inside, most
        with lock:
            begun.append(name)
            inside += 1
            most = max(most, inside)
        together.wait()  # nobody comes further before so many are here
        made = place(name, *how, **more)
        with lock:
            inside -= 1
        return made

    monkeypatch.setattr(leases, "place", slow)
    booking.tick()
    assert names(leases) == [(f"sb-{one}", "c") for one in wanted] and most == AT_A_TIME
    assert sorted(begun[:AT_A_TIME]) == [f"sb-{one}" for one in wanted[:AT_A_TIME]], "in their order"


def test_a_pass_has_an_end_and_the_next_one_does_what_is_left(
    leases: Swarm, hosts: Hosts, booking: Booking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(booking_module, "PASS_S", 0.1)
    place, number = leases.place, 5 * AT_A_TIME

    def slow(*given: Any, **named: Any) -> Lease:
        time.sleep(0.05)
        return place(*given, **named)

    monkeypatch.setattr(leases, "place", slow)
    hosts.have["c"] = [replace(WARM, id=f"{one:012x}", memory_mb=4, cpus=0.001) for one in range(number)]
    booking.tick()
    first = len(leases.all())
    assert 1 <= first < number
    for _ in range(number):
        booking.tick()
    assert len(leases.all()) == number


def test_one_that_fails_is_told_and_ends_those_that_have_not_begun(
    leases: Swarm, hosts: Hosts, booking: Booking, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts.have["c"] = [replace(WARM, id=f"{number:012}", memory_mb=64, cpus=0.01) for number in range(40)]
    over, place = threading.Event(), leases.place

    def and_let_them_end(begun: Any) -> None:
        over.set()
        wait(begun)

    def failing(name: str, *how: Any, **more: Any) -> Lease:
        if name == "sb-000000000001":
            raise NoLeader(name)
        if name != "sb-000000000000":
            assert over.wait(30)
        return place(name, *how, **more)

    monkeypatch.setattr(leases, "place", failing)
    monkeypatch.setattr(booking_module, "wait", and_let_them_end)
    with pytest.raises(NoLeader, match="sb-000000000001"):
        booking.tick()
    assert 1 <= len(leases.all()) <= AT_A_TIME + 1
    monkeypatch.undo()
    booking.tick()
    assert len(leases.all()) == 40, "the next pass does what is left"


# --- A lease without a sandbox ---------------------------------------------------------------------------------------


def test_a_lease_that_gets_no_sandbox_is_removed_after_the_grace(leases: Swarm, clock: Clock, booking: Booking) -> None:
    leases.place("sb-create-77", 512, 0.5, {"sandbox.template": "base"})
    booking.tick()
    clock.now += GRACE_S - 0.1
    booking.tick()
    assert len(leases.all()) == 1
    clock.now += 0.1
    booking.tick()
    assert leases.all() == []


def test_a_lease_whose_sandbox_is_gone_is_removed_soon(
    leases: Swarm, hosts: Hosts, clock: Clock, booking: Booking
) -> None:
    hosts.have["b"] = [WARM]
    booking.tick()
    hosts.have["b"] = []
    booking.tick()
    clock.now += SETTLE_S - 0.1
    booking.tick()
    assert len(leases.all()) == 1
    clock.now += 0.1
    booking.tick()
    assert leases.all() == []


def test_the_grace_begins_anew_when_the_sandbox_was_seen(
    leases: Swarm, hosts: Hosts, clock: Clock, booking: Booking
) -> None:
    hosts.have["b"] = [WARM]
    booking.tick()
    for _ in range(3):
        hosts.have["b"] = []
        booking.tick()
        clock.now += SETTLE_S - 1
        hosts.have["b"] = [WARM]
        booking.tick()
    assert names(leases) == [("sb-7d2b11aa90cc", "b")]


def test_a_lease_on_a_host_that_nobody_knows_is_removed(
    leases: Swarm, hosts: Hosts, clock: Clock, booking: Booking
) -> None:
    leases.place("sb-a", 64, 0.5, {}, node="c")
    del hosts.have["c"]
    booking.tick()
    clock.now += GRACE_S
    booking.tick()
    assert leases.all() == []


def test_leases_of_others_are_left_alone(swarm: FakeSwarm, clock: Clock, booking: Booking) -> None:
    others = Swarm(swarm.path, "acme-lease:1", "other")
    others.place("sb-a", 64, 0.5, {})
    booking.tick()
    clock.now += GRACE_S
    booking.tick()
    assert len(others.all()) == 1


# --- A host that does not answer -------------------------------------------------------------------------------------


def test_the_leases_of_a_host_that_does_not_answer_are_left_alone(
    swarm: FakeSwarm, leases: Swarm, hosts: Hosts, clock: Clock, booking: Booking
) -> None:
    """Whatever Swarm says of them: its host may be cut off from the one, the other, or both."""
    hosts.have["b"] = [ONE, WARM]
    booking.tick()
    clock.now += SETTLE_S
    booking.tick()
    leases.place("sb-create-77", 64, 0.5, {}, node="b")
    before, node = leases.all(), next(one.id for one in leases.members() if one.name == "b")
    hosts.have["b"] = None
    for lost in (False, True):
        if lost:
            swarm.lose(node)
        for _ in range(3):
            clock.now += GRACE_S
            booking.tick()
        assert [replace(one, ended="") for one in leases.all()] == before
    # It is back: the sandboxes are there, and Swarm has ended the programs of their leases.
    hosts.have["b"] = [ONE, WARM]
    swarm.find_again(node)
    booking.tick()
    found = {one.name: one for one in leases.all()}
    assert [found[f"sb-{one.id}"].ended for one in (ONE, WARM)] == ["", ""]
    assert found.keys() == {one.name for one in before}
    clock.now += GRACE_S
    booking.tick()
    assert len(leases.all()) == 2, "what never had a sandbox is removed"


def test_a_lease_without_a_node_is_not_of_the_host_that_does_not_answer(
    swarm: FakeSwarm, leases: Swarm, hosts: Hosts, clock: Clock, booking: Booking
) -> None:
    """What a place that was interrupted has left."""
    swarm.assigns_after_s = None
    swarm.answer("POST", "/v1.45/services/create", {}, interrupted("sb-create-77"))
    hosts.have["b"] = None
    booking.tick()
    assert names(leases) == [("sb-create-77", "")]
    clock.now += GRACE_S
    booking.tick()
    assert leases.all() == []


def interrupted(name: str) -> dict[str, object]:
    reserved = {"Reservations": {"MemoryBytes": 1, "NanoCPUs": 1}}
    template = {"Resources": reserved, "Placement": {"Constraints": []}}
    return {"Name": name, "Labels": {"sandbox.project": "acme"}, "TaskTemplate": template}


# --- A lease that is not what it should be ---------------------------------------------------------------------------


def test_a_lease_that_has_ended_is_made_anew(
    swarm: FakeSwarm, leases: Swarm, hosts: Hosts, clock: Clock, booking: Booking
) -> None:
    """The fleet engine of the host was restarted. One that ends again and again is made anew once in a while."""
    hosts.have["b"] = [WARM]
    booking.tick()
    clock.now += GRACE_S
    node = next(one.id for one in leases.members() if one.name == "b")
    before = only(leases).id
    swarm.end_tasks(node)
    booking.tick()
    after = only(leases)
    assert after.id != before and (after.name, after.node, after.ended) == ("sb-7d2b11aa90cc", "b", "")
    swarm.end_tasks(node, "rejected", "No such image: acme-lease:1")
    clock.now += GRACE_S - 0.1
    booking.tick()
    assert (only(leases).id, only(leases).ended) == (after.id, "rejected: No such image: acme-lease:1")
    clock.now += 0.1
    booking.tick()
    assert (only(leases).id != after.id, only(leases).ended) == (True, "")


def test_a_lease_on_another_host_is_made_anew(leases: Swarm, hosts: Hosts, booking: Booking) -> None:
    leases.place("sb-4f1c0a9be2d7", 512, 0.5, {}, node="a")
    hosts.have["b"] = [ONE]
    booking.tick()
    assert names(leases) == [("sb-4f1c0a9be2d7", "b")]


def test_a_lease_that_stays_without_a_node_is_made_anew(
    swarm: FakeSwarm, leases: Swarm, hosts: Hosts, clock: Clock, booking: Booking
) -> None:
    swarm.assigns_after_s = None
    swarm.answer("POST", "/v1.45/services/create", {}, interrupted("sb-7d2b11aa90cc"))
    swarm.assigns_after_s = 0.01
    hosts.have["b"] = [WARM]
    booking.tick()
    assert names(leases) == [("sb-7d2b11aa90cc", "")], "it may be about to be placed"
    clock.now += SETTLE_S
    booking.tick()
    assert names(leases) == [("sb-7d2b11aa90cc", "b")]


def test_of_two_leases_the_better_one_stays(leases: Swarm, hosts: Hosts, clock: Clock, booking: Booking) -> None:
    labels = {"sandbox.id": ONE.id}
    leases.place("sb-create-1", 64, 0.5, labels, node="a")
    leases.place("sb-create-2", 64, 0.5, labels, node="b")
    leases.place("sb-create-3", 64, 0.5, labels, node="b")
    hosts.have["b"] = [ONE]
    for _ in range(2):
        booking.tick()
        clock.now += SETTLE_S
    assert names(leases) == [("sb-create-2", "b")]


def test_labels_follow_the_sandbox(leases: Swarm, hosts: Hosts, booking: Booking) -> None:
    hosts.have["b"] = [WARM]
    booking.tick()
    before = leases.label(only(leases), {**only(leases).labels, "sandbox.more": "kept"})
    hosts.have["b"] = [replace(WARM, state="running", owner="ci", ends="2027-01-15T09:00:00Z")]
    booking.tick()
    after = only(leases)
    assert (after.id, after.labels["sandbox.state"], after.labels["sandbox.owner"]) == (before.id, "running", "ci")
    assert (after.labels["sandbox.ends"], after.labels["sandbox.more"]) == ("2027-01-15T09:00:00Z", "kept")


# --- Several managers, and no leader ---------------------------------------------------------------------------------


def test_two_managers_do_the_same_work_once(
    swarm: FakeSwarm, leases: Swarm, hosts: Hosts, clock: Clock, booking: Booking
) -> None:
    other = Booking(Swarm(swarm.path, "acme-lease:1", "acme"), hosts, clock)
    hosts.have.update(b=[WARM], c=[ONE])
    for _ in range(3):
        booking.tick()
        other.tick()
        clock.now += SETTLE_S
    assert names(leases) == [("sb-4f1c0a9be2d7", "c"), ("sb-7d2b11aa90cc", "b")]
    hosts.have.update(b=[], c=[])
    for _ in range(3):
        other.tick()
        booking.tick()
        clock.now += SETTLE_S
    assert leases.all() == []


def test_a_label_that_somebody_else_wrote_first(
    leases: Swarm, hosts: Hosts, booking: Booking, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts.have["b"] = [WARM]
    booking.tick()
    hosts.have["b"] = [replace(WARM, state="running")]
    stale, label = only(leases), leases.label
    label(stale, {**stale.labels, "sandbox.owner": "ci"})
    monkeypatch.setattr(leases, "label", lambda lease, labels: label(stale, labels))
    with pytest.raises(Stale):
        leases.label(stale, {})
    booking.tick()
    assert only(leases).labels["sandbox.state"] == "warm"
    monkeypatch.undo()
    booking.tick()
    assert only(leases).labels["sandbox.state"] == "running"


def test_without_a_leader_nothing_is_done_and_then_what_is_left(
    swarm: FakeSwarm, leases: Swarm, hosts: Hosts, clock: Clock, booking: Booking
) -> None:
    hosts.have["b"] = [WARM]
    swarm.leaderless = True
    with pytest.raises(NoLeader):
        booking.tick()
    swarm.leaderless = False
    booking.tick()
    assert names(leases) == [("sb-7d2b11aa90cc", "b")]
    # It is lost in the middle: what was ended is removed, and not placed again.
    clock.now += GRACE_S
    swarm.end_tasks(next(one.id for one in leases.members() if one.name == "b"))
    remove = swarm._remove

    def and_lose_the_leader(found: dict[str, object]) -> None:
        remove(found)
        swarm.leaderless = True

    swarm._remove = and_lose_the_leader  # type: ignore[method-assign]
    with pytest.raises(NoLeader):
        booking.tick()
    swarm.leaderless = False
    booking.tick()
    assert (names(leases), only(leases).ended) == ([("sb-7d2b11aa90cc", "b")], "")
