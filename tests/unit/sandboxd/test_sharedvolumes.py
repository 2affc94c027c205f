"""Sandboxes whose /code is on shared storage: two hosts, each with its own daemon, and one directory for both."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sandboxd.config import Shared
from sandboxd.errors import BadRequest, Conflict, EngineError, HostError
from sandboxd.policy import EVERYTHING, Policy
from sandboxd.records import BASIC, USED, Claim, Sandbox
from sandboxd.sharedstate import parse, text_of
from sandboxd.sharedstore import IMAGE, MARKER, STATE, Owner, SharedStore, TakenOver
from sandboxd.tokens import agent_token, brought_along, traffic_token
from sandboxd.watchdog import CRITICAL_MB, MIB
from tests.unit.sandboxd.clients import Direct
from tests.unit.sandboxd.conftest import World, config_in, make_world, services_of
from tests.unit.sandboxd.fake_engine import FakeEngine, refusal
from tests.unit.sandboxd.test_reconcile import create

KEYS = {name: name.encode() * 32 for name in "abc"}  # each host has its own
KEPT = Claim(volume="data", disk_mb=2048, shared=True, keep=True, name="demo")


@pytest.fixture
def export(directory: Path) -> Path:
    made = directory / "export"
    made.mkdir()
    (made / MARKER).write_text("0123\n")
    return made


def host(directory: Path, export: Path, name: str, number: int, node: str = "") -> World:
    (directory / name).mkdir()
    config = replace(config_in(directory / name), shared=Shared(export, node or name))
    made = make_world(config, FakeEngine(lambda: made.now[0], numbers=itertools.count(1 + 80 * number)), key=KEYS[name])
    return made


@pytest.fixture
def worlds(directory: Path, export: Path) -> Iterator[list[World]]:
    made = [host(directory, export, name, number) for number, name in enumerate("ab")]
    yield made
    for one in made:
        one.pool.stop()
        one.reconciler.stop()
        one.sandboxes.settle()
        one.ledger.close()
        one.haproxy.stop()


def store_of(world: World) -> SharedStore:
    assert world.sandboxes.shared.store is not None
    return world.sandboxes.shared.store


def move(world: World, node: str = "a", volume: str = "data") -> Sandbox:
    return world.sandboxes.move_here(parse(store_of(world).state(volume), node))


def rebooted(world: World) -> World:
    """The daemon of a host that was off: nothing is mounted, no container runs."""
    world.sandboxes.settle()
    world.ledger.close()
    world.mounts.reboot()
    for found in world.engine.containers:
        world.engine.stop(found)
    return make_world(world.config, world.engine, world.haproxy, world.mounts, world.nft, world.sandboxes.key)


def mount_commands(world: World) -> list[list[str]]:
    return [command for command in world.mounts.commands if "mount" in command]


def test_the_disk_is_on_the_storage_and_the_record_says_whose_it_is(worlds: list[World], export: Path) -> None:
    here, there = worlds
    made = create(here, KEPT)
    image = export / "data" / IMAGE
    assert image.stat().st_size == 2048 * 1024 * 1024
    assert str(image) in mount_commands(here)[0] and made.slot in here.mounts.mounted()
    assert not (here.config.state_dir / "volumes").exists()
    assert store_of(there).owner("data") == Owner("a", made.slot, made.generation)
    assert here.engine.labels[made.id]["sandbox.generation"] == "1"
    with pytest.raises(Conflict, match="in use on node a"):
        create(there, KEPT)
    assert there.leftovers() == [] and there.ledger.rows() == []
    here.sandboxes.remove(made, "test")
    assert store_of(there).owner("data").node == "" and image.exists() and store_of(there).state("data") == ""
    again = create(there, Claim(volume="data"))
    assert (again.disk_mb, again.generation) == (2048, 2), "found there without being told where"


def test_it_is_given_back_only_when_nothing_has_the_file_any_more(worlds: list[World]) -> None:
    here, there = worlds
    made = create(here, KEPT)
    here.sandboxes.disks.wait_detached = lambda file: (_ for _ in ()).throw(HostError("in use"))  # type: ignore[method-assign]
    here.sandboxes.remove(made, "test")
    assert store_of(there).owner("data").node == "a"
    here.reconciler.tick()
    assert store_of(there).owner("data").node == "a" and "in use" in here.health.troubles()["shared storage"]
    here.sandboxes.disks.wait_detached = lambda file: None  # type: ignore[method-assign]
    here.reconciler.tick()
    assert store_of(there).owner("data").node == "" and store_of(there).state("data") == ""


def test_one_that_could_not_be_made_leaves_no_volume(worlds: list[World], export: Path) -> None:
    here = worlds[0]
    here.mounts.fail["mkfs.ext4"] = HostError("no room")
    with pytest.raises(HostError, match="no room"):
        create(here, KEPT)
    assert not (export / "data").exists() and here.ledger.volumes() == []
    create(here, KEPT)


def test_names_are_of_one_place(worlds: list[World], world: World) -> None:
    here = worlds[0]
    create(here, Claim(volume="own"))
    with pytest.raises(Conflict, match="on a disk of this host"):
        create(here, Claim(volume="own", shared=True))
    with pytest.raises(BadRequest, match="give its name"):
        create(here, Claim(shared=True))
    with pytest.raises(BadRequest, match="no shared storage"):
        create(world, KEPT)


def test_what_it_is_made_anew_from_follows_its_row(worlds: list[World]) -> None:
    here = worlds[0]
    made = create(here, replace(KEPT, envs={"A": "1"}, metadata={"b": "2"}, timeout_s=60, owner="ci"))

    def seen() -> Sandbox:
        """As the row is, by what lies there."""
        (row,) = here.ledger.rows(*USED)
        tokens = brought_along(here.sandboxes.key, row.id, row.access_round)
        assert store_of(here).state("data") == text_of(row, tokens)
        return row

    assert seen().envs == {"A": "1"}
    here.transitions.restrict(made, Policy(deny=(EVERYTHING,)))
    assert seen().policy.closed
    here.transitions.open_to(made, BASIC, "digest")
    assert (seen().access, seen().access_round) == ("basic", 1)
    here.transitions.extend(made, 7)
    assert seen().timeout_s == 7
    here.transitions.pause(made)
    assert seen().state == "paused"
    here.transitions.stop(made, "enough")
    assert seen().reason == "enough"
    here.transitions.resume(made)
    assert seen().state == "running"
    here.transitions.stop(made, "")
    here.transitions.grow(made, 4096)
    assert seen().disk_mb == 4096
    here.sandboxes.remove(made, "test")
    assert store_of(here).state("data") == ""


def test_one_that_is_not_kept_leaves_nothing_to_be_made_anew(worlds: list[World], export: Path) -> None:
    create(worlds[0], replace(KEPT, keep=False))
    assert not (export / "data" / STATE).exists()


def test_what_is_written_to_shared_storage_takes_nothing_of_the_host(worlds: list[World], export: Path) -> None:
    here = worlds[0]
    made = create(here, KEPT)
    here.watchdog.look()
    (export / "data" / IMAGE).write_bytes(b"\1" * 3 * MIB)
    here.disk_mb["docker"] = CRITICAL_MB - 1
    here.watchdog.look()
    row = here.ledger.get(made.slot)
    assert row is not None and row.state == "running"


def test_what_could_not_be_written_is_written_later(worlds: list[World], export: Path) -> None:
    here = worlds[0]
    made = create(here, KEPT)
    (export / MARKER).rename(export / "away")
    here.transitions.extend(made, 7)
    here.reconciler.tick()
    assert "nothing is mounted" in here.health.troubles()["shared storage"]
    (export / "away").rename(export / MARKER)
    here.reconciler.tick()
    assert parse(store_of(here).state("data"), "a").claim.timeout_s == 7
    assert "shared storage" not in here.health.troubles()


def test_made_anew_elsewhere_it_is_the_same_for_whoever_uses_it(worlds: list[World]) -> None:
    here, there = worlds
    claim = replace(KEPT, envs={"A": "1"}, metadata={"b": "2"}, owner="ci", policy=Policy(deny=("192.0.2.0/24",)))
    made = create(here, replace(claim, access="token", timeout_s=600, idle_pause_s=9.0))
    here.transitions.open_to(made, "token")
    (row,) = here.ledger.rows()
    there.now[0] += 100
    moved = move(there)
    same = ("id", "name", "keep", "envs", "metadata", "owner", "policy", "access", "access_round", "volume", "disk_mb")
    for name in (*same, "template", "memory_mb", "cpus", "claimed_at", "ends_at", "timeout_s", "idle_pause_s"):
        assert getattr(moved, name) == getattr(row, name), name
    assert moved.docker != moved.id and moved.docker in there.engine.containers and moved.slot != row.slot
    assert there.engine.labels[moved.docker]["sandbox.id"] == moved.id
    assert agent_token(there.sandboxes.key, moved.id) == agent_token(here.sandboxes.key, row.id)
    assert traffic_token(there.sandboxes.key, moved.id, 1) == traffic_token(here.sandboxes.key, row.id, 1)
    assert f'"accessToken": "{agent_token(here.sandboxes.key, row.id)}"' in there.sandboxes.dirs.read(moved.slot)
    ((name, route),) = there.haproxy.map
    assert name == moved.id and route.partition("|")[2] == dict(here.haproxy.map)[row.id].partition("|")[2]
    assert store_of(here).owner("data") == Owner("b", moved.slot, 2)
    assert parse(store_of(here).state("data"), "b").slot == moved.slot
    assert not [command for command in there.mounts.commands if "mkfs.ext4" in command], "its files are there"
    assert move(there) == there.ledger.get(moved.slot), "asked twice, it is made once"
    there.sandboxes.settle()
    assert there.engine.containers[moved.docker].name == moved.container
    there.transitions.stop(moved, "test")
    there.transitions.resume(moved)
    there.reconciler.tick()
    assert there.ledger.rows()[0].state == "running" and "sandbox" not in str(there.health.troubles())


def test_tokens_that_came_along_outlive_the_daemon(worlds: list[World]) -> None:
    here, there = worlds
    made = create(here, KEPT)
    move(there)
    there.sandboxes.settle()
    there.ledger.close()
    later = make_world(there.config, there.engine, there.haproxy, there.mounts, there.nft, KEYS["b"])
    assert agent_token(later.sandboxes.key, made.id) == agent_token(here.sandboxes.key, made.id)
    later.ledger.close()


def test_a_move_that_fails_can_be_made_by_another(worlds: list[World], export: Path) -> None:
    here, there = worlds
    made = create(here, KEPT)
    text = store_of(here).state("data")
    there.engine.fail["create_container"] = refusal()
    with pytest.raises(EngineError):
        move(there)
    assert there.ledger.rows() == [] and there.leftovers() == []
    assert store_of(there).state("data") == text and store_of(there).owner("data").node == ""
    assert (export / "data" / IMAGE).exists()
    assert move(there).id == made.id


def test_a_disk_that_is_gone_is_not_replaced_by_an_empty_one(worlds: list[World], export: Path) -> None:
    create(worlds[0], KEPT)
    (export / "data" / IMAGE).unlink()
    with pytest.raises(Conflict, match="is gone"):
        move(worlds[1])


def test_after_a_reboot_a_host_learns_first_and_mounts_nothing(worlds: list[World]) -> None:
    """No container comes back by itself, and sandboxd asks whose the volume is before it serves anybody."""
    here, there = worlds
    made = create(here, KEPT)
    assert here.engine.payloads[0]["HostConfig"]["RestartPolicy"] == {"Name": "no"}
    moved = move(there)
    back = rebooted(here)
    mounted, started = len(mount_commands(back)), [one.booted for one in back.engine.containers.values()]
    back.engine.fail["start"] = AssertionError("nothing of it is started")
    back.reconciler.start()
    assert back.ledger.rows(*USED) == [] and made.id not in back.engine.containers and started
    assert len(mount_commands(back)) == mounted and back.mounts.mounted() == []
    (gone,) = back.ledger.rows("gone")
    assert gone.reason == "its volume 'data' was taken over by node b (number 2, not 1)"
    assert made.id in back.health.troubles()["taken over"]
    assert store_of(back).owner("data") == Owner("b", moved.slot, 2) and store_of(back).state("data")
    back.reconciler.stop()
    back.sandboxes.settle()
    back.ledger.close()


@pytest.mark.parametrize("way", ["resume", "enforce"])
def test_nobody_can_start_one_that_is_elsewhere(worlds: list[World], way: str) -> None:
    here, there = worlds
    made = create(here, KEPT)
    here.transitions.stop(made, "test")
    if way == "enforce":
        here.ledger.set_resumed(made.slot, None, here.now[0])
    move(there)
    before = len(mount_commands(here))
    with pytest.raises(TakenOver, match="taken over by node b"):
        getattr(here.transitions, way)(here.ledger.get(made.slot))
    assert not here.engine.containers[made.id].running and len(mount_commands(here)) == before


def test_while_nobody_can_tell_whose_it_is_nothing_is_started_and_nothing_ended(
    worlds: list[World], export: Path
) -> None:
    made = create(worlds[0], KEPT)
    back = rebooted(worlds[0])
    (export / MARKER).rename(export / "away")
    back.reconciler.tick()
    assert back.mounts.mounted() == [] and not back.engine.containers[made.id].running
    assert [row.id for row in back.ledger.rows(*USED)] == [made.id]
    (export / "away").rename(export / MARKER)
    back.reconciler.tick()
    assert back.engine.containers[made.id].running and back.mounts.mounted() == [made.slot]
    back.sandboxes.settle()
    back.ledger.close()


def test_a_host_that_was_only_cut_off_gives_it_up_when_it_looks(worlds: list[World]) -> None:
    here, there = worlds
    made = create(here, KEPT)
    moved = move(there)
    here.reconciler.tick()
    assert here.ledger.rows(*USED) == [] and here.engine.containers == {} and made.slot not in here.mounts.mounted()
    assert store_of(here).owner("data") == Owner("b", moved.slot, 2)


def test_it_may_come_back_to_where_it_was(worlds: list[World]) -> None:
    here, there = worlds
    made = create(here, KEPT)
    move(there)
    with pytest.raises(Conflict, match="in use by sandbox"):  # it has not been removed here yet
        here.ledger.set_removing(made.slot, "test")
        here.sandboxes.move_here(parse(store_of(here).state("data"), "b"))
    here.reconciler.tick()
    back = here.sandboxes.move_here(parse(store_of(here).state("data"), "b"))
    assert back.id == made.id and back.generation > 2


def test_a_ledger_that_was_lost_knows_them_again(worlds: list[World]) -> None:
    here, there = worlds
    create(here, KEPT)
    moved = move(there)
    there.sandboxes.settle()
    there.ledger.close()
    for path in there.config.state_dir.glob("ledger*"):
        path.unlink()
    later = make_world(there.config, there.engine, there.haproxy, there.mounts, there.nft, KEYS["b"])
    later.reconciler.tick()
    (row,) = later.ledger.rows()
    assert (row.id, row.ref, row.generation, row.disk_mb) == (moved.id, moved.docker, 2, 2048)
    assert agent_token(later.sandboxes.key, row.id) == agent_token(here.sandboxes.key, row.id)
    later.transitions.stop(row, "test")
    later.transitions.resume(row)
    later.sandboxes.remove(row, "test")
    assert store_of(later).owner("data").node == ""
    later.ledger.close()


def test_a_host_that_is_installed_anew_under_its_name_leaves_them_to_be_made_anew(
    worlds: list[World], directory: Path, export: Path
) -> None:
    here, there = worlds
    made = create(here, KEPT)
    create(here, Claim(volume="scratch", shared=True))
    worlds.append(host(directory, export, "c", 2, node="a"))
    worlds[-1].reconciler.tick()
    assert {store_of(there).owner(volume).node for volume in ("data", "scratch")} == {""}
    assert [row["sandboxID"] for row in Direct(there).unix.get("/shared/left").json()] == [made.id]
    assert move(there, "").id == made.id


def test_one_that_cannot_be_read_keeps_no_other_from_being_made_anew(worlds: list[World], export: Path) -> None:
    here, there = worlds
    made = [create(here, replace(KEPT, volume=volume)) for volume in ("data", "more")]
    client = Direct(there)
    client.unix.post("/shared/free", json={"node": "a"})
    (export / "data" / STATE).write_text(f'{{"slot": "{made[0].slot}"}}')
    broken, well = client.unix.get("/shared/left").json()
    assert broken["volume"] == "data" and "KeyError" in broken["trouble"] and str(export) in broken["trouble"]
    assert well["sandboxID"] == made[1].id
    answer = client.unix.post("/shared/data/sandbox", json={"node": "a"})
    assert answer.status_code == 503 and answer.json()["message"] == broken["trouble"]


def test_what_managers_ask(worlds: list[World]) -> None:
    here, there = worlds
    kept = create(here, KEPT)
    create(here, Claim(volume="scratch", shared=True))
    slept = create(here, replace(KEPT, volume="slept"))
    here.transitions.pause(slept)
    client = Direct(there)
    assert client.unix.get("/shared").json() == {"id": "0123"}
    rows = {row["name"]: row for row in client.unix.get("/volumes").json()}
    assert {name: (row["shared"], row["node"], row["sizeMB"]) for name, row in rows.items()} == {
        "data": (True, "a", 2048),
        "scratch": (True, "a", 10240),
        "slept": (True, "a", 2048),
    }
    assert client.unix.delete("/volumes/data").status_code == 409
    assert client.unix.get("/shared/left").json() == []
    assert client.unix.post("/shared/data/sandbox", json={"node": "a"}).status_code == 404, "it is a's still"
    assert client.unix.post("/shared/free", json={"node": ""}).status_code == 400
    assert client.unix.post("/shared/free", json={"node": "a"}).json() == ["data", "scratch", "slept"]
    left = client.unix.get("/shared/left").json()
    assert {row["volume"]: row["sandboxID"] for row in left} == {"data": kept.id, "slept": slept.id}
    assert left[0] | {"templateID": "base", "memoryMB": 2048, "cpus": 2.0, "owner": ""} == left[0]
    assert {store_of(there).owner(volume).node for volume in ("data", "scratch", "slept")} == {""}
    assert client.unix.post("/shared/free", json={"node": "c"}).json() == []
    for row in left:
        answer = client.unix.post(f"/shared/{row['volume']}/sandbox", json={"node": "a"})
        assert answer.status_code == 201 and answer.json()["sandboxID"] == row["sandboxID"], answer.text
    (paused,) = [row for row in there.ledger.rows() if row.volume == "slept"]
    assert paused.state == "stopped" and paused.reason == "its host a was lost while it was paused"
    assert client.unix.post("/shared/scratch/sandbox", json={"node": "a"}).status_code == 404
    assert client.unix.delete("/volumes/scratch").status_code == 204
    inventory = client.unix.get("/inventory").json()
    assert [row["generation"] for row in inventory["sandboxes"]] == [3, 3] and inventory["volumes"] == []


def test_one_that_another_host_has_begun_to_make_is_still_left(
    worlds: list[World], directory: Path, export: Path
) -> None:
    """Whoever was told of none would not ask again when that host gives it back."""
    here, there = worlds
    made = create(here, KEPT)
    third = host(directory, export, "c", 2)
    worlds.append(third)
    store_of(there).take_over("data", "0000000000bb", "a")  # and no more: its daemon was killed then
    client = Direct(third)
    assert [row["sandboxID"] for row in client.unix.get("/shared/left").json()] == [made.id]
    for lost in "ab":  # the latter was lost, too, and is back
        answer = client.unix.post("/shared/data/sandbox", json={"node": lost})
        assert answer.status_code == 409 and "node b has begun" in answer.json()["message"]
    there.reconciler.tick()
    assert store_of(there).owner("data").node == ""
    assert client.unix.post("/shared/data/sandbox", json={"node": "a"}).json()["sandboxID"] == made.id
    assert Direct(there).unix.get("/shared/left").json() == [], "it is where it belongs"


def test_one_whose_host_could_not_write_yet_that_it_has_it_is_found_there(worlds: list[World], export: Path) -> None:
    here, there = worlds
    made = create(here, KEPT)
    text = store_of(here).state("data")
    moved = move(there)
    (export / "data" / STATE).write_text(text)
    client = Direct(there)
    assert [row["sandboxID"] for row in client.unix.get("/shared/left").json()] == [made.id]
    answer = client.unix.post("/shared/data/sandbox", json={"node": "a"})
    assert answer.status_code == 201 and answer.json()["sandboxID"] == made.id
    assert store_of(there).owner("data") == Owner("b", moved.slot, 2)


def test_a_host_without_shared_storage_has_none(world: World) -> None:
    client = Direct(world)
    assert client.unix.get("/shared").status_code == 404
    assert services_of(world).sandboxes.shared.store is None
