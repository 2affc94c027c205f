"""A directory becomes the body of a request: a tar stream in chunks, never whole in memory. Reads local files only.

The kernel moves the content from file to socket (sendfile); nothing of it passes through Python.
"""

import os
import stat
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

from sandboxd.cli.exits import CliError
from sandboxd.cli.http1 import Connection
from sandboxd.cli.printing import warn
from sandboxd.cli.progress import Progress
from sandboxd.cli.streams import Refused

SLICE_BYTES = 1024 * 1024  # between two slices we look whether the other side has refused already


def walk(directory: str, name: str) -> Iterator[tuple[str, str]]:
    """Path and name in the archive of `directory` and all below it, each directory before what is in it."""
    yield directory, name
    with os.scandir(directory) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        inner = f"{name}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from walk(entry.path, inner)
        else:
            yield entry.path, inner


def send_directory(connection: Connection, directory: str, name: str, progress: Progress) -> None:
    """Sends all chunks of the body. Raises Refused, and CliError for a file that changes while it is read."""
    for path, inner in walk(directory, name):
        found = os.stat(path) if path == directory else os.lstat(path)  # it may be named by a link to it
        member = header_of(path, inner, found)
        if member is None:
            warn(f"{path}: left out, since it is no file, directory or link")
            continue
        head = member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        if member.isreg() and member.size:
            send_member(connection, path, head, member.size, progress)
        else:
            connection.send_chunk(head)
        if connection.answered():
            raise Refused
    connection.send_chunk(b"\0" * tarfile.BLOCKSIZE * 2)
    connection.end_chunks()


def header_of(path: str, name: str, found: os.stat_result) -> tarfile.TarInfo | None:
    """None for sockets, devices and FIFOs. Owners are left out: everything will be the sandbox user's."""
    member = tarfile.TarInfo(name)
    member.mode, member.mtime = found.st_mode & 0o7777, int(found.st_mtime)
    if stat.S_ISLNK(found.st_mode):
        member.type, member.linkname = tarfile.SYMTYPE, os.readlink(path)
    elif stat.S_ISDIR(found.st_mode):
        member.type = tarfile.DIRTYPE
    elif stat.S_ISREG(found.st_mode):
        member.size = found.st_size
    else:
        return None
    return member


def send_member(connection: Connection, path: str, head: bytes, size: int, progress: Progress) -> None:
    """Header, content and padding of one file, as one chunk."""
    padding = b"\0" * (-size % tarfile.BLOCKSIZE)
    with open(path, "rb") as file:
        connection.socket.sendall(b"%x\r\n" % (len(head) + size + len(padding)) + head)
        send_file(connection, file, size, progress)
    connection.socket.sendall(padding + b"\r\n")


def send_file(connection: Connection, file: BinaryIO, size: int, progress: Progress) -> None:
    """Exactly `size` bytes from the file's beginning. Raises Refused, and CliError when it has become shorter."""
    offset = 0
    while offset < size:
        sent = connection.socket.sendfile(file, offset, min(SLICE_BYTES, size - offset))
        if sent == 0:
            raise CliError(f"{file.name}: became shorter while it was read ({size} bytes, then {offset}). Try again.")
        offset += sent
        progress.add(sent)
        if connection.answered():
            raise Refused
