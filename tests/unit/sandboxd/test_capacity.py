"""When the host is full; and the readers, on files of ours and on this host."""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from sandboxd.capacity import MIB, START_MB, Capacity, available_memory_mb, free_disk_mb
from sandboxd.config import Config
from sandboxd.errors import HostError, HostFull

ROOT = Path("/proc/1/root")


def full(check: Callable[[], None]) -> HostFull:
    with pytest.raises(HostFull) as error:
        check()
    assert (error.value.status, error.value.retry_after_s) == (503, 30)
    assert str(error.value).startswith("this host is full: ") and error.value.limit in str(error.value)
    return error.value


def capacity(config: Config, memory_mb: int = 4096, free: dict[str, int] | None = None) -> Capacity:
    return Capacity(config, lambda: memory_mb, lambda path: (free or {}).get(str(path), 100_000))


def test_the_number_of_sandboxes(config: Config) -> None:
    limited = capacity(replace(config, max_sandboxes=7))
    limited.check_number(Counter(running=3, stopped=1, warm=2))
    error = full(lambda: limited.check_number(Counter(running=2, paused=1, stopped=1, warm=2, creating=1)))
    assert error.limit == "max_sandboxes"
    assert "it has 7 sandboxes (4 in use, 2 in pools, 1 being made), and max_sandboxes allows 7" in str(error)
    assert "docker-sandbox kill ID" in str(error)
    capacity(replace(config, max_sandboxes=0)).check_number(Counter(running=100_000))


def test_the_memory_counts_those_that_start_at_the_same_time(config: Config) -> None:
    just_enough = capacity(config, 1024 + 2 * START_MB)
    just_enough.check_memory(0)
    just_enough.check_memory(2)
    error = full(lambda: just_enough.check_memory(3))
    assert error.limit == "memory_reserve_mb"
    assert "1152 MB of memory are available, 192 MB are for what is being started" in str(error)
    assert "memory_reserve_mb keeps 1024 MB free" in str(error)


@pytest.mark.parametrize("path", ["/var/lib/docker", "/var/lib/acme"])
def test_each_file_system_counts(config: Config, path: str) -> None:
    paths = [Path("/var/lib/acme"), Path("/var/lib/docker")]
    capacity(config, free={f"{ROOT}{path}": 2048}).check_disks(paths, ROOT)
    error = full(lambda: capacity(config, free={f"{ROOT}{path}": 2047}).check_disks(paths, ROOT))
    assert error.limit == "disk_reserve_mb"
    assert f"2047 MB are free on the file system of {path}, and disk_reserve_mb keeps 2048 MB free" in str(error)


def test_what_the_kernel_says_of_memory(tmp_path: Path) -> None:
    assert available_memory_mb() > 0
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:       24683520 kB\nMemFree: 1 kB\nMemAvailable:    2049 kB\n")
    assert available_memory_mb(file) == 2
    for text in ("MemFree: 1 kB\n", "MemAvailable:\n", "MemAvailable: much\n"):
        file.write_text(text)
        with pytest.raises(HostError, match="cannot be told"):
            available_memory_mb(file)
    file.unlink()
    with pytest.raises(HostError, match="cannot be told"):
        available_memory_mb(file)


def test_what_the_kernel_says_of_disks(tmp_path: Path) -> None:
    assert free_disk_mb(tmp_path) > 0
    with pytest.raises(HostError, match=r"none: No such file.*cannot be told"):
        free_disk_mb(tmp_path / "none")


@pytest.mark.parametrize(("files", "free_files", "mb"), [(1000, 640, 10), (10**6, 10**6, 500), (0, 0, 500)])
def test_a_disk_without_inodes_is_full(monkeypatch: pytest.MonkeyPatch, files: int, free_files: int, mb: int) -> None:
    """500 MB are free; the last is a file system that makes inodes as they are needed."""
    disk = SimpleNamespace(f_bavail=500, f_frsize=MIB, f_files=files, f_favail=free_files)
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    assert free_disk_mb(Path("/anywhere")) == mb
