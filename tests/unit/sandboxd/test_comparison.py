"""One comparison of the world with the ledger: what is put right, and what is left alone."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxd.engine import Found
from sandboxd.errors import EngineDown, HostError
from sandboxd.records import Claim
from tests.unit.sandboxd.conftest import World, make_world, member
from tests.unit.sandboxd.fake_engine import START, down, refusal, state_of
from tests.unit.sandboxd.test_reconcile import create, in_state, row_of


def test_a_stopped_sandbox_is_started_with_rule_and_route(world: World) -> None:
    sandbox = create(world)
    world.engine.stop(sandbox.id)
    world.commands.clear()
    world.reconciler.tick()
    assert world.engine.containers[sandbox.id].running
    assert any("-A" in command for command in world.commands)
    assert row_of(world, sandbox).booted == world.engine.containers[sandbox.id].booted
    assert world.haproxy.map == [(sandbox.id, world.engine.containers[sandbox.id].address)]


def test_a_sandbox_that_somebody_restarted_gets_its_rule_again(world: World) -> None:
    sandbox = create(world)
    world.engine.start(sandbox.id)
    world.commands.clear()
    world.reconciler.tick()
    assert any("-A" in command for command in world.commands)
    world.commands.clear()
    world.reconciler.tick()
    assert world.commands == [], "the next look finds all in order"


def test_a_sandbox_that_cannot_be_started_is_reported_and_kept(world: World) -> None:
    sandbox = create(world)
    world.engine.stop(sandbox.id)
    world.engine.fail["start"] = refusal()
    world.reconciler.tick()
    assert "cannot be made to be running again" in world.health.troubles()[f"sandbox {sandbox.id}"]
    world.reconciler.tick()
    assert world.health.troubles() == {} and world.engine.containers[sandbox.id].running


def test_a_removed_container_takes_the_rest_of_its_sandbox_along(world: World) -> None:
    sandbox = create(world)
    world.engine.remove_container(sandbox.id)
    world.reconciler.tick()
    assert world.engine.empty() and world.ledger.rows() == [] and world.haproxy.map == []
    assert "removed outside" in row_of(world, sandbox).reason


def test_a_stopped_pool_member_is_never_used_again(world: World) -> None:
    stopped = member(world)
    world.engine.stop(stopped)
    world.reconciler.tick()
    assert world.engine.empty() and world.ledger.rows() == []


@pytest.mark.parametrize("state", ["creating", "removing"])
def test_what_a_crash_left_half_done_is_removed(world: World, state: str) -> None:
    sandbox = create(world)
    world.ledger._db.execute("UPDATE sandboxes SET state = ? WHERE slot = ?", (state, sandbox.slot))
    again = make_world(world.config, world.engine, world.haproxy, world.mounts)
    again.reconciler.tick()
    assert again.engine.empty() and again.ledger.rows() == [] and again.leftovers() == []
    again.ledger.close()


def test_a_lost_name_is_given_again(world: World) -> None:
    sandbox = create(world)
    world.engine.rename(sandbox.id, "something")
    world.reconciler.tick()
    assert world.engine.containers[sandbox.id].name == sandbox.container


def test_the_end_of_a_sandbox_is_kept_by_the_ledger(world: World) -> None:
    """Not by a timer: a daemon that was down when it came removes the sandbox as soon as it is up."""
    short, long, endless = create(world, Claim(timeout_s=10)), create(world, Claim(timeout_s=100)), create(world)
    again = make_world(world.config, world.engine, world.haproxy, world.mounts)
    again.now[0] = START + 11
    again.reconciler.expire()
    assert {row.id for row in again.ledger.rows("running")} == {long.id, endless.id}
    assert row_of(again, short).reason == "timeout reached"
    again.now[0] = START + 25 * 3600
    again.reconciler.expire()
    assert [row.id for row in again.ledger.rows("running")] == [endless.id]
    again.ledger.close()


def test_the_cleanup_counts_from_the_claim_and_spares_pool_and_kept(world: World) -> None:
    warm = member(world)
    old, kept = create(world), create(world, Claim(keep=True))
    world.now[0] += 25 * 3600
    young = create(world)
    removed, spared = world.reconciler.cleanup(24 * 3600)
    assert removed == [old.id] and set(spared) == {kept.id, young.id}
    assert set(world.engine.containers) == {warm, kept.id, young.id}


def test_the_time_that_a_member_waited_in_the_pool_does_not_count(world: World) -> None:
    found = member(world)
    world.now[0] += 25 * 3600
    claimed = world.sandboxes.claim(world.config.templates["base"], Claim(timeout_s=60))
    assert claimed is not None and claimed.ends_at == world.now[0] + 60
    assert world.reconciler.cleanup(24 * 3600) == ([], [found])


def test_what_somebody_works_on_is_left_alone(world: World) -> None:
    sandbox = create(world)
    world.engine.stop(sandbox.id)
    with world.sandboxes.locks.hold(sandbox.slot):
        world.reconciler.tick()
        assert not world.engine.containers[sandbox.id].running


def test_routes_are_mended(world: World) -> None:
    sandbox = create(world)
    world.haproxy.map = [("ffffffffffff", "10.9.9.9")]
    world.reconciler.tick()
    assert world.haproxy.map == [(sandbox.id, world.engine.containers[sandbox.id].address)]


def test_a_gateway_that_is_down_is_reported_and_stops_nothing(world: World) -> None:
    sandbox = create(world)
    world.engine.stop(sandbox.id)
    world.haproxy.stop()
    world.reconciler.tick()
    assert "systemctl status haproxy" in world.health.troubles()["gateway"]
    assert world.engine.containers[sandbox.id].running


def test_docker_being_down_ends_the_look_and_removes_nothing(world: World) -> None:
    sandbox = create(world)
    world.engine.fail["inventory"] = down()
    with pytest.raises(EngineDown):
        world.reconciler.tick()
    assert [row.id for row in world.ledger.rows("running")] == [sandbox.id]


def test_an_agent_file_that_was_lost_is_written_again(world: World) -> None:
    sandbox = create(world)
    world.sandboxes.dirs.write(sandbox.slot, "{}")
    world.reconciler.tick()
    assert sandbox.id in world.sandboxes.dirs.read(sandbox.slot)


def test_a_new_address_is_routed(world: World) -> None:
    sandbox = create(world)
    world.engine.containers[sandbox.id] = replace(world.engine.containers[sandbox.id], address="10.200.9.9")
    world.reconciler.tick()
    assert world.haproxy.map == [(sandbox.id, "10.200.9.9")]


def test_a_trouble_of_a_sandbox_ends_with_the_sandbox(world: World) -> None:
    sandbox = create(world)
    world.engine.stop(sandbox.id)
    world.engine.fail["start"] = refusal()
    world.reconciler.tick()
    assert list(world.health.troubles()) == [f"sandbox {sandbox.id}"]
    world.sandboxes.remove(sandbox, "test")
    world.reconciler.tick()
    assert world.health.troubles() == {}


def test_a_small_trouble_is_over_when_it_is_mended(world: World) -> None:
    sandbox = create(world)
    world.engine.rename(sandbox.id, "somebody's name")
    world.engine.fail["rename"] = refusal()
    world.reconciler.tick()
    assert list(world.health.troubles()) == [f"sandbox {sandbox.id}"]
    world.reconciler.tick()
    assert world.health.troubles() == {} and world.engine.containers[sandbox.id].name == sandbox.container


@pytest.mark.parametrize("damage", ["directory", "binary"])
def test_one_damaged_slot_does_not_keep_the_others_from_being_mended(world: World, damage: str) -> None:
    """Rows are looked at in order of their claim, the damaged one first."""
    damaged, stopped = create(world), create(world)
    file = world.sandboxes.dirs.path(damaged.slot) / "agent.json"
    file.unlink()
    if damage == "directory":
        file.mkdir()
    else:
        file.write_bytes(b"\xff\xfe")
    world.engine.stop(stopped.id)
    world.reconciler.tick()
    assert world.engine.containers[stopped.id].running
    if damage == "binary":
        assert damaged.id in world.sandboxes.dirs.read(damaged.slot)
    else:
        assert "Is a directory" in world.health.troubles()[f"sandbox {damaged.id}"]


def test_a_directory_that_cannot_be_removed_is_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = create(world, Claim(timeout_s=1)), create(world, Claim(timeout_s=2))
    world.now[0] += 5

    def busy(path: Path) -> None:
        raise OSError(16, "Device or resource busy", str(path))

    with monkeypatch.context() as patch:
        patch.setattr("sandboxd.slotdir.shutil.rmtree", busy)
        world.reconciler.expire()
    assert [row.state for row in world.ledger.rows()] == ["removing", "removing"]
    world.reconciler.tick()
    assert world.ledger.rows() == [] and world.leftovers() == []
    assert {row_of(world, one).reason for one in (first, second)} == {"timeout reached"}


def test_a_restart_that_waits_for_the_agent_keeps_what_was_prepared_for_later(world: World) -> None:
    """The rule stands, the agent does not answer yet: the next look must not take the sandbox for prepared."""
    sandbox = create(world)
    world.engine.stop(sandbox.id)
    world.dead.add(sandbox.address)
    world.reconciler.tick()
    assert row_of(world, sandbox).booted != world.engine.containers[sandbox.id].booted
    assert "the last line" in world.health.troubles()[f"sandbox {sandbox.id}"]
    world.dead.clear()
    world.reconciler.tick()
    assert row_of(world, sandbox).booted == world.engine.containers[sandbox.id].booted
    assert world.health.troubles() == {}


def test_many_stopped_sandboxes_are_started_a_few_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a reboot: as many at once as the host may create."""
    stopped = [create(world) for _ in range(5)]
    lock, inside, most = threading.Lock(), [0], [0]
    start = world.engine.start

    def counting(container: str) -> None:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        start(container)
        with lock:
            inside[0] -= 1

    for sandbox in stopped:
        world.engine.stop(sandbox.id)
    monkeypatch.setattr(world.engine, "start", counting)
    world.reconciler.tick()
    assert all(container.running for container in world.engine.containers.values())
    assert most[0] <= world.config.create_parallelism


def test_closed_rows_are_forgotten_after_a_week(world: World) -> None:
    sandbox = create(world)
    world.sandboxes.remove(sandbox, "test")
    world.now[0] += 6 * 86400
    world.reconciler.tick()
    assert world.ledger.get(sandbox.slot) is not None
    world.now[0] += 2 * 86400
    world.reconciler.tick()
    assert world.ledger.get(sandbox.slot) is None


BEHIND = {  # what somebody does with Docker's own command, and what it is after the next look, in ledger and Docker
    ("running", "pause"): ("running", "running"),
    ("running", "stop"): ("running", "running"),
    ("paused", "unpause"): ("paused", "paused"),
    ("paused", "stop"): ("stopped", "exited"),
    ("stopped", "start"): ("stopped", "exited"),
}


@pytest.mark.parametrize(("state", "command"), BEHIND)
def test_what_docker_does_behind_our_back_is_put_right(world: World, state: str, command: str) -> None:
    sandbox = in_state(world, state)
    getattr(world.engine, command)(sandbox.id)
    world.reconciler.tick()
    seen = row_of(world, sandbox).state, state_of(world.engine.containers[sandbox.id])
    assert seen == BEHIND[state, command] and world.health.troubles() == {}
    assert [key for key, _ in world.haproxy.map] == ([sandbox.id] if seen[0] == "running" else [])
    calls = len(world.mounts.commands), dict(world.engine.containers)
    world.reconciler.tick()
    assert (len(world.mounts.commands), dict(world.engine.containers)) == calls, "the next look finds all in order"


@pytest.mark.parametrize(("state", "command"), BEHIND)
def test_a_list_that_does_not_show_it_yet_is_not_believed(
    world: World, monkeypatch: pytest.MonkeyPatch, state: str, command: str
) -> None:
    """Docker tells of an event, which has us look, before it writes to the table that its list is read from."""
    sandbox = in_state(world, state)
    found = world.engine.inventory(world.config.project)
    getattr(world.engine, command)(sandbox.id)
    monkeypatch.setattr(world.engine, "inventory", lambda project: found)
    world.reconciler.tick()
    assert state_of(world.engine.containers[sandbox.id]) == BEHIND[state, command][1]


@pytest.mark.parametrize("state", ["paused", "stopped"])
def test_a_removed_container_takes_its_sandbox_along_in_every_state(world: World, state: str) -> None:
    sandbox = in_state(world, state)
    world.engine.remove_container(sandbox.id)
    world.reconciler.tick()
    assert row_of(world, sandbox).state == "gone" and world.engine.empty() and world.leftovers() == []


def test_the_files_of_a_stopped_sandbox_outlive_a_prune(world: World) -> None:
    sandbox = in_state(world, "stopped")
    world.sandboxes.disks.file(sandbox.slot, "").write_bytes(b"precious")
    world.engine.remove_container(sandbox.id)
    world.mounts.fail["umount"] = HostError("busy")
    world.reconciler.tick()
    assert world.health.troubles() == {f"sandbox {sandbox.id}": "busy"}
    world.reconciler.tick()
    name = f"lost-{sandbox.id}"
    assert row_of(world, sandbox).reason.endswith(f"the files of /code are in volume {name}")
    assert world.sandboxes.disks.file("", name).read_bytes() == b"precious"
    assert [(one.name, one.size_mb, one.slot) for one in world.ledger.volumes()] == [(name, sandbox.disk_mb, "")]
    assert world.health.troubles() == {} and world.leftovers() == []
    assert create(world, Claim(volume=name)).disk_mb == sandbox.disk_mb


def test_a_prune_that_was_mended_half_way_is_gone_on_with(world: World) -> None:
    sandbox = in_state(world, "stopped")
    world.engine.remove_container(sandbox.id)
    world.sandboxes.disks.keep(sandbox.slot, f"lost-{sandbox.id}")  # and there the daemon was killed
    world.reconciler.tick()
    assert [one.name for one in world.ledger.volumes()] == [f"lost-{sandbox.id}"] and world.leftovers() == []


def test_a_prune_leaves_a_volume_its_name(world: World) -> None:
    sandbox = create(world, Claim(volume="data"))
    world.transitions.stop(sandbox, "test")
    world.engine.remove_container(sandbox.id)
    world.reconciler.tick()
    assert [(one.name, one.slot) for one in world.ledger.volumes()] == [("data", "")]


def test_a_reboot(world: World) -> None:
    """Everything is stopped, nothing mounted; the disk is mounted before its container starts."""
    world.reconciler.tick()
    warm = member(world)
    running, paused, stopped = (in_state(world, state) for state in ("running", "paused", "stopped"))
    world.now[0] += 1
    with_volume = create(world, Claim(volume="data"))
    for found in world.engine.containers:
        world.engine.stop(found)
    world.mounts.reboot()
    again = make_world(world.config, world.engine, world.haproxy, world.mounts)
    again.now[0] = world.now[0] + 3600
    again.reconciler.tick()
    assert {one.id: row_of(again, one).state for one in (running, paused, stopped, with_volume)} == {
        running.id: "running",
        paused.id: "stopped",
        stopped.id: "stopped",
        with_volume.id: "running",
    }
    assert "host restarted" in row_of(again, paused).reason and row_of(again, stopped).reason == "test"
    assert sorted(again.mounts.mounted()) == sorted([running.slot, with_volume.slot])
    assert warm not in again.engine.containers and again.health.troubles() == {}
    for sandbox in (paused, stopped):
        again.transitions.resume(sandbox)
    assert len(again.mounts.mounted()) == 4 and len(again.haproxy.map) == 4
    again.ledger.close()


def test_a_disk_that_cannot_be_mounted_is_a_trouble_of_its_sandbox_alone(world: World) -> None:
    broken, well = create(world), create(world)
    for sandbox in (broken, well):
        world.engine.stop(sandbox.id)
    world.mounts.reboot()
    world.sandboxes.disks.file(broken.slot, "").unlink()
    for _ in range(2):
        world.reconciler.tick()
        assert world.engine.containers[well.id].running and not world.engine.containers[broken.id].running
        assert list(world.health.troubles()) == [f"sandbox {broken.id}"]
        assert "is gone" in world.health.troubles()[f"sandbox {broken.id}"]
    assert world.sandboxes.remove(broken, "test") and world.leftovers() == [well.slot]


def test_a_sandbox_of_the_release_before_goes_with_its_docker_volume(world: World) -> None:
    sandbox = create(world)
    world.sandboxes.disks.remove(sandbox.slot)
    name = f"acme-code-{sandbox.slot}"
    world.engine.volumes[name] = Found("volume", name, sandbox.slot, world.now[0])
    world.ledger._db.execute("UPDATE sandboxes SET disk_mb = 0")
    world.now[0] += 3600
    world.reconciler.tick()
    assert name in world.engine.volumes
    world.sandboxes.remove(row_of(world, sandbox), "test")
    assert world.engine.empty() and world.leftovers() == []
