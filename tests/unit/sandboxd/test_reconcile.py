"""The loop that makes the world agree with the ledger."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxd.engine import Found
from sandboxd.errors import EngineDown, HostError
from sandboxd.records import Claim, Sandbox
from tests.unit.sandboxd.conftest import START, World, down, make_world, refusal, until
from tests.unit.sandboxd.test_sandboxes import member


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandboxd.reconcile.RETRY_S", 0.01)


def create(world: World, claim: Claim | None = None) -> Sandbox:
    made = world.sandboxes.create(world.config.templates["base"], claim or Claim())
    world.sandboxes.settle()
    return made


def row_of(world: World, sandbox: Sandbox) -> Sandbox:
    found = world.ledger.get(sandbox.slot)
    assert found is not None
    return found


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
    assert "cannot be started again" in world.health.troubles()[f"sandbox {sandbox.id}"]
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
    again = make_world(world.config, world.engine, world.haproxy)
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
    again = make_world(world.config, world.engine, world.haproxy)
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


def unknown(world: World, age_s: float) -> None:
    created = world.now[0] - age_s
    world.engine.networks["acme-net-x"] = Found("network", "acme-net-x", "x", created)
    world.engine.volumes["acme-code-x"] = Found("volume", "acme-code-x", "x", created)


def test_unknown_objects_are_swept_once_they_are_old(world: World) -> None:
    world.reconciler.tick()
    unknown(world, 5)
    world.reconciler.tick()
    assert not world.engine.empty()
    world.now[0] += 3600
    world.reconciler.tick()
    assert world.engine.empty()


def test_a_new_ledger_sweeps_nothing_until_it_is_told(world: World) -> None:
    """A lost or wrong state_dir must not cost every sandbox of the host."""
    unknown(world, 3600)
    world.reconciler.tick()
    assert not world.engine.empty()
    assert "cleanup --unknown" in world.health.troubles()["sweep"]
    world.reconciler.sweep_unknown()
    assert world.engine.empty()
    assert "sweep" not in world.health.troubles()


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


def test_the_loop_goes_on_after_a_failure_and_removes_what_ends(world: World) -> None:
    world.engine.fail["inventory"] = refusal()
    world.reconciler.start()
    until(lambda: "reconcile" in world.health.troubles(), "the report")
    sandbox = create(world, Claim(timeout_s=5))
    world.now[0] += 6
    world.reconciler.wake()
    until(lambda: sandbox.id not in world.engine.containers, "the end of the sandbox")


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


def test_a_sandbox_that_dies_is_started_as_soon_as_docker_says_so(world: World, quick: None) -> None:
    world.reconciler.start()
    until(lambda: bool(world.ledger.setting("may_sweep")), "the first comparison")
    sandbox = create(world)
    world.engine.stop(sandbox.id)
    world.engine.events.put(sandbox.slot)
    until(lambda: world.engine.containers[sandbox.id].running, "the sandbox running again")


def test_our_own_starts_and_removals_cause_no_comparison(world: World) -> None:
    world.reconciler.start()
    until(lambda: bool(world.ledger.setting("may_sweep")), "the first comparison")
    with world.sandboxes.locks.hold("slot"):
        world.engine.events.put("slot")
        until(world.engine.events.empty, "the event heard")
    assert not world.reconciler._noticed.is_set()


def test_listening_goes_on_after_docker_hung_up(world: World, quick: None) -> None:
    world.reconciler.start()
    until(lambda: bool(world.ledger.setting("may_sweep")), "the first comparison")
    sandbox = create(world)
    world.engine.stop(sandbox.id)
    world.engine.events.put(down())
    until(lambda: world.engine.containers[sandbox.id].running, "a comparison, since nobody listened meanwhile")
    until(lambda: not world.sandboxes.locks.held(sandbox.slot), "the end of our own work on it")
    world.engine.stop(sandbox.id)
    world.engine.events.put(sandbox.slot)
    until(lambda: world.engine.containers[sandbox.id].running, "the next event heard")


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


def test_the_loop_outlives_a_ledger_that_cannot_be_read(
    world: World, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    def broken(now: float) -> list[Sandbox]:
        raise HostError("the ledger cannot be read")

    with monkeypatch.context() as patch:
        patch.setattr(world.ledger, "expired", broken)
        world.reconciler.start()
        until(lambda: "expiry" in world.health.troubles(), "the report")
    sandbox = create(world, Claim(timeout_s=5))
    world.now[0] += 6
    world.reconciler.wake()
    until(lambda: sandbox.id not in world.engine.containers, "the end of the sandbox")
    until(lambda: world.health.troubles() == {}, "no trouble any more")


def test_docker_that_was_down_is_asked_again_soon(world: World, quick: None) -> None:
    sandbox = create(world)
    world.engine.stop(sandbox.id)
    world.engine.fail["inventory"] = down()
    world.reconciler.start()
    until(lambda: world.engine.containers[sandbox.id].running, "the next look")
    until(lambda: world.health.troubles() == {}, "no trouble any more")


def test_an_event_of_an_unknown_form_does_not_end_the_listening(world: World, quick: None) -> None:
    world.reconciler.start()
    until(lambda: bool(world.ledger.setting("may_sweep")), "the first comparison")
    world.engine.events.put(KeyError("Actor"))
    sandbox = create(world)
    world.engine.stop(sandbox.id)
    world.engine.events.put(sandbox.slot)
    until(lambda: world.engine.containers[sandbox.id].running, "the next event heard")


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


def test_what_cannot_be_swept_does_not_stop_the_rest(world: World) -> None:
    world.reconciler.tick()
    unknown(world, 3600)
    world.engine.fail["remove_network"] = refusal()
    world.reconciler.tick()
    assert list(world.engine.networks) == ["acme-net-x"] and not world.engine.volumes
    world.reconciler.tick()
    assert world.engine.empty()


def test_a_known_sandbox_is_never_swept(world: World) -> None:
    warm, used = member(world), create(world)
    world.now[0] += 30 * 86400
    world.reconciler.sweep_unknown()
    assert set(world.engine.containers) == {warm, used.id}
