"""Bytes to standard output and standard error, past Python's buffers."""

import os
import select


class ReaderGone(Exception):
    """Nobody reads our standard output or error any more."""


def write_all(fd: int, data: bytes) -> None:
    """Writes all of it, also to a pipe that somebody has made non-blocking. Raises ReaderGone."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            select.select([], [fd], [])
        except BrokenPipeError as error:
            raise ReaderGone from error
