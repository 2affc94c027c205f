"""Files of a directory that other hosts change, too: what is read is what is there, and what is written is whole.

NFS keeps for up to a minute which names a directory has, and which it has not (nfs(5): lookupcache, acdirmax). Opening
a directory, or a file, asks its server (close-to-open); `stat` and `exists` need not. So a directory is opened before
it is looked into.

A server may delegate a file to a host that opens it. Whoever else wants to write that file, replace it or remove it
waits until the host has given it back: one that was lost never does, and is waited for until its lease ends. So files
are opened here in a way in which they are not delegated.
"""

import errno
import fcntl
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

POLL_S = 0.02
MODE = 0o600


def ask_anew(directory: Path) -> None:
    """What NFS has kept of the names in it holds no more, if they have changed. No such directory is fine."""
    with suppress(FileNotFoundError, NotADirectoryError):
        os.close(os.open(directory, os.O_RDONLY | os.O_DIRECTORY))


def open_own(file: Path, flags: int) -> int:
    """A descriptor of the file, which is made for its owner alone if `flags` say so. It is not delegated.

    That Linux's client asks for when a file is opened for direct I/O, since NFSv4.1 (`nfs4_map_atomic_open_share`).
    Afterwards it is a file like any other, whose reads and writes need not be aligned.
    """
    try:
        handle = os.open(file, flags | os.O_DIRECT, MODE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # A file system without direct I/O is not NFS. Some have made the file by now.
        return os.open(file, flags & ~os.O_EXCL, MODE)
    fcntl.fcntl(handle, fcntl.F_SETFL, fcntl.fcntl(handle, fcntl.F_GETFL) & ~os.O_DIRECT)
    return handle


def size(file: Path) -> int | None:
    """In bytes; None when there is no such file."""
    try:
        with os.fdopen(open_own(file, os.O_RDONLY), "rb") as opened:
            return os.fstat(opened.fileno()).st_size
    except FileNotFoundError:
        return None


def read(file: Path) -> str:
    """Empty when there is no such file."""
    try:
        with os.fdopen(open_own(file, os.O_RDONLY)) as opened:
            return opened.read()
    except FileNotFoundError:
        return ""


def replace(file: Path, text: str) -> None:
    """In one step, and on the server's disk before it returns."""
    temporary = file.with_name(f"{file.name}.{secrets.token_hex(4)}.new")
    with os.fdopen(open_own(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    os.replace(temporary, file)
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that knows no such thing for a directory
            raise
    finally:
        os.close(directory)


def lock(opened: IO[str], timeout_s: float) -> bool:
    """Whether the lock of that file is ours, which NFSv4 keeps between hosts; until then it is asked for."""
    give_up = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > give_up:
                return False
        time.sleep(POLL_S)


def is_still(opened: IO[str], file: Path) -> bool:
    """Whether a file of that name is there, and the one that was opened."""
    try:
        return os.path.samestat(os.fstat(opened.fileno()), file.stat())
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESTALE):
            raise
        return False
