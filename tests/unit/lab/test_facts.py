"""What the engine's machine allows."""

from pathlib import Path

import pytest

from lab.errors import LabError
from lab.facts import CAPABILITIES, gather, missing_capabilities, unknown_capability

ALL = (1 << 41) - 1


def test_capabilities_by_their_bits() -> None:
    assert CAPABILITIES[24] == "SYS_RESOURCE"  # linux/capability.h
    assert CAPABILITIES[40] == "CHECKPOINT_RESTORE"
    assert missing_capabilities(f"CapEff:\t0\nCapBnd:\t{ALL:016x}\n", 40) == ()
    assert missing_capabilities(f"CapBnd:\t{ALL & ~(1 << 24):016x}\n", 40) == ("SYS_RESOURCE",)


def test_a_kernel_that_knows_fewer_lacks_none() -> None:
    assert missing_capabilities(f"CapBnd:\t{(1 << 38) - 1:016x}\n", 37) == ()


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    for name, bounding in (("42", ALL & ~(1 << 24)), ("self", ALL)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "status").write_text(f"CapBnd:\t{bounding:016x}\n")
    (tmp_path / "sys/kernel").mkdir(parents=True)
    (tmp_path / "sys/kernel/cap_last_cap").write_text("40\n")
    return tmp_path


def test_the_engine_counts_where_it_runs_here(proc: Path) -> None:
    (proc / "docker.pid").write_text("42\n")
    assert gather({"CgroupVersion": "1"}, proc, proc / "docker.pid").missing_capabilities == ("SYS_RESOURCE",)
    found = gather({"CgroupVersion": "2"}, proc, proc / "none.pid")
    assert (found.missing_capabilities, found.cgroup_version) == ((), 2)


def test_a_workstation_without_proc(tmp_path: Path) -> None:
    assert gather({"CgroupVersion": "2"}, tmp_path, tmp_path / "none").missing_capabilities == ()


def test_a_rootless_engine_is_refused() -> None:
    with pytest.raises(LabError, match="rootless") as caught:
        gather({"SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"]})
    assert "unset DOCKER_HOST" in caught.value.remedy


def test_a_capability_that_the_engine_does_not_know() -> None:
    assert unknown_capability('invalid CapDrop: unknown capability: "CAP_PERFMON".') == "PERFMON"
    assert unknown_capability("port is already allocated") == ""
