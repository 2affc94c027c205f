"""A fleet grows and shrinks: hosts are drained, added and taken out, and become managers and workers."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.host.api import with_key
from tests.host.fleet.labs import LIMIT_S, ONE_MANAGER, Fleet, says
from tests.host.machine import Machine, Sandbox, eventually
from tools.remote import RemoteError

pytestmark = pytest.mark.disruptive
Record = Callable[[str, object], None]
MOST = 30  # sandboxes until each of three hosts has one


def test_a_worker_is_drained_and_activated(fleet: Fleet) -> None:
    """It gets nothing new and its pools go; the drain waits for the last sandbox. Activated, it is as before."""
    manager, made = fleet.manager, list[str]()
    fleet.wait_for_full_pools()
    try:
        while not set(fleet.own("fc")) & set(made):  # each comes to the host that has the fewest
            assert len(made) < MOST, "none comes to fc"
            made.append(fleet.init())
        there = fleet.own("fc")
        with ThreadPoolExecutor(1) as other:
            drain = other.submit(manager.out, f"timeout {LIMIT_S} docker-sandbox node drain fc")
            try:
                fleet.wait_for("draining", "fc")
                made += [fleet.init() for _ in range(4)]
                assert set(fleet.own("fc")) == set(there), "nothing new, and nothing that was there has ended"
                assert not drain.done()
            finally:  # else the drain would not end
                manager.run(f"docker-sandbox kill {' '.join(there)}")
            assert drain.result() == "fc is drained"
        eventually(lambda: fleet.nodes()["fc"]["warm"], lambda warm: warm == 0, LIMIT_S, "no members of pools")
        assert manager.out("docker-sandbox node activate fc") == "fc is ready"
        fleet.wait_for_full_pools()
    finally:
        manager.run("docker-sandbox node activate fc", check=False)
        manager.run(f"docker-sandbox kill {' '.join(made)}", check=False)


def test_a_fourth_host_is_added_and_taken_out(fleet: Fleet, record_property: Record) -> None:
    """By naming it; and by a drain, `make fleet-forget` and naming it no more. In between a deploy refuses."""
    manager = fleet.manager
    fleet.workers.append("fd")
    record_property("fleet", {"a fourth host": f"{fleet.deploy().seconds:.0f} s"})
    fleet.wait_for("ready", "fd")
    fleet.wait_for_full_pools()
    made = [fleet.init() for _ in range(8)]
    try:
        assert set(fleet.own("fd")) & set(made)
        for id in made:
            says(Sandbox(manager, id), "echo $((6 * 7))", "42")
    finally:
        manager.run(f"docker-sandbox kill {' '.join(made)}", check=False)
    fleet.workers.remove("fd")
    assert "fd (at 10.231.0.14, ready) is in the fleet and not in the inventory" in fleet.refusal()
    manager.run(f"timeout {LIMIT_S} docker-sandbox node drain fd")
    done = fleet.run(sys.executable, "-m", "tools.fleet_forget", NODE="fd")
    assert re.match(r"fd \(\w+\) is no longer of the fleet", done.stdout), done.stderr
    fleet.gone("fd")
    fleet.deploy()
    assert set(fleet.nodes()) == {"fa", "fb", "fc"}


def test_the_leader_of_three_is_killed(fleet: Fleet, record_property: Record) -> None:
    """The others answer for the fleet: what exists at once, what needs a new leader after a while."""
    fleet.managers, fleet.workers = ["fa", "fb", "fc"], []
    fleet.deploy()
    assert len({machine.out("docker-sandbox ca") for machine in fleet.members.values()}) == 1
    assert fleet.deploy().changed == []
    leader = leader_of(fleet)
    other = fleet.members[next(name for name in fleet.names if name != leader)]
    with with_key(other, "test-leader") as api:
        fleet.wait_for_full_pools()
        made = [fleet.init(machine=other) for _ in range(6)]
        left = {id for id in made if id not in fleet.own(leader)}
        fleet.wait_for_full_pools()  # which those have emptied: what is claimed from one needs no leader
        with fleet.killed(leader):
            killed = time.monotonic()
            # By the list, for which nobody asks Swarm: a new leader is there after a while.
            fleet.wait_for_states({id: "running" if id in left else "lost" for id in made}, other)
            claimed = api.create()["sandboxID"]
            record_property("fleet", {"claimed without a leader": no_leader(fleet, other)})
            row = eventually(lambda: fleet.listed(other).get(claimed), bool, LIMIT_S, "its row")
            assert row and row["origin"] == "pool"
            fleet.wait_for("lost", leader, other)
            for id in left:
                says(Sandbox(other, id), "echo $((6 * 7))", "42")
            cold = eventually(
                lambda: other.run("docker-sandbox init --cold", check=False),
                lambda done: done.returncode == 0,
                LIMIT_S,
                "sandbox that needs a lease",
            )
            made.append(cold.stdout.strip())
            record_property("fleet", {"leader killed": f"a lease after {time.monotonic() - killed:.0f} s"})
        fleet.wait_for("ready", leader, other)
        for machine in fleet.members.values():
            fleet.wait_for_states(dict.fromkeys([*made, claimed], "running"), machine)
        other.run(f"docker-sandbox kill {' '.join(made)}")


def leader_of(fleet: Fleet) -> str:
    """Once there is one."""
    found = eventually(
        lambda: [name for name, row in fleet.nodes().items() if row["leader"]],
        lambda names: len(names) == 1,
        LIMIT_S,
        "leader",
    )
    return found[0]


def no_leader(fleet: Fleet, machine: Machine) -> bool:
    """Then there was none since the last one was killed, either."""
    try:
        fleet.in_swarm(machine)
    except RemoteError:
        return True
    return False


def test_three_managers_become_one(fleet: Fleet) -> None:
    """And two of them workers, whose sandboxes go on."""
    manager = fleet.manager
    fleet.wait_for_full_pools()
    made = [fleet.init() for _ in range(6)]
    started = {name: fleet.started(name) for name in fleet.names}
    try:
        fleet.managers, fleet.workers = ["fa"], ["fb", "fc"]
        fleet.deploy()
        fleet.wait_for_roles(ONE_MANAGER)
        for id in made:
            says(Sandbox(manager, id), "echo $((6 * 7))", "42")
        for name, before in started.items():
            assert before.items() <= fleet.started(name).items(), name
        assert "Ask one of its managers: fa" in fleet.members["fb"].run("docker-sandbox node ls", check=False).stderr
        assert fleet.deploy().changed == []
    finally:
        manager.run(f"docker-sandbox kill {' '.join(made)}", check=False)
