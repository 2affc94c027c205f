"""Whether the host has room for one more sandbox. Reads /proc/meminfo and the free space of file systems.

Sandboxes may ask for more than there is: their limits of memory and disk are what each may take, not what is set aside
for it. So what counts here is what is free at the moment, and some of it is never given away.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from sandboxd.config import Config
from sandboxd.errors import HostError, HostFull
from sandboxd.records import USED

MEMINFO = Path("/proc/meminfo")
START_MB = 64  # an idle sandbox with its shim takes less than 25 MB; the rest is for its first command
MIB = 1024 * 1024
FILE_BYTES = 16 * 1024  # of ext4, there is one inode for so much of the disk: mke2fs(8), inode_ratio
FULL = "this host is full"


def available_memory_mb(file: Path = MEMINFO) -> int:
    """What the kernel thinks it can give away without swapping, MemAvailable of proc(5). Raises HostError."""
    try:
        for line in file.read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return int(value.split()[0]) // 1024
    except (OSError, ValueError, IndexError) as error:
        raise HostError(f"{file}: {error}: what memory is available cannot be told.") from error
    raise HostError(f"{file}: has no line MemAvailable: what memory is available cannot be told.")


def free_disk_mb(path: Path) -> int:
    """What may be written on the file system of `path` by others than root, as files of FILE_BYTES where not so many
    can be made: a disk is as full without inodes as it is without space. Raises HostError.
    """
    try:
        found = os.statvfs(path)
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}: how much of its file system is free cannot be told.") from error
    space = found.f_bavail * found.f_frsize
    files = found.f_favail * FILE_BYTES if found.f_files else space  # btrfs makes them as they are needed
    return min(space, files) // MIB


class Capacity:
    """Each check raises HostFull, which names the limit, the figures and the remedy."""

    def __init__(self, config: Config, memory_mb: Callable[[], int], disk_mb: Callable[[Path], int]) -> None:
        self._config, self._memory_mb, self._disk_mb = config, memory_mb, disk_mb

    def check_number(self, present: Counter[str]) -> None:
        """One more beside those that are there, given by their states."""
        most, there = self._config.max_sandboxes, present.total()
        if most and there >= most:
            used = sum(present[state] for state in USED)
            raise HostFull(
                "max_sandboxes",
                f"{FULL}: it has {there} sandboxes ({used} in use, {present['warm']} in pools, {present['creating']}"
                f" being made), and max_sandboxes allows {most}. Kill what nobody needs (docker-sandbox list,"
                " docker-sandbox kill ID), make a pool smaller (docker-sandbox pool resize),"
                " or raise max_sandboxes and deploy.",
            )

    def check_memory(self, starting: int) -> None:
        """One more; `starting` are being started now, itself among them, and have not taken their memory yet."""
        available, reserve, needed = self._memory_mb(), self._config.memory_reserve_mb, START_MB * max(starting, 1)
        if available - needed < reserve:
            raise HostFull(
                "memory_reserve_mb",
                f"{FULL}: {available} MB of memory are available, {needed} MB are for what is being started, and"
                f" memory_reserve_mb keeps {reserve} MB free. Kill or stop what nobody needs (docker-sandbox list,"
                " docker-sandbox kill ID), or lower memory_reserve_mb and deploy.",
            )

    def check_disks(self, paths: Iterable[Path], root: Path) -> None:
        """The file systems of these paths of the host, whose file tree begins at `root`."""
        reserve = self._config.disk_reserve_mb
        for path in paths:
            free = self._disk_mb(root / path.relative_to("/"))
            if free < reserve:
                raise HostFull(
                    "disk_reserve_mb",
                    f"{FULL}: {free} MB are free on the file system of {path}, and disk_reserve_mb keeps {reserve} MB"
                    " free. Kill what nobody needs (docker-sandbox list, docker-sandbox kill ID), remove other files"
                    " (docker system df shows Docker's), or lower disk_reserve_mb and deploy.",
                )
