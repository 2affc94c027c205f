"""Holds a file system still while its disk is copied: nobody's write is half in the copy, and writers wait meanwhile.

A process of its own freezes it, and thaws it as soon as we say so, end, or take too long: a sandbox must not hang
because a backup was killed.
"""

import errno
import fcntl
import os
import re
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

FIFREEZE, FITHAW = 0xC0045877, 0xC0045878  # linux/fs.h
LIMIT_S = 60.0
MOUNTS = Path("/proc/self/mountinfo")
BLOCKS = Path("/sys/dev/block")


class Unmounted(Exception):
    """The file system was unmounted since it was looked for."""


@dataclass(frozen=True)
class Mounted:
    """A file system, and where it is mounted. `device` is the number of its block device."""

    directory: Path
    device: int


def mounted_at(file: Path, mountinfo: Path = MOUNTS, blocks: Path = BLOCKS) -> Mounted | None:
    """Where the file system in `file` is mounted through a loop device; None if it is not."""
    for line in mountinfo.read_text().splitlines():
        fields = line.split(" ")
        with suppress(OSError):
            if (blocks / fields[2] / "loop/backing_file").read_text().strip() == str(file.resolve()):
                directory = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
                major, minor = fields[2].split(":")
                return Mounted(Path(directory), os.makedev(int(major), int(minor)))
    return None


@contextmanager
def frozen(mounted: Mounted, limit_s: float = LIMIT_S) -> Iterator[Callable[[], bool]]:
    """Freezes a file system for the time that the body takes, or for `limit_s`.

    Gives a function that says whether it has been still up to now. Raises Unmounted, and OSError when it cannot be
    frozen.
    """
    fd = _opened(mounted)
    ours, theirs = os.pipe()
    said, saying = os.pipe()
    child = os.fork()
    if child == 0:
        try:  # whatever happens, the child must not go on with our work
            os.close(theirs)
            os.close(said)
            _hold(fd, ours, saying, limit_s)
        finally:
            os._exit(0)
    os.close(ours)
    os.close(saying)
    answer = b""
    try:
        answer = os.read(said, 16)
        if answer != b"0":
            number = int(answer or errno.EIO)
            raise OSError(number, f"{os.strerror(number)}: it cannot be frozen", str(mounted.directory))
        yield lambda: not select.select([said], [], [], 0)[0]  # the pipe ends when it is thawed
    finally:
        os.close(theirs)
        os.waitpid(child, 0)
        if answer == b"0":
            _thaw(fd)  # should the child have been killed
        os.close(fd)
        os.close(said)


def _opened(mounted: Mounted) -> int:
    """The directory, which as long as it is open cannot be unmounted. What is below its mount point is the host's own
    file system: to freeze that would stop the host. Raises Unmounted."""
    try:
        fd = os.open(mounted.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Unmounted(str(error)) from error
    if os.fstat(fd).st_dev != mounted.device:
        os.close(fd)
        raise Unmounted(f"{mounted.directory}: nothing is mounted there any more")
    return fd


def _thaw(fd: int) -> None:
    with suppress(OSError):  # it is thawed already
        fcntl.ioctl(fd, FITHAW, 0)


def _hold(fd: int, until: int, saying: int, limit_s: float) -> None:
    """In the child: freezes, says so, and thaws when `until` ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    try:
        fcntl.ioctl(fd, FIFREEZE, 0)
    except OSError as error:
        os.write(saying, str(error.errno).encode())
        return
    try:
        os.write(saying, b"0")
        select.select([until], [], [], limit_s)
    finally:
        _thaw(fd)
        os.close(saying)
