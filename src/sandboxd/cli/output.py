"""Bytes to standard output and standard error, past Python's buffers."""

import os
import select

from sandboxd.cli.exits import CliError

NAMES = {1: "standard output", 2: "standard error"}


class OutputError(CliError):
    """Our standard output or error takes no more, such as a file on a full disk."""


class ReaderGone(Exception):
    """Nobody reads our standard output or error any more."""


def write_all(fd: int, data: bytes) -> None:
    """Writes all of it, also to a pipe that somebody has made non-blocking. Raises ReaderGone, OutputError."""
    view = memoryview(data)
    while view:
        written = write_some(fd, view)
        view = view[written:]
        if not written:
            select.select([], [fd], [])


def write_some(fd: int, data: bytes | memoryview) -> int:
    """Writes as much as `fd` takes, and returns how much that was. Raises ReaderGone, OutputError."""
    try:
        return os.write(fd, data)
    except BlockingIOError:
        return 0
    except BrokenPipeError as error:
        raise ReaderGone from error
    except OSError as error:
        raise OutputError(f"cannot write to {NAMES.get(fd, 'the terminal')}: {error.strerror}.") from error


def unhurried(fd: int) -> int:
    """Another descriptor of the terminal `fd`, to which a write never waits; `fd` itself when it may not be opened.

    The flag O_NONBLOCK on `fd` would hold for all that share it: our shell would meet it after us.
    """
    try:
        return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return fd
