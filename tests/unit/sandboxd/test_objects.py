"""What a sandbox has on the host, over an engine in memory, a gateway's socket and a real ledger."""

import json
from dataclasses import replace

import pytest

from sandboxd.errors import Conflict, EngineError, HostError, NotReady
from sandboxd.records import Claim
from tests.unit.sandboxd.conftest import World, member, nothing_is_left
from tests.unit.sandboxd.fake_engine import refusal


def test_a_container_that_stops_at_once_is_not_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    start = world.engine.start

    def start_and_stop(container: str) -> None:
        start(container)
        world.engine.stop(container)

    monkeypatch.setattr(world.engine, "start", start_and_stop)
    with pytest.raises(NotReady, match=r"stopped with exit code 1, but .* port 49983"):
        world.sandboxes.create(world.config.templates["base"], Claim())
    nothing_is_left(world)


def test_an_agent_that_never_answers_is_an_error_with_its_log(world: World) -> None:
    world.dead.add("10.200.0.1")
    with pytest.raises(NotReady, match="the last line"):
        world.sandboxes.create(world.config.templates["base"], Claim())
    assert world.engine.empty()


def test_a_claim_replaces_the_agents_file_in_one_step(world: World) -> None:
    member(world)
    (row,) = world.ledger.rows("warm")
    file = world.sandboxes.dirs.path(row.slot) / "agent.json"
    with file.open() as old:
        world.sandboxes.claim(world.config.templates["base"], Claim(envs={"A": "1"}))
        assert "A" not in json.load(old)["envs"], "an agent that reads just now gets all of the old file"
    assert json.loads(file.read_text())["envs"]["A"] == "1"
    assert [path.name for path in file.parent.iterdir()] == ["agent.json"]


@pytest.mark.parametrize("method", ["remove_container", "remove_network", "umount"])
def test_a_removal_goes_on_from_wherever_it_was_interrupted(world: World, method: str) -> None:
    sandbox = world.sandboxes.create(world.config.templates["base"], Claim())
    world.sandboxes.settle()
    (world.mounts if method == "umount" else world.engine).fail[method] = refusal()
    assert world.sandboxes.try_remove(sandbox, "test")
    assert [row.state for row in world.ledger.rows()] == ["removing"] and world.haproxy.map == []
    assert world.sandboxes.remove(sandbox, "again")
    nothing_is_left(world)


def test_a_gateway_that_is_down_does_not_stop_a_removal(world: World) -> None:
    sandbox = world.sandboxes.create(world.config.templates["base"], Claim())
    world.haproxy.stop()
    assert world.sandboxes.remove(sandbox, "test")
    assert world.engine.empty() and world.config.gateway.routes_map.read_text() == ""


@pytest.mark.parametrize("can", [False, True])
def test_an_engine_that_can_keeps_the_limit_of_the_layer(world: World, can: bool) -> None:
    world.engine.layer_limits = can
    world.sandboxes.create(world.config.templates["base"], Claim())
    assert ("StorageOpt" in world.engine.payloads[0]["HostConfig"]) is can


def test_a_seccomp_profile_is_read_and_a_missing_one_named(world: World) -> None:
    profile = world.config.state_dir / "profile.json"
    template = replace(world.config.templates["base"], seccomp=str(profile))
    with pytest.raises(EngineError, match=rf"template base: seccomp profile {profile}: No such file"):
        world.sandboxes.create(template, Claim())
    nothing_is_left(world)
    profile.write_text('{"defaultAction": "x"}')
    world.sandboxes.create(template, Claim())
    assert world.engine.payloads[0]["HostConfig"]["SecurityOpt"] == ['seccomp={"defaultAction": "x"}']


@pytest.mark.parametrize("runtime", ["", "runsc"])
def test_what_gvisor_does_not_do_by_itself_is_done_for_it(world: World, runtime: str) -> None:
    """Parameters of its network namespace, at each start; and directories on the way to what it mounts."""
    template = replace(world.config.templates["base"], runtime=runtime)
    sandbox = world.sandboxes.create(template, Claim())
    first = [command for command in world.commands if "sysctl" in command]
    world.transitions.stop(sandbox, "test")
    world.transitions.resume(world.sandboxes.find(sandbox.id))
    again = [command for command in world.commands if "sysctl" in command]
    assert (len(first), len(again)) == ((3, 6) if runtime else (0, 0))
    modes = [(world.config.state_dir / name).stat().st_mode & 0o777 for name in ("mounts", "sandboxes")]
    assert [mode == 0o710 for mode in modes] == [bool(runtime)] * 2


def volumes(world: World) -> list[tuple[str, int, str]]:
    return [(found.name, found.size_mb, found.sandbox_id) for found in world.ledger.volumes()]


def test_a_disk_of_its_own_size_and_a_volume(world: World) -> None:
    template = world.config.templates["base"]
    own = world.sandboxes.create(template, Claim(disk_mb=100))
    world.now[0] += 1
    shared = world.sandboxes.create(template, Claim(volume="data"))
    assert (own.disk_mb, shared.disk_mb, shared.volume) == (100, template.disk_mb, "data")
    mounts = [payload["HostConfig"]["Mounts"][0] for payload in world.engine.payloads]
    assert mounts == [
        {"Type": "bind", "Source": str(world.sandboxes.disks.path(one.slot)), "Target": "/code"}
        for one in (own, shared)
    ]
    assert volumes(world) == [("data", template.disk_mb, shared.id)]
    with pytest.raises(Conflict, match=f"in use by sandbox {shared.id}"):
        world.sandboxes.create(template, Claim(volume="data"))
    for sandbox in (own, shared):
        world.sandboxes.remove(sandbox, "test")
    nothing_is_left(world)
    assert volumes(world) == [("data", template.disk_mb, "")] and world.sandboxes.disks.size_mb("data") is not None


@pytest.mark.parametrize("step", ["mkfs.ext4", "mount"])
def test_a_disk_that_cannot_be_made_leaves_nothing(world: World, step: str) -> None:
    world.mounts.fail[step] = HostError("no space left on device")
    with pytest.raises(HostError):
        world.sandboxes.create(world.config.templates["base"], Claim())
    nothing_is_left(world)


def test_a_new_volume_that_cannot_be_made_is_none(world: World) -> None:
    """Else the next one who wants it would be told that its file is gone."""
    world.mounts.fail["mkfs.ext4"] = HostError("no space left on device")
    with pytest.raises(HostError):
        world.sandboxes.create(world.config.templates["base"], Claim(volume="data"))
    nothing_is_left(world)
    assert volumes(world) == [] and list((world.config.state_dir / "volumes").iterdir()) == []


def test_a_volume_whose_file_is_gone_is_not_replaced(world: World) -> None:
    template = world.config.templates["base"]
    first = world.sandboxes.create(template, Claim(volume="data"))
    world.sandboxes.disks.file("", "data").unlink()
    world.sandboxes.remove(first, "test")
    world.now[0] += 1
    for _ in range(2):
        with pytest.raises(Conflict, match="docker-sandbox volume rm data"):
            world.sandboxes.create(template, Claim(volume="data"))
        nothing_is_left(world)
    world.ledger.remove_volume("data", lambda: world.sandboxes.disks.remove_volume("data"))
    assert world.sandboxes.create(template, Claim(volume="data")).volume == "data"


def test_the_file_of_a_volume_that_the_ledger_does_not_know_keeps_its_size(world: World) -> None:
    """Somebody has put it back."""
    file = world.sandboxes.disks.file("", "data")
    file.parent.mkdir()
    with file.open("wb") as opened:
        opened.truncate(300 * 1024 * 1024)
    sandbox = world.sandboxes.create(world.config.templates["base"], Claim(volume="data", disk_mb=100))
    assert sandbox.disk_mb == 300 and volumes(world) == [("data", 300, sandbox.id)]
    assert "mkfs.ext4" not in [command[0] for command in world.mounts.commands]
