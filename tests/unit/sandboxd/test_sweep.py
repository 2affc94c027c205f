"""What nobody knows is removed from the host, once it is old, and never what somebody has."""

import time
from pathlib import Path

import pytest

from sandboxd.engine import Found
from sandboxd.errors import HostError
from sandboxd.records import Claim, Sandbox
from tests.unit.sandboxd.conftest import World, member
from tests.unit.sandboxd.fake_engine import refusal
from tests.unit.sandboxd.test_reconcile import create

LOST = "feedfeedfeed"  # a slot that no ledger knows


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


def later(world: World) -> None:
    """Files have the real time, whatever that of the doubles is: an hour after them."""
    world.now[0] = time.time() + 3600


def leave_files(world: World, slot: str) -> list[Path]:
    """What a lost sandbox of that slot would leave on the host."""
    state = world.config.state_dir
    paths = [
        state / f"disks/{slot}.img",
        state / f"disks/{slot}.new",
        state / f"mounts/{slot}/x",
        state / f"sandboxes/{slot}/x",
    ]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    for path in paths[:2]:
        path.touch()
    (state / f"sandboxes/{slot}/agent.json").touch()
    world.mounts.run(["mount", str(state / f"disks/{slot}.img"), str(state / f"mounts/{slot}")])
    return paths


def test_files_mounts_and_directories_that_nobody_knows_are_swept(world: World) -> None:
    world.now[0] = time.time()
    known = create(world)
    world.reconciler.tick()
    leave_files(world, LOST)
    world.reconciler.tick()
    assert world.leftovers() == sorted([known.slot, LOST]), "young ones may be somebody's who is just beginning"
    world.now[0] += 3600
    world.reconciler.tick()
    assert world.leftovers() == [known.slot] and world.mounts.mounted() == [known.slot]


def test_what_cannot_be_unmounted_is_tried_again(world: World) -> None:
    world.reconciler.tick()
    leave_files(world, LOST)
    later(world)
    world.mounts.fail["umount"] = HostError("umount: target is busy")
    world.reconciler.tick()
    assert LOST in world.leftovers()
    world.reconciler.tick()
    assert world.leftovers() == []


def test_no_volume_and_no_file_of_another_name_is_swept(world: World) -> None:
    volume, sandbox = create(world, Claim(volume="data")), create(world)
    world.reconciler.tick()
    state = world.config.state_dir
    others = [state / "volumes/unknown.img", state / f"disks/{sandbox.slot}.img.bak", state / "disks/notes.txt"]
    for path in others:
        path.touch()
    (state / "mounts/mine").mkdir()
    world.sandboxes.remove(volume, "test")
    later(world)
    world.reconciler.tick()
    world.reconciler.sweep_unknown()
    assert all(path.exists() for path in [*others, state / "volumes/data.img", state / f"disks/{sandbox.slot}.img"])
    assert (state / "mounts/mine").is_dir() and world.mounts.mounted() == [sandbox.slot]


def test_files_count_when_a_new_ledger_is_met(world: World) -> None:
    leave_files(world, LOST)
    later(world)
    world.reconciler.tick()
    assert "2 containers, networks, volumes or disks" in world.health.troubles()["sweep"]
    assert world.leftovers() == [LOST]
    world.reconciler.sweep_unknown()
    assert world.leftovers() == [] and "sweep" not in world.health.troubles()


def test_a_sandbox_that_is_made_while_the_sweep_begins_keeps_its_disk(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--unknown knows no grace: what it has found must be looked up after it was found."""
    made: list[Sandbox] = []
    slots = world.sandboxes.disks.slots

    def creating() -> dict[str, float]:
        made.append(create(world))
        return slots()

    monkeypatch.setattr(world.sandboxes.disks, "slots", creating)
    later(world)
    world.reconciler.sweep_unknown()
    assert world.leftovers() == [made[0].slot] and world.mounts.mounted() == [made[0].slot]
