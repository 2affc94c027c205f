"""The pool's own thread: it fills, stops, retries, and gives way to a drain."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from sandboxd.ledger import Claim
from tests.unit.sandboxd.conftest import World, make_world, refusal


def until(good: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 5
    while not good():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def full(world: World) -> None:
    until(lambda: world.pool.status().warm == 2 and world.pool.status().starting == 0, "a full pool")


def test_it_is_off_until_it_is_turned_on(world: World) -> None:
    world.pool.start()
    world.pool.wake()
    assert not world.pool.status().enabled and world.engine.payloads == []
    world.pool.enable()
    full(world)
    assert len(world.engine.containers) == 2
    assert all(container.name.startswith("acme-pool-") for container in world.engine.containers.values())


def test_claims_are_hits_and_it_is_filled_again_and_never_beyond(world: World) -> None:
    world.pool.start()
    world.pool.enable()
    ids = []
    for _ in range(3):
        full(world)
        ids += [world.pool.obtain("base", Claim()).id for _ in range(2)]
    full(world)
    status = world.pool.status()
    assert (status.hits, status.misses) == (6, 0) and len(set(ids)) == 6
    assert len(world.engine.containers) == 8


def test_an_empty_pool_falls_back_to_a_cold_create(world: World) -> None:
    world.pool.enable()
    assert world.pool.obtain("base", Claim()).origin == "cold"
    assert world.pool.status().misses == 1


@pytest.mark.parametrize(("template", "cold"), [("large", False), ("base", True)])
def test_other_templates_and_cold_creates_leave_it_alone(world: World, template: str, cold: bool) -> None:
    world.pool.start()
    world.pool.enable()
    full(world)
    assert world.pool.obtain(template, Claim(), cold).origin == "cold"
    status = world.pool.status()
    assert (status.warm, status.hits, status.misses) == (2, 0, 0)


def test_a_drain_removes_all_members_and_no_sandbox_in_use(world: World) -> None:
    world.pool.start()
    world.pool.enable()
    full(world)
    used = world.pool.obtain("base", Claim())
    world.pool.drain()
    assert list(world.engine.containers) == [used.id]
    assert not world.pool.status().enabled
    assert world.pool.obtain("base", Claim()).origin == "cold"


def test_whether_it_is_on_survives_a_restart(world: World) -> None:
    world.pool.enable()
    again = make_world(world.config, world.engine, world.haproxy)
    assert again.pool.enabled
    again.ledger.close()


def test_a_failure_is_reported_and_tried_again(world: World) -> None:
    world.engine.fail["create_network"] = refusal()
    world.pool.start()
    world.pool.enable()
    until(lambda: bool(world.pool.status().trouble) or world.pool.status().warm > 0, "an attempt")
    until(lambda: world.pool.status().warm == 2, "members after a pause")
    assert world.pool.status().trouble == ""


def test_members_of_an_outdated_image_and_surplus_ones_are_discarded(world: World) -> None:
    template = world.config.templates["base"]
    for _ in range(4):
        world.now[0] += 1
        world.sandboxes.create_member(template, lambda: True)
    world.pool.discard_outdated()
    assert world.pool.status().warm == 2
    world.engine.images["base:1"] = "sha256:2"
    world.pool.discard_outdated()
    assert world.pool.status().warm == 0 and world.engine.empty()


def test_many_claimers_all_get_something(world: World) -> None:
    world.pool.start()
    world.pool.enable()
    full(world)
    with ThreadPoolExecutor(16) as several:
        ids = [sandbox.id for sandbox in several.map(lambda _: world.pool.obtain("base", Claim()), range(16))]
    assert len(set(ids)) == 16
    status = world.pool.status()
    assert status.hits + status.misses == 16 and status.hits >= 2
