"""Templates that are made on this host: snapshots, builds, removal; by the life cycle, and by the API."""

import json
from pathlib import Path

import pytest

from sandboxd.errors import BadRequest, Conflict, EngineError, NotFound
from sandboxd.records import Claim, Sandbox
from sandboxd.templates import Templates
from tests.unit.sandboxd.clients import Direct
from tests.unit.sandboxd.conftest import World
from tests.unit.sandboxd.fake_engine import refusal


@pytest.fixture
def templates(world: World) -> Templates:
    return Templates(world.sandboxes)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    file = tmp_path / "context.tar"
    file.write_text("a Dockerfile")
    return file


def used(world: World, **claim: str) -> Sandbox:
    return world.sandboxes.create(world.config.templates["base"], Claim(**claim))  # type: ignore[arg-type]


def nothing_was_made(world: World) -> None:
    assert world.ledger.templates() == {} and set(world.engine.images) == {"base:1", "large:1"}
    assert not [*world.config.state_dir.glob("snapshots/*")]


def test_a_snapshot_has_image_and_disk_and_can_be_used(world: World, templates: Templates) -> None:
    sandbox = used(world)
    world.sandboxes.disks.file(sandbox.slot, "").write_text("its files")
    made = templates.snapshot(sandbox, "ready")
    assert (made.name, made.base, made.disk_mb) == ("ready", "base", 10240)
    assert not world.engine.containers[sandbox.id].paused, "it runs on"
    template = world.sandboxes.template("ready")
    assert (template.image, template.memory_mb) == (made.image, 2048)
    again = world.sandboxes.create(template, Claim())
    assert world.engine.payloads[-1]["Image"] == made.image
    with world.sandboxes.disks.file(again.slot, "").open("rb") as disk:
        assert disk.read(9) == b"its files"
    assert again.template == "ready"


def test_a_claimer_gets_a_made_template_though_it_has_no_pool(world: World, templates: Templates) -> None:
    templates.snapshot(used(world), "ready")
    world.pool.enable()
    found = world.pool.obtain("ready", Claim())
    assert (found.template, found.origin) == ("ready", "cold")


@pytest.mark.parametrize("state", ["paused", "stopped"])
def test_one_that_does_not_run_stays_so(world: World, templates: Templates, state: str) -> None:
    sandbox = used(world)
    if state == "paused":
        world.transitions.pause(sandbox)
    else:
        world.transitions.stop(sandbox, "test")
    templates.snapshot(sandbox, "ready")
    row = world.ledger.get(sandbox.slot)
    assert row is not None and row.state == state
    assert world.engine.containers[sandbox.id].paused == (state == "paused")


def test_a_snapshot_of_a_snapshot_has_the_limits_of_the_first(world: World, templates: Templates) -> None:
    templates.snapshot(used(world), "one")
    second = world.sandboxes.create(world.sandboxes.template("one"), Claim())
    assert templates.snapshot(second, "two").base == "base"


@pytest.mark.parametrize("step", ["commit", "cp"])
def test_a_snapshot_that_fails_leaves_nothing(world: World, templates: Templates, step: str) -> None:
    sandbox = used(world)
    (world.mounts if step == "cp" else world.engine).fail[step] = refusal()
    with pytest.raises(EngineError):
        templates.snapshot(sandbox, "ready")
    nothing_was_made(world)
    assert not world.engine.containers[sandbox.id].paused


def test_names_are_taken_once(world: World, templates: Templates, context: Path) -> None:
    sandbox = used(world)
    templates.snapshot(sandbox, "ready")
    for name in ("ready", "base"):
        with pytest.raises(Conflict, match=f"template '{name}' already"):
            templates.snapshot(sandbox, name)
        with pytest.raises(Conflict, match=f"template '{name}' already"):
            list(templates.build(name, "base", context))


def test_a_build_is_tried_before_it_is_offered(world: World, templates: Templates, context: Path) -> None:
    lines = list(templates.build("tools", "base", context))
    assert lines[0] == b"building from base:1: a Dockerfile\n"
    assert world.sandboxes.template("tools").image == world.ledger.templates()["tools"].image
    assert world.engine.payloads[-1]["Image"] == world.ledger.templates()["tools"].image
    assert world.ledger.rows() == [] and world.leftovers() == []


def test_a_build_that_fails_leaves_nothing(world: World, templates: Templates, context: Path) -> None:
    world.engine.fail["build"] = refusal()
    with pytest.raises(EngineError):
        list(templates.build("tools", "base", context))
    nothing_was_made(world)


def test_an_image_in_which_no_agent_answers_is_no_template(world: World, templates: Templates, context: Path) -> None:
    world.dead.update(f"10.200.0.{number}" for number in range(1, 20))
    with pytest.raises(Exception, match="agent does not answer"):
        list(templates.build("tools", "base", context))
    nothing_was_made(world)


def test_removal(world: World, templates: Templates) -> None:
    templates.snapshot(used(world), "ready")
    user = world.sandboxes.create(world.sandboxes.template("ready"), Claim())
    with pytest.raises(Conflict, match=f"in use by {user.id}"):
        templates.remove("ready")
    world.sandboxes.remove(user, "test")
    templates.remove("ready")
    nothing_was_made(world)
    with pytest.raises(NotFound, match="template 'ready' not found"):
        templates.remove("ready")
    with pytest.raises(BadRequest, match="settings"):
        templates.remove("base")


def test_the_api(world: World) -> None:
    client = Direct(world)
    sandbox = client.create()["sandboxID"]
    assert client.unix.post(f"/sandboxes/{sandbox}/snapshots", json={"name": "Bad"}).status_code == 400
    made = client.unix.post(f"/sandboxes/{sandbox}/snapshots", json={"name": "ready"})
    assert made.status_code == 201 and made.json()["kind"] == "snapshot"
    kinds = {one["templateID"]: one["kind"] for one in client.unix.get("/templates").json()}
    assert kinds == {"base": "configured", "large": "configured", "ready": "snapshot"}
    built = client.unix.post("/templates/tools/build", content=b"x" * 3_000_000)
    lines = [json.loads(line) for line in built.text.splitlines()]
    assert "line" in lines[0] and lines[-1]["template"]["templateID"] == "tools"
    again = client.unix.post("/templates/tools/build", content=b"x")
    assert "already" in json.loads(again.text.splitlines()[-1])["error"]
    assert client.unix.post("/templates/Bad/build", content=b"x").status_code == 400
    assert not [*world.config.state_dir.glob("context-*")], "what was sent is removed"
    for name in ("ready", "tools"):
        assert client.unix.delete(f"/templates/{name}").status_code == 204
    assert client.unix.delete("/templates/base").status_code == 400


def test_builds_wait_for_each_other(world: World, templates: Templates, context: Path) -> None:
    first, second = templates.build("one", "base", context), templates.build("two", "base", context)
    assert next(first).startswith(b"building from")
    assert next(second) == b"waiting for the end of another build\n"
    list(first)
    assert next(second).startswith(b"building from")
    list(second)
    assert set(world.ledger.templates()) == {"one", "two"}


def test_a_build_that_nobody_waits_for_leaves_its_turn(world: World, templates: Templates, context: Path) -> None:
    first = templates.build("one", "base", context)
    next(first)
    first.close()  # type: ignore[attr-defined]
    assert next(templates.build("two", "base", context)).startswith(b"building from")


def test_a_build_ends_with_the_daemon(world: World, templates: Templates, context: Path) -> None:
    build = templates.build("one", "base", context)
    next(build)
    templates.end_builds()
    with pytest.raises(EngineError, match="was ended: sandboxd is being stopped"):
        list(build)


def test_a_build_ends_when_the_disk_gets_full_or_after_its_time(
    world: World, templates: Templates, context: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.disk_mb["docker"] = 1
    with pytest.raises(EngineError, match="was ended: this host is full: 1 MB are free"):
        list(templates.build("one", "base", context))
    world.disk_mb.clear()
    build = templates.build("one", "base", context)
    next(build)
    monkeypatch.setattr("sandboxd.templates.time.monotonic", lambda: 1e12)
    with pytest.raises(EngineError, match="was ended: it took longer than build_timeout_s allows, 60 s"):
        list(build)
    assert world.ledger.templates() == {} and set(world.engine.images) == {"base:1", "large:1"}
