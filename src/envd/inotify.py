"""inotify(7) of the kernel: directories are added to an instance, and what happens in them is read as values.

Makes system calls, through the C library, and nothing else. Python has no binding of its own. Only for whoever watches
something: an agent that watches nothing does not import this module, and ctypes with it.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from typing import IO, NamedTuple

IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_UNMOUNT = 0x2000
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000
IN_ONLYDIR = 0x0100_0000
IN_DONT_FOLLOW = 0x0200_0000
IN_ISDIR = 0x4000_0000

# What to ask for: all that happens to what is in a directory, and that the directory itself goes away.
CONTENT = IN_CREATE | IN_DELETE | IN_MODIFY | IN_ATTRIB | IN_MOVED_FROM | IN_MOVED_TO
ITSELF = IN_DELETE_SELF | IN_MOVE_SELF

READ_BYTES = 64 * 1024  # of events at once; a single one has at most 16 + 256
_HEAD = struct.Struct("iIII")  # wd, mask, cookie, length of the name


class RawEvent(NamedTuple):
    """`wd` tells the directory (-1 when events were lost), `name` what in it, "" for the directory itself."""

    wd: int
    mask: int
    cookie: int
    name: str


class Inotify:
    """One instance. `pipe` is non-blocking and readable when there are events; closing it ends everything."""

    def __init__(self) -> None:
        """Raises OSError, EMFILE when the user has as many instances as the kernel allows."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        fd = self._checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), None)
        self.pipe: IO[bytes] = os.fdopen(fd, "rb", buffering=0)

    def add(self, path: str, mask: int) -> int:
        """Watch a directory; its number is the one that it has already, if it is watched, by whatever path.

        Raises OSError: of the path, or ENOSPC when the user has as many watches as the kernel allows.
        """
        flags = ctypes.c_uint32(mask | IN_ONLYDIR)
        return self._checked(self._libc.inotify_add_watch(self.pipe.fileno(), os.fsencode(path), flags), path)

    def remove(self, wd: int) -> None:
        """Watch a directory no longer; one that is gone already is fine."""
        try:
            self._checked(self._libc.inotify_rm_watch(self.pipe.fileno(), ctypes.c_int(wd)), None)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise

    @staticmethod
    def _checked(result: int, path: str | None) -> int:
        if result < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
        return result


def parse(data: bytes) -> Iterator[RawEvent]:
    """The events in what was read from the pipe; the kernel gives whole ones only."""
    at = 0
    while at < len(data):
        wd, mask, cookie, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        yield RawEvent(wd, mask, cookie, os.fsdecode(data[at : at + length].rstrip(b"\0")))
        at += length
