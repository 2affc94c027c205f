"""What sandboxes write outside /code, and how much of the host's disk is left."""

from dataclasses import replace

import pytest

from sandboxd.errors import HostError
from sandboxd.records import Claim, MadeTemplate, Sandbox
from sandboxd.watchdog import CRITICAL_MB, GRACE_S, LOOK_ANYWAY_S, LOST_MB, MIB
from tests.unit.sandboxd.conftest import World, until
from tests.unit.sandboxd.fake_engine import refusal

LIMIT_MB = 10240


def used(world: World) -> Sandbox:
    return world.sandboxes.create(world.config.templates["base"], Claim())


def free(world: World) -> int:
    """MB on the file system of Docker's data root."""
    return world.disk_mb.get("docker", 100_000)


def write(world: World, sandbox: Sandbox, layer_mb: int) -> None:
    """So much is in the layer now, and is missing on the host's disk."""
    before = world.engine.layers.get(sandbox.id, 0) // MIB
    world.engine.layers[sandbox.id] = layer_mb * MIB
    world.disk_mb["docker"] = free(world) - (layer_mb - before)


def refuse() -> int:
    raise refusal()


def state(world: World, sandbox: Sandbox) -> tuple[str, str]:
    row = world.ledger.get(sandbox.slot)
    assert row is not None
    return row.state, row.reason


def test_a_sandbox_at_its_limit_is_stopped_and_says_why(world: World) -> None:
    world.disk_mb["docker"] = 1_000_000
    greedy, modest = used(world), used(world)
    world.watchdog.tick()
    write(world, greedy, LIMIT_MB + 1)
    write(world, modest, LIMIT_MB)
    world.watchdog.tick()
    assert state(world, greedy) == ("stopped", "its files outside /code take 10241 MB, and 10240 MB is the limit")
    assert not world.engine.containers[greedy.id].running
    assert state(world, modest) == ("running", "")


def test_it_can_be_started_again_to_clean_up_but_not_for_long(world: World) -> None:
    world.disk_mb["docker"] = 1_000_000
    sandbox = used(world)
    world.watchdog.tick()
    write(world, sandbox, LIMIT_MB + 1)
    world.watchdog.tick()
    world.transitions.resume(sandbox)
    world.now[0] += LOOK_ANYWAY_S  # nothing calls for a look before
    world.watchdog.tick()
    assert state(world, sandbox)[0] == "running"
    world.now[0] += GRACE_S - 1
    world.watchdog.tick()
    assert state(world, sandbox)[0] == "running"
    world.now[0] += 1
    world.watchdog.tick()
    assert state(world, sandbox)[0] == "stopped"


@pytest.mark.parametrize("name", ["made", "forgotten"])
def test_other_templates_have_the_limit_of_their_base_or_of_the_default_one(world: World, name: str) -> None:
    """One that was made on this host, and one that a deploy took away."""
    base = world.config.templates["base"]
    world.ledger.add_template(MadeTemplate("made", "base:1", "base", 0, 1.0))
    template = world.sandboxes.template(name) if name == "made" else replace(base, name=name)
    sandbox = world.sandboxes.create(template, Claim())
    write(world, sandbox, LIMIT_MB + 1)
    world.watchdog.look()
    assert state(world, sandbox)[0] == "stopped"


def test_one_that_was_never_measured_before_is_stopped_at_once(world: World) -> None:
    world.disk_mb["docker"] = 1_000_000
    sandbox = used(world)
    write(world, sandbox, LIMIT_MB + 1)
    world.watchdog.tick()
    assert state(world, sandbox)[0] == "stopped"


def test_who_cleans_up_in_time_goes_on(world: World) -> None:
    world.disk_mb["docker"] = 1_000_000
    sandbox = used(world)
    write(world, sandbox, LIMIT_MB + 1)
    world.watchdog.tick()
    world.transitions.resume(sandbox)
    world.now[0] += LOOK_ANYWAY_S
    world.watchdog.tick()
    write(world, sandbox, 10)
    world.watchdog.tick()
    world.now[0] += 2 * GRACE_S
    world.watchdog.tick()
    assert state(world, sandbox) == ("running", "")


def test_nothing_is_measured_without_cause(world: World) -> None:
    """Measuring costs a walk through each layer."""
    used(world)
    world.watchdog.tick()
    world.engine.fail["layer_bytes"] = refusal()
    world.disk_mb["docker"] = free(world) - (LOST_MB - 1)
    world.watchdog.tick()
    assert "layer_bytes" in world.engine.fail
    world.disk_mb["docker"] = free(world) - (1)
    world.watchdog.tick()
    assert "layer_bytes" not in world.engine.fail


@pytest.mark.parametrize("step_s", [LOOK_ANYWAY_S, -90_000.0])
def test_after_a_while_it_looks_anyway_also_when_the_clock_was_set_back(world: World, step_s: float) -> None:
    used(world)
    world.watchdog.tick()
    world.engine.fail["layer_bytes"] = refusal()
    world.now[0] += step_s
    world.watchdog.tick()
    assert "layer_bytes" not in world.engine.fail


def test_when_the_host_is_nearly_full_who_wrote_most_is_stopped(world: World) -> None:
    first, second = used(world), used(world)
    write(world, first, 5000)  # long ago
    world.watchdog.tick()
    write(world, second, 300)
    world.disk_mb["docker"] = CRITICAL_MB - 1
    world.watchdog.tick()
    assert state(world, second)[0] == "stopped" and "host's disk has 1535 MB left" in state(world, second)[1]
    assert state(world, first)[0] == "running"
    assert "disk" in world.health.troubles()
    world.watchdog.tick()
    assert state(world, first)[0] == "running", "who writes nothing is not to blame"
    world.disk_mb["docker"] = 100_000
    world.watchdog.tick()
    assert "disk" not in world.health.troubles()


def test_what_one_had_before_it_could_not_be_measured_is_not_of_late(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = used(world), used(world)
    write(world, first, 5000)
    world.watchdog.look()
    measure = world.engine.layer_bytes
    monkeypatch.setattr(world.engine, "layer_bytes", lambda id: measure(id) if id == second.id else refuse())
    world.watchdog.look()
    monkeypatch.setattr(world.engine, "layer_bytes", measure)
    write(world, second, 300)
    world.disk_mb["docker"] = CRITICAL_MB - 1
    world.watchdog.look()
    assert (state(world, first)[0], state(world, second)[0]) == ("running", "stopped")


def test_what_is_written_to_code_counts_for_the_host(world: World) -> None:
    sandbox = used(world)
    world.watchdog.tick()
    world.sandboxes.disks.file(sandbox.slot, "").write_bytes(b"x" * 3 * MIB)
    world.disk_mb["docker"] = CRITICAL_MB - 1
    world.watchdog.tick()
    assert state(world, sandbox)[0] == "stopped"


def test_a_sandbox_that_is_removed_meanwhile_is_no_trouble(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.disk_mb["docker"] = 1_000_000
    sandbox = used(world)
    world.watchdog.tick()
    write(world, sandbox, LIMIT_MB + 1)
    measure = world.engine.layer_bytes

    def remove_first(container: str) -> int:
        found = measure(container)
        world.sandboxes.remove(sandbox, "test")
        return found

    monkeypatch.setattr(world.engine, "layer_bytes", remove_first)
    world.watchdog.tick()
    assert state(world, sandbox) == ("gone", "test")


def test_one_that_cannot_be_measured_hides_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.disk_mb["docker"] = 1_000_000
    unknown, greedy = used(world), used(world)
    write(world, greedy, LIMIT_MB + 1)
    measure = world.engine.layer_bytes

    def refusing(container: str) -> int:
        if container == unknown.id:
            raise refusal()
        return measure(container)

    monkeypatch.setattr(world.engine, "layer_bytes", refusing)
    world.watchdog.tick()
    assert state(world, unknown) == ("running", "") and state(world, greedy)[0] == "stopped"
    assert world.health.troubles()["layers"] == f"sandbox {unknown.id} cannot be measured: Docker refuses."
    monkeypatch.setattr(world.engine, "layer_bytes", measure)
    world.watchdog.look()
    assert "layers" not in world.health.troubles()


def test_the_thread_goes_on_after_a_failure(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandboxd.watchdog.EVERY_S", 0.01)
    used(world)
    world.engine.fail["layer_bytes"] = HostError("of the host's")
    world.watchdog.start()
    try:
        until(lambda: "layer_bytes" not in world.engine.fail, "a look that failed")
        until(lambda: "watchdog" not in world.health.troubles(), "a look that did not")
    finally:
        world.watchdog.stop()
