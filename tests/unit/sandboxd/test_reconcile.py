"""The loop that compares the world with the ledger, and those who give it cause."""

import threading

import pytest

from sandboxd.errors import HostError
from sandboxd.records import Claim, Sandbox
from tests.unit.sandboxd.conftest import World, until
from tests.unit.sandboxd.fake_engine import down, refusal


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


def in_state(world: World, state: str, claim: Claim | None = None) -> Sandbox:
    sandbox = create(world, claim)
    if state == "paused":
        return world.transitions.pause(sandbox)
    return world.transitions.stop(sandbox, "test") if state == "stopped" else sandbox


def test_the_loop_goes_on_after_a_failure_and_removes_what_ends(world: World) -> None:
    world.reconciler.tick()
    world.engine.fail["inventory"] = refusal()
    world.reconciler.start()
    until(lambda: "reconcile" in world.health.troubles(), "the report")
    sandbox = create(world, Claim(timeout_s=5))
    world.now[0] += 6
    world.reconciler.wake()
    until(lambda: sandbox.id not in world.engine.containers, "the end of the sandbox")


def test_a_stop_that_comes_when_a_wake_is_forgotten_is_not_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wake(threading.Event):
        def clear(self) -> None:
            world.reconciler._stopped.set()
            self.set()
            super().clear()

    monkeypatch.setattr(world.reconciler, "_wake", Wake())
    world.reconciler.start()
    world.reconciler._thread.join(20)  # less than the loop waits, unless somebody wakes it
    assert not world.reconciler._thread.is_alive()


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
    with world.sandboxes.locks.hold("slot"), world.sandboxes.locks.hold("next"):
        for slot in ("slot", "next"):
            world.engine.events.put(slot)
        until(world.engine.events.empty, "the first event heard")  # once the next one is taken
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
    world.reconciler.tick()
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


def test_docker_unpausing_is_noticed_at_once(world: World, quick: None) -> None:
    world.reconciler.start()
    until(lambda: bool(world.ledger.setting("may_sweep")), "the first comparison")
    sandbox = in_state(world, "paused")
    world.engine.unpause(sandbox.id)
    world.engine.events.put(sandbox.slot)
    until(lambda: world.engine.containers[sandbox.id].paused, "the sandbox paused again")


def test_docker_unpausing_while_we_work_on_the_sandbox_is_noticed_when_we_are_done(world: World, quick: None) -> None:
    world.reconciler.start()
    until(lambda: bool(world.ledger.setting("may_sweep")), "the first comparison")
    sandbox = in_state(world, "paused")
    with world.sandboxes.locks.hold(sandbox.slot):
        world.engine.unpause(sandbox.id)
        world.engine.events.put(sandbox.slot)
        until(lambda: sandbox.slot in world.reconciler._busy, "the event heard")
    until(lambda: world.engine.containers[sandbox.id].paused, "the sandbox paused again")
