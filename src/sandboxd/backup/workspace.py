"""The directory in which one backup or one restore works. It is made here, and removed."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandboxd.errors import HostError


@contextmanager
def workspace(directory: Path, another: str) -> Iterator[Path]:
    """It is empty, and ours alone. Raises HostError, in the words of `another`, while somebody else works in it."""
    directory.mkdir(mode=0o700, exist_ok=True)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HostError(another) from None
        _clear(directory)  # what one that was killed has left
        try:
            yield directory
        finally:
            _clear(directory)
            directory.rmdir()
    finally:
        os.close(fd)


def _clear(directory: Path) -> None:
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
