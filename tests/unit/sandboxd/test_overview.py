"""The figures of the host, from files of a host and a daemon of doubles."""

import os
from pathlib import Path

import pytest

from sandboxd.doctor.effects import Effects
from sandboxd.errors import HostError
from sandboxd.overview import meminfo, overview
from tests.unit.sandboxd.conftest import World, member
from tests.unit.sandboxd.fake_engine import down

FILES = {
    "proc/meminfo": "MemTotal:       16384000 kB\nMemAvailable:   12288000 kB\nHugePages_Total:       0\n",
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: x\n\nprocessor\t: 1\n",
    "proc/loadavg": "0.52 0.58 0.59 1/389 12345\n",
    "proc/uptime": "3600.25 7000.00\n",
    "proc/sys/kernel/osrelease": "6.12.48+deb13-amd64\n",
}


@pytest.fixture
def effects(tmp_path: Path) -> Effects:
    for name, text in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def space(path: str) -> os.statvfs_result:
        number = 2 if "docker" in path else 1
        found = (4096, 4096, 256_000 * number, 0, 25_600 * number, 0, 0, 0, 0, 255, number)
        return os.statvfs_result(found[:10], {"f_fsid": number})

    return Effects(root=tmp_path, space=space)


def test_the_figures(world: World, effects: Effects, tmp_path: Path) -> None:
    member(world)
    world.health.report("reconcile", "it is slow")
    found = overview(world.sandboxes, world.health, effects)
    assert (found.present, found.max_sandboxes) == ({"warm": 1}, 100)
    assert (found.memory_mb, found.memory_available_mb, found.memory_reserve_mb) == (16000, 12000, 1024)
    assert [(one.size_mb, one.free_mb) for one in found.disks] == [(1000, 100), (2000, 200)]
    assert (found.processors, found.load, found.uptime_s) == (2, 0.52, 3600.25)
    assert (found.engine, found.kernel, found.release) == ("26.1.5", "6.12.48+deb13-amd64", "")
    assert found.troubles == {"reconcile": "it is slow"}


def test_the_release_is_the_deploys(world: World, effects: Effects) -> None:
    file = effects.root / str(world.config.secrets_dir.parent).lstrip("/") / "release"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("revision=v1.2-3-gabc\n")
    assert overview(world.sandboxes, world.health, effects).release == "v1.2-3-gabc"


def test_one_file_system_is_one(world: World, effects: Effects) -> None:
    same = Effects(root=effects.root, space=lambda path: effects.space("/state"))
    (disk,) = overview(world.sandboxes, world.health, same).disks
    assert disk.path == str(world.config.state_dir)


def test_docker_is_away(world: World, effects: Effects) -> None:
    world.engine.fail["describe"] = down()
    found = overview(world.sandboxes, world.health, effects)
    assert found.engine == "" and len(found.disks) == 1


def test_a_host_that_tells_nothing(world: World, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="cannot be read"):
        overview(world.sandboxes, world.health, Effects(root=tmp_path / "nothing"))


def test_what_has_no_size_is_left_out() -> None:
    assert meminfo(FILES["proc/meminfo"]) == {"MemTotal": 16000, "MemAvailable": 12000}
