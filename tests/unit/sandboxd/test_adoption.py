"""Sandboxes whose ledger was lost: those of its copy, and those that only their containers tell of."""

import json

import pytest

from sandboxd import ledgercopy, recovery
from sandboxd.errors import Conflict
from sandboxd.policy import EVERYTHING, Policy
from sandboxd.records import Claim, Mount, Volume
from tests.unit.sandboxd.conftest import World, make_world, member, until
from tests.unit.sandboxd.fake_engine import down
from tests.unit.sandboxd.test_reconcile import create


def again(world: World, copy: bool = False) -> World:
    """The daemon after its ledger was lost, with or without the copy, on the host as it is."""
    world.sandboxes.settle()
    world.ledger.close()
    for path in world.config.state_dir.glob("ledger*"):
        if not (copy and path == ledgercopy.following(world.config.ledger)):
            path.unlink()
    made = make_world(world.config, world.engine, world.haproxy, world.mounts, world.nft)
    made.now[0] = world.now[0] + 60
    return made


def closed(world: World) -> None:
    world.sandboxes.settle()
    world.ledger.close()


def test_who_runs_is_taken_over_and_gets_the_route_back(world: World) -> None:
    sandbox = create(world, Claim(envs={"A": "1"}, owner="ci", timeout_s=60))
    warm = member(world)
    world.haproxy.map.clear()
    later = again(world)
    later.reconciler.tick()
    (row,) = later.ledger.rows()
    assert (row.slot, row.id, row.state, row.container) == (sandbox.slot, sandbox.id, "running", sandbox.container)
    assert (row.template, row.image_id, row.memory_mb, row.cpus, row.disk_mb, row.volume) == (
        *(sandbox.template, sandbox.image_id, sandbox.memory_mb, sandbox.cpus, sandbox.disk_mb),
        "",
    )
    assert (row.envs, row.owner, row.keep, row.ends_at, row.access) == ({"A": "1"}, "ci", True, None, "token")
    assert row.policy == Policy() and row.claimed_at == sandbox.claimed_at
    assert (row.address, row.booted) == (sandbox.address, sandbox.booted)
    assert [key for key, _ in later.haproxy.map] == [sandbox.id]
    told = recovery.told(later.ledger, later.now[0])
    assert "from the containers alone" in told and f"taken over: {sandbox.id}" in told
    assert "1 containers" not in later.health.troubles()["sweep"] and warm in later.engine.containers
    later.now[0] += 10 * 86400
    later.reconciler.tick()
    assert set(later.engine.containers) == {sandbox.id, warm}, "what a new ledger does not know is not swept"
    closed(later)


def test_rules_that_stand_are_not_opened(world: World) -> None:
    sandbox = create(world, Claim(policy=Policy(deny=("192.0.2.0/24",))))
    later = again(world)
    later.reconciler.tick()
    (row,) = later.ledger.rows()
    assert row.policy == Policy(deny=(EVERYTHING,))
    assert f"from-{sandbox.slot}" in later.nft.chains
    closed(later)


def test_who_does_not_run_gets_no_internet_since_rules_do_not_outlast_a_reboot(world: World) -> None:
    sandbox = create(world)
    world.engine.stop(sandbox.id)
    later = again(world)
    later.reconciler.tick()
    (row,) = later.ledger.rows()
    assert (row.state, row.policy) == ("stopped", Policy(deny=(EVERYTHING,)))
    assert row.reason == "found so after the ledger was lost"
    closed(later)


def test_a_named_volume_stays_that_of_its_sandbox_and_others_are_listed(world: World) -> None:
    create(world, Claim(volume="data", disk_mb=2048))
    spare = create(world, Claim(volume="spare", disk_mb=1024))
    world.sandboxes.remove(spare, "test")
    later = again(world)
    later.reconciler.tick()
    (row,) = later.ledger.rows()
    assert (row.volume, row.disk_mb) == ("data", 2048)
    assert {volume.name: (volume.size_mb, volume.slot) for volume in later.ledger.volumes()} == {
        "data": (2048, row.slot),
        "spare": (1024, ""),
    }
    closed(later)


def test_volumes_of_keys_are_known_by_the_labels_of_those_who_have_them(world: World) -> None:
    made = world.sandboxes.volumes.create("ci", "cache", 64, 0)
    mounts = [{"volume": made.name, "title": "cache", "path": "/cache"}]
    create(world, Claim(owner="ci", mounts=tuple(Mount(**one) for one in mounts)))
    later = again(world)
    later.reconciler.tick()
    (volume,) = later.ledger.volumes()
    (row,) = later.ledger.rows()
    assert (volume.owner, volume.title) == ("ci", "cache") and [vars(one) for one in row.mounts] == mounts
    closed(later)


def test_those_of_another_state_dir_are_not_taken_over(world: World) -> None:
    sandbox = create(world)
    world.sandboxes.dirs.remove(sandbox.slot)
    later = again(world)
    later.reconciler.tick()
    assert later.ledger.rows() == [] and sandbox.id in later.engine.containers
    assert "cleanup --unknown" in later.health.troubles()["sweep"]
    closed(later)


def test_who_has_a_volume_is_known_before_anybody_is_served(world: World) -> None:
    sandbox = create(world, Claim(volume="data"))
    later = again(world)
    with later.reconciler._ticking:  # no comparison comes first
        later.reconciler.start()
        assert [row.id for row in later.ledger.rows()] == [sandbox.id]
        with pytest.raises(Conflict, match=sandbox.id):
            create(later, Claim(volume="data"))
    later.reconciler.stop()
    closed(later)


def test_a_daemon_whose_docker_is_down_starts_all_the_same(world: World) -> None:
    sandbox = create(world)
    later = again(world)
    later.engine.fail["inventory"] = down()
    with later.reconciler._ticking:
        later.reconciler.start()
        assert later.ledger.rows() == []
    until(lambda: [row.id for row in later.ledger.rows()] == [sandbox.id], "the first comparison")
    later.reconciler.stop()
    closed(later)


def test_while_docker_is_down_nothing_is_decided(world: World) -> None:
    create(world)
    later = again(world)
    later.engine.fail["inventory"] = down()
    assert later.reconciler._try_tick() == 1.0
    assert later.ledger.setting(recovery.PENDING) and later.ledger.rows() == []
    later.reconciler.tick()
    assert len(later.ledger.rows()) == 1 and later.ledger.setting(recovery.PENDING) == ""
    closed(later)


def test_the_copy_follows_the_ledger(world: World) -> None:
    create(world, Claim(name="one"))
    world.reconciler.tick()
    copy = ledgercopy.following(world.config.ledger)

    def made() -> tuple[int, int]:
        """Another file is another one, though it be of the same tick of the kernel's clock."""
        found = copy.stat()
        return found.st_ino, found.st_mtime_ns

    before = made()
    world.reconciler.tick()
    assert made() == before, "nothing was written since"
    create(world, Claim(name="two"))
    world.reconciler.tick()
    assert made() == before, "it is quite new"
    world.now[0] += 10
    world.reconciler.tick()
    assert made() != before


def test_with_the_copy_all_goes_on_but_what_came_since(world: World) -> None:
    kept = create(world, Claim(name="kept", owner="ci", timeout_s=3600, access="basic", password_digest="d"))
    paused, resumed = create(world, Claim(name="paused")), create(world, Claim(name="resumed"))
    world.transitions.pause(resumed)
    first, second = member(world), member(world)
    world.ledger.enter_volume(Volume("idle", 64, 1.0, "", ""))
    world.ledger.set_setting("may_sweep", "yes")
    world.ledger.copy(ledgercopy.following(world.config.ledger))
    # What the copy does not know:
    world.transitions.pause(paused)
    world.transitions.resume(world.sandboxes.find(resumed.id), None)
    taken = world.sandboxes.claim(world.config.templates["base"], Claim(name="taken"))
    assert taken is not None and taken.id == first
    late = create(world, Claim(name="late"))
    later = again(world, copy=True)
    assert sorted(row.name for row in later.ledger.rows()) == ["kept", "paused", "resumed"], "nothing is warm"
    later.reconciler.tick()
    rows = {row.id: row for row in later.ledger.rows()}
    assert vars(rows[kept.id]) == vars(kept)
    assert {key: rows[key].state for key in rows} == {
        kept.id: "running",
        paused.id: "paused",
        resumed.id: "running",
        taken.id: "running",
        late.id: "running",
    }
    assert rows[taken.id].access == rows[late.id].access == "token"
    assert second in later.engine.containers and second not in rows
    report = json.loads(later.ledger.setting(recovery.DONE))
    assert sorted(report["adopted"]) == sorted([taken.id, late.id]) and report["copied_at"]
    later.now[0] += 3600
    later.reconciler.tick()
    assert second in later.engine.containers, "what came since the copy is not swept"
    assert "cleanup --unknown" in later.health.troubles()["sweep"]
    later.reconciler.sweep_unknown()
    assert second not in later.engine.containers and len(later.engine.containers) == 5
    assert {name.name for name in later.ledger.volumes()} >= {"idle"}
    closed(later)


def test_rules_that_the_copy_does_not_know_are_not_opened(world: World) -> None:
    open_, same = create(world), create(world, Claim(policy=Policy(deny=("192.0.2.0/24",))))
    world.ledger.copy(ledgercopy.following(world.config.ledger))
    world.transitions.restrict(open_, Policy(deny=("198.51.100.0/24",)))
    later = again(world, copy=True)
    later.reconciler.tick()
    rows = {row.id: row for row in later.ledger.rows()}
    assert rows[open_.id].policy == Policy(deny=(EVERYTHING,)) and rows[same.id].policy == same.policy
    closed(later)


def test_a_new_host_has_nothing_to_tell(world: World) -> None:
    world.reconciler.tick()
    create(world)
    assert recovery.told(world.ledger, world.now[0]) == "" and not world.ledger.setting(recovery.PENDING)
