"""Pause, resume, stop, start, a new end, a larger disk; and what is done when a step between fails."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxd.engine import Container
from sandboxd.errors import Conflict, EngineDown, EngineError, GatewayError, HostError, NotFound, NotReady
from sandboxd.records import Claim, Sandbox
from sandboxd.transitions import SAME
from tests.unit.sandboxd.conftest import World, make_world
from tests.unit.sandboxd.fake_engine import down, refusal
from tests.unit.sandboxd.test_reconcile import create, row_of


def container(world: World, sandbox: Sandbox) -> Container:
    return world.engine.containers[sandbox.id]


def brought(world: World, state: str, claim: Claim | None = None) -> Sandbox:
    """A sandbox in that state."""
    sandbox = create(world, claim)
    if state == "paused":
        return world.transitions.pause(sandbox)
    return world.transitions.stop(sandbox, "test") if state == "stopped" else sandbox


def state(world: World, sandbox: Sandbox) -> tuple[str, str]:
    """By the ledger, and by Docker."""
    found = container(world, sandbox)
    return row_of(world, sandbox).state, "paused" if found.paused else "running" if found.running else "exited"


def routed(world: World) -> list[str]:
    return [key for key, _ in world.haproxy.map]


def test_pause_freezes_takes_the_route_away_and_stops_the_clock(world: World) -> None:
    sandbox = create(world, Claim(timeout_s=60))
    row = world.transitions.pause(sandbox)
    assert (row.state, row.ends_at, row.timeout_s) == ("paused", None, 60)
    assert state(world, sandbox) == ("paused", "paused") and routed(world) == []
    world.now[0] += 3600
    world.reconciler.expire()
    assert state(world, sandbox) == ("paused", "paused")
    assert world.transitions.pause(sandbox).state == "paused", "once more is fine"


def test_its_memory_is_asked_back(world: World) -> None:
    asked: list[tuple[int, bool]] = []
    sandbox = create(world)

    def reclaim(pid: int) -> None:
        asked.append((pid, container(world, sandbox).paused))

    world.sandboxes.host = replace(world.sandboxes.host, reclaim=reclaim)
    world.transitions.pause(sandbox)
    assert asked == [(container(world, sandbox).pid, True)]


@pytest.mark.parametrize("from_state", ["paused", "stopped"])
def test_resume_begins_its_time_anew(world: World, from_state: str) -> None:
    sandbox = brought(world, from_state, Claim(timeout_s=60))
    world.now[0] += 1000
    row = world.transitions.resume(sandbox)
    assert (row.state, row.reason, row.ends_at) == ("running", "", world.now[0] + 60)
    assert state(world, sandbox) == ("running", "running") and routed(world) == [sandbox.id]
    assert row.booted == container(world, sandbox).booted
    assert world.transitions.resume(sandbox, 5).ends_at == row.ends_at, "one that runs stays as it is"


@pytest.mark.parametrize(("timeout_s", "first", "second"), [(SAME, 60.0, 60.0), (7.0, 7.0, 7.0), (None, None, None)])
def test_a_time_given_to_resume_counts_from_then_on(
    world: World, timeout_s: float | None, first: float | None, second: float | None
) -> None:
    sandbox = brought(world, "paused", Claim(timeout_s=60))
    row = world.transitions.resume(sandbox, timeout_s)
    assert row.ends_at == (None if first is None else world.now[0] + first)
    world.transitions.stop(sandbox, "test")
    row = world.transitions.resume(sandbox)
    assert row.ends_at == (None if second is None else world.now[0] + second)


@pytest.mark.parametrize("from_state", ["running", "paused"])
def test_stop_ends_the_processes_and_keeps_the_disk(world: World, from_state: str) -> None:
    sandbox = brought(world, from_state)
    row = world.transitions.stop(sandbox, "why")
    assert (row.state, row.reason) == ("stopped", "why") and routed(world) == []
    assert state(world, sandbox) == ("stopped", "exited") and world.leftovers() == [sandbox.slot]
    assert world.transitions.stop(sandbox, "again").reason == "why"


def test_what_is_stopped_cannot_be_frozen(world: World) -> None:
    sandbox = brought(world, "stopped")
    with pytest.raises(Conflict, match=f"docker-sandbox start {sandbox.id}"):
        world.transitions.pause(sandbox)
    assert state(world, sandbox) == ("stopped", "exited")


def test_after_a_reboot_the_disk_is_mounted_before_the_start(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = brought(world, "stopped")
    world.mounts.reboot()
    mounted_at_start: list[list[str]] = []
    start = world.engine.start

    def starting(found: str) -> None:
        mounted_at_start.append(world.mounts.mounted())
        start(found)

    monkeypatch.setattr(world.engine, "start", starting)
    world.transitions.resume(sandbox)
    assert mounted_at_start == [[sandbox.slot]]


@pytest.mark.parametrize("frozen", [False, True])
def test_one_that_was_started_without_its_disk_is_started_again(world: World, frozen: bool) -> None:
    """Somebody was faster than us after a reboot: its /code is an empty directory of the host's."""
    sandbox = brought(world, "paused" if frozen else "running")
    world.mounts.reboot()
    world.engine.start(sandbox.id)
    before = container(world, sandbox).booted
    if frozen:
        world.engine.pause(sandbox.id)
        world.transitions.resume(sandbox)
    else:
        world.reconciler.tick()
    assert container(world, sandbox).booted != before and world.mounts.mounted() == [sandbox.slot]
    assert row_of(world, sandbox).booted == container(world, sandbox).booted


@pytest.mark.parametrize("action", ["pause", "stop"])
def test_a_gateway_that_is_down_keeps_nobody_from_pausing_or_stopping(world: World, action: str) -> None:
    sandbox = create(world)
    world.haproxy.stop()
    brought_to = world.transitions.pause(sandbox) if action == "pause" else world.transitions.stop(sandbox, "test")
    assert state(world, sandbox) == {"pause": ("paused", "paused"), "stop": ("stopped", "exited")}[action]
    assert brought_to.ends_at is None and world.config.gateway.routes_map.read_text() == ""


@pytest.mark.parametrize("from_state", ["paused", "stopped"])
def test_without_gateway_nothing_is_resumed(world: World, from_state: str) -> None:
    sandbox = brought(world, from_state)
    before = row_of(world, sandbox), container(world, sandbox)
    world.haproxy.stop()
    with pytest.raises(GatewayError):
        world.transitions.resume(sandbox)
    assert (row_of(world, sandbox), container(world, sandbox)) == before


def test_a_gateway_that_goes_away_in_the_middle_costs_no_process(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = brought(world, "paused")

    def fail(*_: object) -> None:
        raise GatewayError("HAProxy does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(world.gateway, "_put", fail)
        with pytest.raises(GatewayError):
            world.transitions.resume(sandbox)
    assert state(world, sandbox) == ("running", "running")
    world.reconciler.tick()
    assert state(world, sandbox) == ("running", "running") and routed(world) == [sandbox.id]


@pytest.mark.parametrize("trouble", ["unpause", "agent"])
def test_a_paused_one_that_cannot_run_is_paused_again(world: World, trouble: str) -> None:
    sandbox = brought(world, "paused", Claim(timeout_s=60))
    boot = container(world, sandbox).booted
    if trouble == "agent":
        world.dead.add(container(world, sandbox).address)
    else:
        world.engine.fail["unpause"] = refusal()
    with pytest.raises((EngineError, NotReady)):
        world.transitions.resume(sandbox, 5)
    assert state(world, sandbox) == ("paused", "paused") and container(world, sandbox).booted == boot
    row = row_of(world, sandbox)
    assert (row.timeout_s, row.ends_at) == (60, None)
    world.dead.clear()
    assert world.transitions.resume(sandbox).ends_at == world.now[0] + 60


@pytest.mark.parametrize("trouble", ["start", "mount", "agent"])
def test_a_stopped_one_that_cannot_run_is_stopped_again(world: World, trouble: str) -> None:
    sandbox = brought(world, "stopped")
    world.mounts.reboot()
    if trouble == "agent":
        world.dead.add(container(world, sandbox).address)
    elif trouble == "mount":
        world.mounts.fail["mount"] = HostError("mount: wrong fs type")
    else:
        world.engine.fail["start"] = refusal()
    with pytest.raises((EngineError, HostError, NotReady)):
        world.transitions.resume(sandbox)
    assert state(world, sandbox) == ("stopped", "exited") and row_of(world, sandbox).reason == "test"
    world.dead.clear()
    world.transitions.resume(sandbox)
    assert state(world, sandbox) == ("running", "running")


def test_a_volume_whose_file_is_gone_keeps_its_sandbox_stopped(world: World) -> None:
    sandbox = brought(world, "stopped", Claim(volume="data"))
    world.mounts.reboot()
    (world.config.state_dir / "volumes/data.img").unlink()
    with pytest.raises(HostError, match=r"data.img: .* is gone"):
        world.transitions.resume(sandbox)
    assert state(world, sandbox) == ("stopped", "exited")
    assert world.sandboxes.remove(sandbox, "test") and world.leftovers() == []


ACTIONS: dict[str, tuple[str, Callable[[World, Sandbox], Sandbox], str, str, list[str]]] = {
    "pause": ("running", lambda w, s: w.transitions.pause(s), "paused", "paused", ["container", "pause"]),
    "stop": ("paused", lambda w, s: w.transitions.stop(s, "x"), "stopped", "exited", ["container", "unpause", "stop"]),
    "resume": ("paused", lambda w, s: w.transitions.resume(s), "running", "running", ["container", "unpause"]),
    "start": ("stopped", lambda w, s: w.transitions.resume(s), "running", "running", ["container", "start"]),
}


@pytest.mark.parametrize(("action", "step"), [(name, step) for name, values in ACTIONS.items() for step in values[4]])
def test_what_docker_interrupts_is_finished_by_reconcile(world: World, action: str, step: str) -> None:
    """The ledger has changed first: a daemon that died at that step would leave the same."""
    begin, act, in_ledger, in_docker, _ = ACTIONS[action]
    sandbox = brought(world, begin)
    world.engine.fail[step] = down()
    with pytest.raises(EngineDown):
        act(world, sandbox)
    assert row_of(world, sandbox).state == in_ledger
    again = make_world(world.config, world.engine, world.haproxy, world.mounts)
    again.reconciler.tick()
    assert state(again, sandbox) == (in_ledger, in_docker)
    assert routed(again) == ([sandbox.id] if in_ledger == "running" else [])
    again.ledger.close()


def test_one_at_a_time_works_on_a_sandbox(world: World) -> None:
    sandbox = create(world)
    acts: list[Callable[[], object]] = [
        lambda: world.transitions.pause(sandbox),
        lambda: world.transitions.resume(sandbox),
        lambda: world.transitions.extend(sandbox, 60),
        world.reconciler.tick,
    ] * 6
    together = threading.Barrier(len(acts))

    def act(one: Callable[[], object]) -> None:
        together.wait(60)
        one()

    with ThreadPoolExecutor(len(acts)) as several:
        list(several.map(act, acts))
    world.reconciler.tick()
    in_ledger, in_docker = state(world, sandbox)
    assert in_ledger == in_docker and routed(world) == ([sandbox.id] if in_ledger == "running" else [])


def test_one_that_was_removed_meanwhile_is_not_found(world: World) -> None:
    sandbox = brought(world, "stopped", Claim())
    world.sandboxes.remove(sandbox, "test")
    acts: list[Callable[[], object]] = [
        lambda: world.transitions.pause(sandbox),
        lambda: world.transitions.resume(sandbox),
        lambda: world.transitions.stop(sandbox, "x"),
        lambda: world.transitions.extend(sandbox, 1),
        lambda: world.transitions.grow(sandbox, 20480),
    ]
    for act in acts:
        with pytest.raises(NotFound, match="removed meanwhile"):
            act()
    world.transitions.enforce(sandbox)
    assert world.engine.empty() and world.leftovers() == []


def test_a_removal_waits_for_a_resume_and_takes_everything(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = brought(world, "stopped")
    starting, go_on = threading.Event(), threading.Event()
    start = world.engine.start

    def slow(found: str) -> None:
        starting.set()
        assert go_on.wait(120), "longer than the test looks"
        start(found)

    monkeypatch.setattr(world.engine, "start", slow)
    with ThreadPoolExecutor(2) as several:
        resumed = several.submit(world.transitions.resume, sandbox)
        assert starting.wait(30)
        removed = several.submit(world.sandboxes.remove, sandbox, "test")
        go_on.set()
        assert resumed.result(30).state == "running" and removed.result(30)
    assert world.engine.empty() and world.leftovers() == [] and routed(world) == []


def test_extend_counts_from_now_while_it_runs(world: World) -> None:
    sandbox = create(world, Claim(timeout_s=60))
    world.now[0] += 59
    assert world.transitions.extend(sandbox, 100).ends_at == world.now[0] + 100
    world.now[0] += 99
    world.reconciler.expire()
    assert world.transitions.extend(sandbox, None).ends_at is None
    world.now[0] += 1e6
    world.reconciler.expire()
    assert state(world, sandbox) == ("running", "running")


@pytest.mark.parametrize("in_state", ["paused", "stopped"])
def test_extend_of_one_that_does_not_run_is_for_its_resume(world: World, in_state: str) -> None:
    sandbox = brought(world, in_state, Claim(timeout_s=60))
    assert world.transitions.extend(sandbox, 100).ends_at is None
    world.now[0] += 1e6
    world.reconciler.expire()
    assert world.transitions.resume(sandbox).ends_at == world.now[0] + 100


def test_an_extension_that_comes_just_before_the_end_is_honoured(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The removal has read the old end already."""
    sandbox = create(world, Claim(timeout_s=60))
    world.now[0] += 61
    expired = world.ledger.expired

    def slow(now: float) -> list[Sandbox]:
        found = expired(now)
        world.transitions.extend(sandbox, 100)
        return found

    monkeypatch.setattr(world.ledger, "expired", slow)
    world.reconciler.expire()
    assert state(world, sandbox) == ("running", "running")


def image(world: World, sandbox: Sandbox) -> Path:
    return world.sandboxes.disks.file(sandbox.slot, sandbox.volume)


@pytest.mark.parametrize("in_state", ["running", "paused", "stopped"])
@pytest.mark.parametrize("volume", ["", "data"])
def test_a_disk_grows_in_every_state(world: World, in_state: str, volume: str) -> None:
    sandbox = brought(world, in_state, Claim(disk_mb=100, volume=volume))
    assert world.transitions.grow(sandbox, 200).disk_mb == 200
    assert image(world, sandbox).stat().st_size == 200 * 1024 * 1024
    assert [found.size_mb for found in world.ledger.volumes()] == ([200] if volume else [])
    assert (world.mounts.mounted() == []) == (in_state == "stopped")
    world.transitions.resume(sandbox)
    assert world.mounts.mounted() == [sandbox.slot]


def test_disks_only_grow(world: World) -> None:
    sandbox = brought(world, "stopped", Claim(disk_mb=100))
    with pytest.raises(Conflict, match="has 100 MB already"):
        world.transitions.grow(sandbox, 99)
    world.mounts.fail["sh"] = HostError("e2fsck: bad")
    with pytest.raises(HostError):
        world.transitions.grow(sandbox, 200)
    assert row_of(world, sandbox).disk_mb == 100
    assert world.transitions.grow(sandbox, 150).disk_mb == 150
    assert world.mounts.commands[-1][-1] == "150M", "and not as large as the file is since the failure"


def test_a_stop_that_docker_refused_is_made_up_for_before_the_disk_is_touched(world: World) -> None:
    """e2fsck under a running container would cost its files."""
    sandbox = create(world)
    world.engine.fail["stop"] = down()
    with pytest.raises(EngineDown):
        world.transitions.stop(sandbox, "test")
    before = len(world.mounts.commands)
    world.engine.fail["stop"] = refusal()
    with pytest.raises(EngineError):
        world.transitions.grow(sandbox, 20480)
    assert world.mounts.commands[before:] == [] and state(world, sandbox) == ("stopped", "running")
    world.transitions.grow(sandbox, 20480)
    assert state(world, sandbox) == ("stopped", "exited") and row_of(world, sandbox).disk_mb == 20480


def older(world: World, in_state: str) -> Sandbox:
    """A sandbox of the release before, whose /code is a Docker volume."""
    sandbox = create(world)
    world.sandboxes.disks.remove(sandbox.slot)
    world.mounts.commands.clear()
    world.ledger._db.execute("UPDATE sandboxes SET disk_mb = 0")
    sandbox = row_of(world, sandbox)
    if in_state == "stopped":
        return world.transitions.stop(sandbox, "test")
    return world.transitions.pause(sandbox) if in_state == "paused" else sandbox


@pytest.mark.parametrize("in_state", ["paused", "stopped"])
def test_a_sandbox_without_a_disk_is_paused_and_started_like_any_other(world: World, in_state: str) -> None:
    sandbox = older(world, in_state)
    assert world.transitions.resume(sandbox).state == "running"
    world.engine.stop(sandbox.id)
    world.reconciler.tick()
    assert state(world, sandbox) == ("running", "running") and world.mounts.commands == []
    with pytest.raises(Conflict, match="release without disks"):
        world.transitions.grow(sandbox, 20480)


def test_a_container_that_is_gone_is_said_and_left_to_reconcile(world: World) -> None:
    sandbox = brought(world, "stopped")
    world.engine.remove_container(sandbox.id)
    with pytest.raises(EngineError, match="is gone"):
        world.transitions.resume(sandbox)
    assert row_of(world, sandbox).state == "stopped"
    world.reconciler.tick()
    assert row_of(world, sandbox).state == "gone" and world.leftovers() == []


def test_one_whose_processes_end_while_it_is_paused_is_stopped(world: World) -> None:
    sandbox = brought(world, "paused")
    world.engine.containers[sandbox.id] = replace(container(world, sandbox), running=False, paused=False)
    world.transitions.enforce(sandbox)
    row = row_of(world, sandbox)
    assert row.state == "stopped" and "host restarted" in row.reason


def test_who_may_open_it_is_in_its_route_at_once(world: World) -> None:
    sandbox = create(world)
    row = world.transitions.open_to(sandbox, "basic", "digest")
    assert (row.access, row.access_round, row.password_digest) == ("basic", 1, "digest")
    assert dict(world.haproxy.map)[sandbox.id] == f"{sandbox.address}|digest||basic"
    world.haproxy.stop()
    with pytest.raises(GatewayError):
        world.transitions.open_to(sandbox, "public")
    assert f"{sandbox.id} {sandbox.address}\n" in world.config.gateway.routes_map.read_text(), "for when it comes up"
    world.sandboxes.remove(sandbox, "test")
    with pytest.raises(NotFound):
        world.transitions.open_to(sandbox, "token")


def test_one_that_was_used_meanwhile_is_not_paused(world: World) -> None:
    sandbox = create(world, Claim(idle_pause_s=10))
    world.ledger.set_active({sandbox.slot: "mark"}, world.now[0] + 1)
    assert not world.transitions.pause_idle(sandbox, "idle", lambda: True)
    assert state(world, sandbox) == ("running", "running")
    assert world.transitions.pause_idle(row_of(world, sandbox), "idle", lambda: True)
    assert state(world, sandbox) == ("paused", "paused") and row_of(world, sandbox).reason == "idle"
    assert not world.transitions.pause_idle(row_of(world, sandbox), "idle", lambda: True), "nothing is left to do"
