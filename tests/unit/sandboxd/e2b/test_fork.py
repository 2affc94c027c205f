"""POST /sandboxes/{id}/fork."""

from dataclasses import fields
from typing import Any

import pytest

from sandboxd.e2b.fork import inherited
from sandboxd.records import Claim
from tests.unit.sandboxd.conftest import World
from tests.unit.sandboxd.e2b.conftest import Public
from tests.unit.sandboxd.fake_engine import refusal


def fork(public: Public, sandbox_id: str, **body: Any) -> list[dict[str, Any]]:
    answer = public.http.post(f"/sandboxes/{sandbox_id}/fork", json=body)
    assert answer.status_code == 201, answer.text
    return list(answer.json())


def nothing_stays(world: World) -> None:
    assert world.ledger.templates() == {} and not [*world.config.state_dir.glob("snapshots/*")]
    assert world.ledger.unused() == {} and set(world.engine.images) == {"base:1", "large:1"}


def test_copies_have_its_files_and_what_it_was_given(public: Public, world: World) -> None:
    public.http.post("/volumes", json={"name": "data"})
    mounts = [{"name": "data", "path": "/mnt/data"}]
    parent = public.create(
        templateID="large", metadata={"a": "b"}, envVars={"X": "1"}, autoPause=True, volumeMounts=mounts
    )["sandboxID"]
    row = world.ledger.find(parent)[0]
    world.sandboxes.disks.file(row.slot, "").write_text("its files")
    copies = fork(public, parent, timeout=60, count=2)
    assert len(copies) == 2 and not world.engine.containers[parent].paused
    for copy in copies:
        (made,) = world.ledger.find(copy["sandbox"]["sandboxID"])
        assert copy["sandbox"]["envdAccessToken"] and copy["sandbox"]["templateID"] == "large"
        assert (made.metadata, made.envs, made.owner, made.on_timeout) == ({"a": "b"}, {"X": "1"}, "team", "pause")
        assert (made.timeout_s, made.mounts, made.template, made.memory_mb) == (60, row.mounts, "large", 8192)
        with world.sandboxes.disks.file(made.slot, "").open("rb") as disk:
            assert disk.read(9) == b"its files"
    assert public.http.get("/templates").json() and public.http.get("/snapshots").json() == []
    assert not [*world.config.state_dir.glob("snapshots/*")]
    nothing_stays(world)


def test_its_image_goes_when_the_engine_lets_it(public: Public, world: World) -> None:
    parent = public.create()["sandboxID"]
    world.engine.fail["remove_image"] = refusal()  # as long as a sandbox is made from it
    fork(public, parent)
    assert len(world.ledger.unused()) == 1
    world.reconciler.tick()
    nothing_stays(world)


def test_the_default_is_one_copy_of_a_short_life(public: Public, world: World) -> None:
    parent = public.create()["sandboxID"]
    answer = public.http.post(f"/sandboxes/{parent}/fork")
    (copy,) = answer.json()
    assert world.ledger.find(copy["sandbox"]["sandboxID"])[0].timeout_s == 15


def test_each_copy_fails_on_its_own(world: World) -> None:
    small = Public(world, "small", max_sandboxes=3)
    parent = small.create()["sandboxID"]
    copies = fork(small, parent, count=4)
    errors = [copy["error"] for copy in copies if "error" in copy]
    assert len(errors) == 2 and all(one["code"] == 429 and "may have 3" in one["message"] for one in errors)
    assert world.ledger.count_of("small") == 3
    small.refused("POST", f"/sandboxes/{parent}/fork", 429)
    nothing_stays(world)


def test_a_copy_that_cannot_be_made(public: Public, world: World) -> None:
    parent = public.create()["sandboxID"]
    world.engine.fail["create_container"] = refusal()
    first, second = fork(public, parent, count=2)
    assert {"error", "sandbox"} == {*first, *second}
    world.engine.fail["commit"] = refusal()
    public.refused("POST", f"/sandboxes/{parent}/fork", 503)
    assert not world.engine.containers[parent].paused
    nothing_stays(world)


@pytest.mark.parametrize("state", ["paused", "stopped"])
def test_one_that_does_not_run_has_files_too(public: Public, world: World, state: str) -> None:
    parent = public.create()["sandboxID"]
    public.http.post(f"/sandboxes/{parent}/pause", json={"memory": state == "paused"})
    (copy,) = fork(public, parent)
    assert world.ledger.find(copy["sandbox"]["sandboxID"])[0].state == "running"
    assert world.ledger.find(parent)[0].state == state


@pytest.mark.parametrize("body", [{"count": 0}, {"count": 21}, {"count": "1"}, {"timeout": 0}, {"timeout": "x"}])
def test_wrong_values(public: Public, world: World, body: dict[str, Any]) -> None:
    parent = public.create()["sandboxID"]
    public.refused("POST", f"/sandboxes/{parent}/fork", 400, json=body)
    Public(world, "other").refused("POST", f"/sandboxes/{parent}/fork", 404)
    public.refused("POST", "/sandboxes/none/fork", 404)
    assert len(world.engine.containers) == 1


def test_a_copy_of_a_template_that_is_gone(public: Public, world: World) -> None:
    world.templates.snapshot(world.sandboxes.create(world.config.templates["base"], Claim()), "ready")
    parent = public.create(templateID="ready")["sandboxID"]
    with world.ledger._transaction():
        world.ledger._db.execute("DELETE FROM templates")
    (copy,) = fork(public, parent)
    assert copy["sandbox"]["templateID"] == "ready"


def test_all_that_a_claim_can_hold_is_inherited(public: Public, world: World) -> None:
    """Else a copy could lack a wall that its parent has."""
    (row,) = world.ledger.find(public.create()["sandboxID"])
    assert all(hasattr(row, one.name) for one in fields(Claim))
    claim = inherited(row, 5)
    for name in ("metadata", "envs", "owner", "on_timeout", "mounts"):
        assert getattr(claim, name) == getattr(row, name)
    assert (claim.timeout_s, claim.request, claim.volume) == (5, "", "") and not claim.shared


def test_a_daemon_that_ends_half_way_leaves_a_note(public: Public, world: World) -> None:
    row = world.ledger.find(public.create()["sandboxID"])[0]
    with world.templates.copy(row) as template:
        assert template.disk is not None and template.disk.exists()
        world.reconciler.tick()
        assert template.disk.exists(), "it is in use"
        world.templates._copies.clear()  # as another daemon would begin
        world.reconciler.tick()
        assert not template.disk.exists()
        nothing_stays(world)
