"""Several pools: who is filled first, one for itself, other sizes, and races of all that at the same time."""

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from sandboxd import pool
from sandboxd.config import Config
from sandboxd.errors import BadRequest, NotFound
from sandboxd.records import Claim, Sandbox
from tests.unit.sandboxd.conftest import World, living, make_world, until


def sized(config: Config, base: int, large: int, **changes: Any) -> Config:
    templates = {name: replace(config.templates[name], pool=size) for name, size in (("base", base), ("large", large))}
    return replace(config, templates=templates, **changes)


@pytest.fixture
def world(config: Config) -> Iterator[World]:
    with living(sized(config, 3, 2, create_parallelism=3)) as made:
        made.pool.start()
        yield made


def warm(world: World) -> dict[str, int]:
    return dict(world.ledger.members())


def full(world: World, base: int = 3, large: int = 2) -> None:
    """Exactly so many, and nothing more is going to come."""
    wanted = {name: size for name, size in (("base", base), ("large", large)) if size}
    until(lambda: warm(world) == wanted and world.pool.status().starting == 0, f"full pools: {wanted}")


def test_each_has_its_members_hits_and_misses(world: World) -> None:
    world.pool.enable()
    full(world)
    for template, count in (("base", 2), ("large", 1)):
        for _ in range(count):
            sandbox = world.pool.obtain(template, Claim())
            assert (sandbox.template, sandbox.origin) == (template, "pool")
    full(world)
    base, large = world.pool.status().pools
    assert (base.hits, base.misses, large.hits, large.misses) == (2, 0, 1, 0)
    assert [(one.template, one.size, one.warm) for one in (base, large)] == [("base", 3, 3), ("large", 2, 2)]
    status = world.pool.status()
    assert (status.enabled, status.size, status.warm, status.hits, status.misses) == (True, 5, 5, 3, 0)
    images = {payload["Labels"]["sandbox.template"]: payload["Image"] for payload in world.engine.payloads}
    assert images == {"base": "base:1", "large": "large:1"}


def test_the_emptiest_is_filled_first(config: Config) -> None:
    with living(sized(config, 4, 2, create_parallelism=1)) as world:
        world.pool.start()
        world.pool.enable()
        full(world, 4, 2)
        order = [payload["Labels"]["sandbox.template"] for payload in world.engine.payloads]
        assert order == ["base", "large", "base", "large", "base", "base"]


def test_one_is_drained_and_started_for_itself(world: World) -> None:
    world.pool.enable("large")
    full(world, 0, 2)
    world.pool.enable()
    full(world)
    world.pool.drain("base")
    assert warm(world) == {"large": 2} and world.pool.enabled
    assert world.pool.obtain("base", Claim()).origin == "cold"
    assert world.pool.obtain("large", Claim()).origin == "pool"
    base, large = world.pool.status().pools
    assert (base.enabled, base.warm, base.misses, large.enabled) == (False, 0, 0, True)
    world.pool.enable("base")
    full(world)
    world.pool.drain()
    assert warm(world) == {} and not world.pool.enabled


@pytest.mark.parametrize("verb", ["enable", "drain", "resize"])
def test_a_template_that_is_not_there_is_named(world: World, verb: str) -> None:
    arguments = ("huge", 3) if verb == "resize" else ("huge",)
    with pytest.raises(NotFound, match="template 'huge' not found"):
        getattr(world.pool, verb)(*arguments)
    assert not world.pool.enabled


def test_a_pool_grows_and_shrinks_while_it_runs(world: World) -> None:
    world.pool.enable()
    full(world)
    oldest = {row.id for row in world.ledger.rows("warm") if row.template == "base"}
    world.now[0] += 1
    world.pool.resize("base", 5)
    full(world, 5, 2)
    world.pool.resize("base", 3)
    assert {row.id for row in world.ledger.rows("warm") if row.template == "base"} == oldest, "the youngest go"
    full(world)
    world.pool.resize("large", 0)
    assert warm(world) == {"base": 3}
    assert world.pool.obtain("large", Claim()).origin == "cold"
    assert [status.template for status in world.pool.status().pools] == ["base"]
    world.pool.resize("large", 1)
    full(world, 3, 1)
    assert [(status.size, status.configured) for status in world.pool.status().pools] == [(3, 3), (1, 2)]


def test_a_pool_that_is_off_is_only_told_its_size(world: World) -> None:
    world.pool.resize("base", 1)
    assert world.pool.status().size == 3 and world.engine.payloads == []
    world.pool.enable()
    full(world, 1, 2)


def test_a_size_holds_over_a_restart_until_the_configuration_says_another(world: World) -> None:
    world.pool.resize("base", 1)
    sizes = []
    for config in (world.config, sized(world.config, 4, 2)):
        again = make_world(config, world.engine, world.haproxy, world.mounts)
        sizes.append([status.size for status in again.pool.status().pools])
        again.ledger.close()
    assert sizes == [[1, 2], [4, 2]]


def test_a_size_that_leaves_no_room_for_sandboxes_is_refused(config: Config) -> None:
    with living(sized(config, 3, 2, max_sandboxes=10)) as world:
        world.pool.resize("base", 7)
        with pytest.raises(BadRequest, match=r"size 8: with 2 members of other pools.*10 sandboxes"):
            world.pool.resize("base", 8)
        assert world.pool.status().size == 9


def test_one_that_fails_does_not_starve_the_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "RETRY_FIRST_S", 1000.0)
    monkeypatch.setattr(pool, "RETRY_LAST_S", 1000.0)
    attempts, image_id = itertools.count(), world.engine.image_id

    def missing(image: str) -> str:
        if image == "large:1":
            next(attempts)
        return image_id(image)

    monkeypatch.setattr(world.engine, "image_id", missing)
    del world.engine.images["large:1"]
    world.pool.enable()
    for _ in range(5):
        full(world, 3, 0)
        assert world.pool.obtain("base", Claim()).origin == "pool"
    full(world, 3, 0)
    base, large = world.pool.status().pools
    assert base.trouble == "" and "'large:1' is not on this host" in large.trouble
    assert next(attempts) <= 3, "once for each that may run at a time, and then no more"
    world.engine.images["large:1"] = "sha256:9"
    world.pool.enable("large")
    full(world)
    assert world.health.troubles() == {}


def test_one_that_failed_takes_one_place_only(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its next attempt may hang: then the others have the rest of the places."""
    gate, hanging, image_id = threading.Event(), itertools.count(1), world.engine.image_id
    monkeypatch.setattr(pool, "RETRY_FIRST_S", 0.001)
    del world.engine.images["large:1"]
    world.pool.enable()
    until(lambda: any(status.trouble for status in world.pool.status().pools), "a failure")
    full_or_starting = []

    def hang(image: str) -> str:
        if image == "large:1":
            full_or_starting.append(next(hanging))
            assert gate.wait(120), "longer than the test looks"
        return image_id(image)

    monkeypatch.setattr(world.engine, "image_id", hang)
    try:
        until(lambda: bool(full_or_starting), "an attempt that hangs")
        for _ in range(4):
            until(lambda: warm(world) == {"base": 3}, "the other one is full")
            world.pool.obtain("base", Claim())
        until(lambda: warm(world) == {"base": 3}, "the other one is full")
        assert full_or_starting == [1]
    finally:
        gate.set()


def test_members_of_a_template_that_is_no_more_are_removed(world: World) -> None:
    world.pool.enable()
    full(world)
    world.pool.stop()
    config = replace(world.config, templates={"base": world.config.templates["base"]})
    again = make_world(config, world.engine, world.haproxy, world.mounts)
    again.reconciler.tick()
    assert warm(again) == {"base": 3}
    assert {one.name for one in world.engine.containers.values()} == {row.container for row in again.ledger.rows()}
    again.ledger.close()


def test_a_pool_that_shrinks_while_members_are_made_keeps_none_too_many(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, start = threading.Event(), world.engine.start

    def slow(container: str) -> None:
        assert gate.wait(120), "longer than the test looks"
        start(container)

    monkeypatch.setattr(world.engine, "start", slow)
    world.pool.enable("base")
    try:
        until(lambda: len(world.engine.containers) == 3, "three being made")
        world.pool.resize("base", 1)
    finally:
        gate.set()
    full(world, 1, 0)
    assert len(world.engine.containers) == 1 and world.leftovers() == [world.ledger.rows("warm")[0].slot]


def claims(world: World, templates: list[str]) -> list[Sandbox]:
    """All at once."""
    together = threading.Barrier(len(templates))

    def claim(template: str) -> Sandbox:
        together.wait(60)
        return world.pool.obtain(template, Claim())

    with ThreadPoolExecutor(len(templates)) as several:
        return list(several.map(claim, templates))


def test_as_many_claims_as_members_are_as_many_hits(world: World) -> None:
    world.pool.enable()
    ids: list[str] = []
    for _ in range(4):
        full(world)
        found = claims(world, ["base", "large", "base", "large", "base"])
        assert [(row.template, row.origin) for row in found] == [
            (template, "pool") for template in ("base", "large", "base", "large", "base")
        ]
        ids += [row.id for row in found]
    assert len(set(ids)) == 20
    full(world)
    base, large = world.pool.status().pools
    assert (base.hits, base.misses, large.hits, large.misses) == (12, 0, 8, 0)


def test_two_claimers_never_get_one_member(world: World) -> None:
    world.pool.enable()
    full(world)
    found = claims(world, ["base", "large"] * 15)
    assert len({row.id for row in found}) == len({row.container for row in found}) == 30
    assert Counter(row.template for row in found) == {"base": 15, "large": 15}
    assert {row.id: row.template for row in world.ledger.rows("running")} == {row.id: row.template for row in found}
    full(world)
    base, large = world.pool.status().pools
    assert (base.hits + base.misses, large.hits + large.misses) == (15, 15)
    assert base.hits >= 3 and large.hits >= 2
    origins = Counter((row.template, row.origin) for row in found)
    assert (origins["base", "pool"], origins["large", "pool"]) == (base.hits, large.hits)


MOST = 5


def test_never_too_many_whatever_happens_at_the_same_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fills, claims, other sizes, new images, comparisons: at no moment are more members there or being made."""
    seen: list[int] = []
    create_network = world.engine.create_network

    def counted(payload: dict[str, Any]) -> None:
        template = payload["Labels"]["sandbox.template"]
        rows = world.ledger.rows("creating", "warm")
        seen.append(len([row for row in rows if (row.origin, row.template) == ("pool", template)]))
        create_network(payload)

    def claim(number: int) -> list[Sandbox]:
        return [world.pool.obtain(("base", "large")[turn % 2], Claim()) for turn in range(number, number + 8)]

    def resize(template: str) -> None:
        for size in (1, MOST, 0, 3, MOST, 2, 4, 1, MOST):
            world.pool.resize(template, size)

    def rebuild() -> None:
        for number in range(6):
            world.engine.images["base:1"] = f"sha256:new{number}"
            world.pool.discard_outdated()

    monkeypatch.setattr(world.engine, "create_network", counted)
    world.pool.enable()
    with ThreadPoolExecutor(8) as several:
        work = [several.submit(resize, template) for template in ("base", "large")]
        work += [several.submit(rebuild), several.submit(rebuild)]
        claimed = [several.submit(claim, number) for number in range(4)]
        for one in work:
            one.result(60)
        found = [row for some in claimed for row in some.result(60)]
    assert len({row.id for row in found}) == 32
    assert max(seen) <= MOST
    world.pool.resize("base", 2)
    world.pool.resize("large", 3)

    def right() -> bool:
        world.pool.discard_outdated()  # as every comparison does: one may have been in the making at the last
        world.pool.wake()
        images = Counter(row.image_id for row in world.ledger.rows("warm"))
        return images == {"sha256:new5": 2, "sha256:9": 3} and world.pool.status().starting == 0

    until(right, "full pools of the present images")
    world.sandboxes.settle()
    assert set(world.engine.containers) == {row.id for row in world.ledger.rows("warm", "running")}
    assert len(world.engine.containers) == 32 + 5 and len(world.leftovers()) == 32 + 5
