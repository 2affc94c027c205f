"""Memory that is given back: which file of which cgroup is written, and that nothing of it can fail."""

from pathlib import Path

import pytest

from sandboxd import memory
from sandboxd.objects import Host

PID = 4711


@pytest.fixture
def cgroups(tmp_path: Path) -> Path:
    (tmp_path / f"proc/{PID}").mkdir(parents=True)
    for path in ("docker/abc", "memory/docker/abc"):
        (tmp_path / "cgroup" / path).mkdir(parents=True)
    return tmp_path / "cgroup"


def reclaim(cgroups: Path, lines: str) -> None:
    proc = cgroups.parent / "proc"
    (proc / str(PID) / "cgroup").write_text(lines)
    memory.reclaim(PID, proc, cgroups)


def written(cgroups: Path) -> dict[str, str]:
    return {str(file.relative_to(cgroups)): file.read_text() for file in cgroups.rglob("*") if file.is_file()}


def test_a_kernel_with_cgroup_v2_is_asked_for_everything(cgroups: Path) -> None:
    reclaim(cgroups, "0::/docker/abc\n")
    assert written(cgroups) == {"docker/abc/memory.reclaim": str(1 << 40)}


def test_one_with_v1_is_asked_to_empty_the_group(cgroups: Path) -> None:
    reclaim(cgroups, "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/docker/abc\n")
    assert written(cgroups) == {"memory/docker/abc/memory.force_empty": "0"}


@pytest.mark.parametrize("lines", ["", "0::/nothing/there\n", "5:memory:/nothing/there\n", "4:cpu:/docker/abc\n"])
def test_what_cannot_be_had_is_no_error(cgroups: Path, lines: str) -> None:
    reclaim(cgroups, lines)
    assert written(cgroups) == {}


def test_the_hosts_own_kernel_is_asked_unless_it_is_said_otherwise() -> None:
    assert Host().reclaim is memory.reclaim


def test_nor_is_a_process_that_is_gone(cgroups: Path) -> None:
    memory.reclaim(PID + 1, cgroups.parent / "proc", cgroups)
    assert written(cgroups) == {}
