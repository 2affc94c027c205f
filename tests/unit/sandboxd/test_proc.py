"""Network and disk of a sandbox, through one of its processes."""

import os
from pathlib import Path

import pytest

from sandboxd import proc
from sandboxd.proc import Disk, Network
from tests.unit.sandboxd import kernel

MIB = 1024**2


def test_bytes_of_all_interfaces_but_loopback(tmp_path: Path) -> None:
    assert proc.network(kernel.PID, kernel.v2(tmp_path)) == Network(2388, 1998)
    more = kernel.NET_DEV + "  eth1:      12       0    0    0    0     0          0         0       2  0 0 0 0 0 0 0\n"
    assert proc.parse_network(more) == Network(2400, 2000)


def test_large_counters_leave_no_space_after_the_name() -> None:
    line = "eth0:123456789 1 0 0 0 0 0 0 98765432100 1 0 0 0 0 0 0"
    assert proc.parse_network(f"head\nhead\n{line}\n") == Network(123_456_789, 98_765_432_100)


def test_a_process_that_is_gone_has_none(tmp_path: Path) -> None:
    assert proc.network(1, tmp_path) is None and proc.disk(1, tmp_path, tmp_path) is None


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / f"proc/{kernel.PID}/root/code"
    path.mkdir(parents=True)
    return path


def test_a_file_system_that_others_share_says_nothing_of_this_sandbox(tmp_path: Path, code: Path) -> None:
    assert proc.disk(kernel.PID, tmp_path, tmp_path) is None


def statvfs(blocks: int, free: int) -> os.statvfs_result:
    return os.statvfs_result((4096, 4096, blocks, free, free, 100, 50, 50, 0, 255))


def test_a_quota_makes_the_same_file_system_another_size(
    tmp_path: Path, code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandboxd.proc.os.fstatvfs", lambda _: statvfs(2560, 2048))
    assert proc.disk(kernel.PID, tmp_path, tmp_path) == Disk(2 * MIB, 10 * MIB)


def test_a_file_system_of_its_own(tmp_path: Path, code: Path) -> None:
    """/proc is one, whatever its size is."""
    own = proc.disk(kernel.PID, Path("/proc"), tmp_path)
    assert own is not None and own.size_bytes >= own.used_bytes > 0


def test_a_link_is_not_followed(tmp_path: Path, code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside, a link may point anywhere; resolved by us it would leave the sandbox."""
    opened: list[int] = []
    code.rmdir()
    code.symlink_to("/proc")

    def noted(descriptor: int) -> os.statvfs_result:
        opened.append(os.fstat(descriptor).st_dev)
        return statvfs(1, 1)

    monkeypatch.setattr("sandboxd.proc.os.fstatvfs", noted)
    proc.disk(kernel.PID, tmp_path, tmp_path)
    assert opened == [os.stat(tmp_path).st_dev]


def test_an_engine_root_that_is_not_there(tmp_path: Path, code: Path) -> None:
    assert proc.disk(kernel.PID, tmp_path / "none", tmp_path) is None
