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
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            select.select([], [fd], [])
        except BrokenPipeError as error:
            raise ReaderGone from error
        except OSError as error:
            raise OutputError(f"cannot write to {NAMES.get(fd, fd)}: {error.strerror}.") from error
