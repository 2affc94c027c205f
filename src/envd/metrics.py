"""What the sandbox uses of its limits, from its own cgroup (v2) and file system. Reads /sys, /proc and statvfs."""

import os
import time

CGROUP = "/sys/fs/cgroup"


class Metrics:
    """CPU use is the mean since the call before, so the first call measures since the agent's start."""

    def __init__(self) -> None:
        self._cpu_s = _cpu_seconds()
        self._at_s = time.monotonic()

    def sample(self, disk_path: str) -> dict[str, float | int]:
        """Sizes in bytes, `ts` in Unix seconds, `cpu_used_pct` in percent of one CPU."""
        now_s, cpu_s = time.monotonic(), _cpu_seconds()
        elapsed_s = max(now_s - self._at_s, 1e-3)
        used_pct = round(100 * (cpu_s - self._cpu_s) / elapsed_s, 2)
        self._at_s, self._cpu_s = now_s, cpu_s
        disk = os.statvfs(disk_path)
        mem_total, mem_used = _memory()
        return {
            "ts": int(time.time()),
            "cpu_count": _cpu_count(),
            "cpu_used_pct": used_pct,
            "mem_total": mem_total,
            "mem_used": mem_used,
            "disk_used": (disk.f_blocks - disk.f_bfree) * disk.f_frsize,
            "disk_total": disk.f_blocks * disk.f_frsize,
        }


def _text(path: str) -> str:
    with open(path) as file:
        return file.read()


def _read(name: str) -> str:
    try:
        return _text(f"{CGROUP}/{name}")
    except OSError:  # not in a cgroup of our own: the machine's figures hold
        return ""


def _cpu_seconds() -> float:
    for line in _read("cpu.stat").splitlines():
        if line.startswith("usage_usec "):
            return int(line.split()[1]) / 1e6
    ticks = _text("/proc/stat").split("\n", 1)[0].split()[1:4]  # user, nice, system
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def _cpu_count() -> int:
    quota, _, period_us = _read("cpu.max").partition(" ")
    if quota.isdigit():
        return max(1, round(int(quota) / int(period_us)))
    return os.cpu_count() or 1


def _memory() -> tuple[int, int]:
    lines = _text("/proc/meminfo").splitlines()
    machine = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    limit, used = _read("memory.max").strip(), _read("memory.current").strip()
    total = int(limit) if limit.isdigit() else machine["MemTotal"]
    return total, int(used) if used.isdigit() else machine["MemTotal"] - machine["MemAvailable"]
