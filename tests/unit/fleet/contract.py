"""What every engine of leases does: the tests of `Contract` run against the double, and on a real fleet engine.

A subclass gives the fixture `leases`, of a fleet in which nothing is booked, and has at least one host.
"""

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from fleet import swarm
from fleet.errors import FleetError, NoLeader, NoRoom, Stale
from fleet.leases import Lease, Leases, Member

DEADLINE_S = 120.0
REFUSED_S = 0.5  # for Swarm to say that there is no room, and for us to ask again if it has said nothing
LABELS = {"sandbox.id": "4f1c0a9be2d7", "sandbox.template": "base", "sandbox.state": "warm"}


def until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {DEADLINE_S:g} s")
        time.sleep(0.02)


def largest(leases: Leases) -> Member:
    return max(leases.members(), key=lambda one: one.memory_mb)


def only(leases: Leases) -> Lease:
    (found,) = leases.all()
    return found


def refuse(leases: Leases, match: str, name: str, memory_mb: int, cpus: float, node: str = "") -> None:
    """There is no room for it. Of an engine that says nothing in its time nobody knows that: it is asked again."""

    def refused() -> bool:
        try:
            made = leases.place(name, memory_mb, cpus, {}, node=node)
        except NoLeader:
            return False
        except NoRoom as error:
            assert re.search(match, str(error)), error
            return True
        pytest.fail(f"there is room for {name} on {made.node}")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(swarm, "PLACE_S", REFUSED_S)
        until(f"{name} is refused", refused)


class Contract:
    def test_a_lease_has_a_node_and_is_found(self, leases: Leases) -> None:
        made = leases.place("sb-a", 64, 0.01, LABELS)
        assert made.node in {one.name for one in leases.members()}
        assert (made.name, made.ended) == ("sb-a", "") and LABELS.items() <= made.labels.items()
        found = only(leases)
        assert (found.id, found.node, found.labels, found.ended) == (made.id, made.node, made.labels, "")

    def test_what_it_answers_may_be_changed_at_once(self, leases: Leases) -> None:
        made = leases.place("sb-a", 64, 0.01, LABELS)
        assert leases.label(made, {"sandbox.state": "running"}).labels["sandbox.state"] == "running"

    def test_on_a_node(self, leases: Leases) -> None:
        for number, one in enumerate(leases.members()):
            assert leases.place(f"sb-{number}", 64, 0.01, {}, node=one.name).node == one.name

    def test_on_a_node_that_is_not_there(self, leases: Leases) -> None:
        with pytest.raises(FleetError, match=r"'nowhere' is no host of this fleet. It has: .+"):
            leases.place("sb-a", 64, 0.01, {}, node="nowhere")
        assert leases.all() == []

    def test_no_room_leaves_nothing(self, leases: Leases) -> None:
        why = r"no host of the fleet has room for sb-a \(\d+ MB, 0.01 CPUs\): no suitable node"
        refuse(leases, why, "sb-a", largest(leases).memory_mb + 1, 0.01)
        refuse(leases, "insufficient resources", "sb-a", 64, largest(leases).cpus + 1000)
        assert leases.all() == []

    def test_what_is_removed_makes_room(self, leases: Leases) -> None:
        host = largest(leases)
        most = leases.place("sb-a", host.memory_mb - 32, 0.01, {}, node=host.name)
        refuse(leases, f"on {host.name}", "sb-b", 64, 0.01, node=host.name)
        leases.remove(most.id)
        assert leases.place("sb-b", 64, 0.01, {}, node=host.name).node == host.name

    def test_removing_twice(self, leases: Leases) -> None:
        made = leases.place("sb-a", 64, 0.01, {})
        leases.remove(made.id)
        assert leases.all() == []
        leases.remove(made.id)

    def test_a_name_that_is_there_is_found_again(self, leases: Leases) -> None:
        made = leases.place("sb-a", 64, 0.01, LABELS)
        again = leases.place("sb-a", 64, 0.01, {}, node=made.node)
        assert (again.id, again.node, again.labels) == (made.id, made.node, made.labels)

    def test_eight_that_place_the_same_get_the_same(self, leases: Leases) -> None:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: leases.place("sb-a", 64, 0.01, LABELS), range(8)))
        assert {one.id for one in found} == {only(leases).id}

    def test_labels_are_replaced_and_nothing_else(self, leases: Leases) -> None:
        made = leases.place("sb-a", 64, 0.01, LABELS)
        changed = leases.label(made, {"sandbox.state": "running", "sandbox.owner": "ci"})
        own = made.labels.keys() - LABELS.keys()
        assert changed.labels == {
            "sandbox.state": "running",
            "sandbox.owner": "ci",
            **{name: made.labels[name] for name in own},
        }
        assert (changed.id, changed.node, changed.ended) == (made.id, made.node, "") and changed.version > made.version
        assert only(leases).labels == changed.labels

    def test_a_version_counts_once(self, leases: Leases) -> None:
        made = leases.place("sb-a", 64, 0.01, LABELS)
        leases.label(made, {"sandbox.owner": "first"})
        with pytest.raises(Stale, match="sb-a"):
            leases.label(made, {"sandbox.owner": "second"})
        assert only(leases).labels["sandbox.owner"] == "first"

    def test_those_of_a_sandbox(self, leases: Leases) -> None:
        made = leases.place("sb-a", 64, 0.01, LABELS)
        leases.place("sb-b", 64, 0.01, {**LABELS, "sandbox.id": "000000000000"})
        (found,) = leases.of(LABELS["sandbox.id"])
        assert (found.id, found.node, found.labels, found.ended) == (made.id, made.node, made.labels, "")
        assert leases.label(found, {}).id == made.id
        assert leases.of(LABELS["sandbox.id"]) == leases.of("ffffffffffff") == []

    def test_of_eight_one_wins(self, leases: Leases) -> None:
        made = leases.place("sb-a", 64, 0.01, LABELS)

        def claim(number: int) -> str:
            try:
                return leases.label(made, {"sandbox.owner": str(number)}).labels["sandbox.owner"]
            except Stale:
                return ""

        with ThreadPoolExecutor(8) as pool:
            won = [one for one in pool.map(claim, range(8)) if one]
        assert won == [only(leases).labels["sandbox.owner"]]

    def test_what_is_gone_is_stale(self, leases: Leases) -> None:
        made = leases.place("sb-a", 64, 0.01, LABELS)
        leases.remove(made.id)
        with pytest.raises(Stale, match="sb-a: it is not booked any more"):
            leases.label(made, LABELS)

    def test_members(self, leases: Leases) -> None:
        found = leases.members()
        assert [one.leader for one in found].count(True) == 1
        for one in found:
            assert one.id and one.name and one.role in ("manager", "worker") and one.address
            assert (one.state, one.availability) == ("ready", "active")
            assert one.memory_mb > 0 and one.cpus > 0

    def test_a_node_that_takes_no_more_keeps_what_it_has(self, leases: Leases) -> None:
        node = largest(leases).name
        made = leases.place("sb-a", 64, 0.01, {}, node=node)
        for _ in range(2):
            leases.make_available(node, "pause")
        try:
            assert {one.name: one.availability for one in leases.members()}[node] == "pause"
            refuse(leases, "no suitable node", "sb-b", 64, 0.01, node=node)
            assert (only(leases).id, only(leases).ended) == (made.id, "")
        finally:
            leases.make_available(node, "active")
        assert leases.place("sb-b", 64, 0.01, {}, node=node).node == node

    def test_a_node_that_is_drained_ends_its_leases(self, leases: Leases) -> None:
        node = largest(leases).name
        made = leases.place("sb-a", 64, 0.01, {}, node=node)
        leases.make_available(node, "drain")
        try:
            until("it has ended", lambda: only(leases).ended != "")
            assert (only(leases).id, only(leases).node) == (made.id, node)
        finally:
            leases.make_available(node, "active")
        again = leases.place("sb-a", 64, 0.01, {}, node=node)
        assert again.id != made.id and only(leases).ended == "", "what has ended is not found again, but made anew"

    def test_availability_of_what_is_not_there(self, leases: Leases) -> None:
        with pytest.raises(FleetError, match="'nowhere' is no host of this fleet"):
            leases.make_available("nowhere", "pause")
        with pytest.raises(FleetError, match="availability 'off': must be one of active, pause, drain"):
            leases.make_available(largest(leases).name, "off")
