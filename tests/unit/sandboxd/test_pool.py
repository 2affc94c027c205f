"""One pool, with its own thread: it fills, stops, retries, and gives way to a drain. Several are in test_pools."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from sandboxd import pool
from sandboxd.config import Config
from sandboxd.errors import EngineDown, HostError, HostFull
from sandboxd.poolstatus import PoolStatus
from sandboxd.records import Claim
from tests.unit.sandboxd.conftest import World, living, make_world, until
from tests.unit.sandboxd.fake_engine import down, refusal


def full(world: World) -> None:
    until(lambda: world.pool.status().warm == 2 and world.pool.status().starting == 0, "a full pool")


def one(world: World, template: str = "base") -> PoolStatus:
    return next(pool for pool in world.pool.status().pools if pool.template == template)


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
    again = make_world(world.config, world.engine, world.haproxy, world.mounts)
    assert again.pool.enabled
    again.ledger.close()


def test_a_failure_is_reported_and_tried_again(world: World) -> None:
    world.engine.fail["create_network"] = refusal()
    world.pool.start()
    world.pool.enable()
    until(lambda: bool(one(world).trouble) or one(world).warm > 0, "an attempt")
    full(world)
    assert one(world).trouble == ""


def test_members_of_an_outdated_image_and_surplus_ones_are_discarded(world: World) -> None:
    world.pool.enable()  # its thread does not run here, so that nothing is filled again
    template = world.config.templates["base"]
    for _ in range(4):
        world.now[0] += 1
        world.sandboxes.create_member(template, lambda: True)
    world.pool.discard_outdated()
    assert world.pool.status().warm == 2
    world.engine.images["base:1"] = "sha256:2"
    world.pool.discard_outdated()
    assert world.pool.status().warm == 0 and world.engine.empty()


def kept(world: World) -> set[str]:
    """The containers of a full pool of which a comparison finds nothing outdated."""
    world.pool.start()
    world.pool.enable()
    full(world)
    before = set(world.engine.containers)
    world.reconciler.tick()
    assert set(world.engine.containers) == before
    return before


def test_members_with_outdated_walls_or_limits_are_replaced(world: World) -> None:
    """A comparison sees by the label how a member was made; what a deploy has changed since is not handed out."""
    before = kept(world)
    for key in before:
        world.engine.labels[key] = {**world.engine.labels[key], "sandbox.walls": "of an earlier deploy"}
    world.reconciler.tick()
    full(world)
    assert not before & set(world.engine.containers)


def test_members_that_ask_former_name_servers_are_replaced(world: World) -> None:
    file = world.mounts.root / "etc/resolv.conf"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("nameserver 127.0.0.1\n")
    before = kept(world)
    file.write_text("nameserver 192.0.2.53\n")
    world.reconciler.tick()
    full(world)
    assert not before & set(world.engine.containers)


def test_many_claimers_all_get_something(world: World) -> None:
    world.pool.start()
    world.pool.enable()
    full(world)
    with ThreadPoolExecutor(16) as several:
        ids = [sandbox.id for sandbox in several.map(lambda _: world.pool.obtain("base", Claim()), range(16))]
    assert len(set(ids)) == 16
    status = world.pool.status()
    assert status.hits + status.misses == 16 and status.hits >= 2


def test_members_are_replaced_when_the_image_changes(world: World) -> None:
    world.pool.start()
    world.pool.enable()
    full(world)
    before = set(world.engine.containers)
    world.engine.images["base:1"] = "sha256:2"
    world.reconciler.tick()
    full(world)
    assert not before & set(world.engine.containers)
    assert {row.image_id for row in world.ledger.rows("warm")} == {"sha256:2"}


def test_no_more_are_made_at_once_than_configured(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two places, four that want them: pool and claimers share what the host can do."""
    gate = threading.Event()
    inside: list[str] = []
    create_network = world.engine.create_network

    def slow(payload: dict[str, Any]) -> None:
        inside.append(payload["Name"])
        assert gate.wait(120), "longer than the test looks"
        create_network(payload)

    monkeypatch.setattr(world.engine, "create_network", slow)
    world.pool.start()
    world.pool.enable()
    until(lambda: len(inside) == 2, "both places taken")
    assert world.pool.status().starting == 2
    with ThreadPoolExecutor(2) as several:
        claimers = [several.submit(world.pool.obtain, "base", Claim(), True) for _ in range(2)]
        until(lambda: world.sandboxes.admission._waiting == 2, "two claimers waiting")
        assert len(inside) == 2
        gate.set()
        assert {claimer.result(30).origin for claimer in claimers} == {"cold"}
    full(world)
    assert len(inside) == 4


def test_a_drain_waits_for_members_that_are_being_made(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    start = world.engine.start

    def slow(container: str) -> None:
        assert gate.wait(120), "longer than the test looks"
        start(container)

    monkeypatch.setattr(world.engine, "start", slow)
    world.pool.start()
    world.pool.enable()
    until(lambda: len(world.engine.containers) == 2, "two being made")
    draining = threading.Thread(target=world.pool.drain)
    draining.start()
    until(lambda: not world.pool.enabled, "the drain")
    assert draining.is_alive()
    gate.set()
    draining.join(30)
    assert world.engine.empty() and world.ledger.rows() == []


def test_a_drain_that_docker_interrupts_is_finished_by_reconcile(world: World) -> None:
    world.pool.start()
    world.pool.enable()
    full(world)
    world.engine.fail["remove_container"] = down()
    with pytest.raises(EngineDown):
        world.pool.drain()
    assert not world.engine.empty()
    world.reconciler.tick()
    assert world.engine.empty() and world.ledger.rows() == []


def test_an_image_that_is_missing_is_a_trouble_of_the_pool_alone(world: World) -> None:
    world.pool.enable()
    sandbox = world.sandboxes.create(world.config.templates["base"], Claim())
    world.haproxy.map, image = [], world.engine.images.pop("base:1")
    world.reconciler.tick()
    assert "'base:1' is not on this host" in world.health.troubles()["image of base"]
    assert [key for key, _ in world.haproxy.map] == [sandbox.id], "the rest was compared"
    world.engine.images["base:1"] = image
    world.reconciler.tick()
    assert world.health.troubles() == {}


def test_a_ledger_that_cannot_be_read_is_reported_and_the_thread_lives(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(key: str) -> str:
        raise HostError("the ledger cannot be read")

    with monkeypatch.context() as patch:
        patch.setattr(world.ledger, "setting", broken)
        world.pool.start()
        until(lambda: world.health.troubles() == {"pool": "the ledger cannot be read"}, "the report")
    world.pool.enable()
    full(world)
    assert world.health.troubles() == {}


def test_nothing_is_made_once_it_stops(world: World) -> None:
    world.pool.start()
    world.pool.enable()
    full(world)
    world.pool.stop()
    assert world.pool.obtain("base", Claim()).origin == "pool"
    assert world.pool.status().starting == 0 and world.pool.status().warm == 1


def test_a_claim_is_measured_and_a_cold_create_is_not(world: World) -> None:
    world.pool.start()
    world.pool.enable()
    full(world)
    world.pool.obtain("base", Claim(), cold=True)
    assert (one(world).p50_ms, one(world).p95_ms) == (None, None)
    world.pool.obtain("base", Claim())
    found = one(world)
    assert found.p50_ms is not None and found.p50_ms == found.p95_ms and found.p50_ms >= 0


def test_a_member_that_died_is_replaced(world: World) -> None:
    world.pool.start()
    world.pool.enable()
    full(world)
    dead = next(iter(world.engine.containers))
    world.engine.stop(dead)
    world.reconciler.tick()
    full(world)
    assert dead not in world.engine.containers


def test_a_member_that_is_dead_at_its_claim_is_replaced(world: World) -> None:
    for _ in range(2):  # one of them is the oldest
        world.now[0] += 1
        world.sandboxes.create_member(world.config.templates["base"], lambda: True)
    world.pool.start()
    world.pool.enable()
    dead = world.ledger.rows("warm")[0]
    world.dead.add(dead.address)
    claimed = world.pool.obtain("base", Claim())
    assert claimed.id != dead.id and claimed.origin == "pool"
    full(world)
    world.sandboxes.settle()
    assert dead.id not in world.engine.containers and one(world).hits == 1


def test_a_full_host_is_told_and_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its figures differ each time, and are no news for the log."""
    monkeypatch.setattr(pool, "RETRY_FIRST_S", 0.001)
    monkeypatch.setattr(pool, "RETRY_LAST_S", 0.002)
    asked = itertools.count()
    read = world.sandboxes.host.available_memory_mb
    monkeypatch.setattr(
        world.sandboxes._capacity, "_memory_mb", lambda: read() if read() > 1000 else read() + next(asked) % 50
    )
    world.memory_mb[0] = 500
    world.pool.start()
    world.pool.enable()
    until(lambda: next(asked) > 20 and bool(one(world).limit and one(world).trouble), "many attempts")
    found = one(world)
    assert (found.warm, found.limit) == (0, "memory_reserve_mb") and "memory_reserve_mb keeps 1024" in found.trouble
    assert len([record for record in caplog.records if "memory_reserve_mb" in record.getMessage()]) == 1
    world.memory_mb[0] = 8192
    full(world)
    assert (one(world).limit, one(world).trouble) == ("", "")


def test_it_waits_between_attempts_on_a_full_host(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "RETRY_FIRST_S", 1000.0)
    monkeypatch.setattr(pool, "RETRY_LAST_S", 1000.0)
    world.disk_mb["docker"] = 5
    world.pool.start()
    world.pool.enable()
    until(lambda: one(world).limit == "disk_reserve_mb" and one(world).starting == 0, "the first attempts")
    del world.disk_mb["docker"]
    for _ in range(5):
        world.pool.wake()
        assert one(world).starting == one(world).warm == 0
    world.pool.enable()  # somebody wants to know: at once
    full(world)


def test_members_count_and_claims_of_them_are_allowed_on_a_full_host(config: Config) -> None:
    with living(replace(config, max_sandboxes=3)) as world:
        world.pool.start()
        world.pool.enable()
        full(world)
        world.pool.obtain("base", Claim(), cold=True)
        with pytest.raises(HostFull, match=r"3 sandboxes \(1 in use, 2 in pools, 0 being made\)"):
            world.pool.obtain("base", Claim(), cold=True)
        assert {world.pool.obtain("base", Claim()).origin for _ in range(2)} == {"pool"}
        until(lambda: one(world).limit == "max_sandboxes", "the pool's attempt")
        with pytest.raises(HostFull, match=r"3 in use, 0 in pools"):
            world.pool.obtain("base", Claim())
        assert len(world.engine.containers) == 3
