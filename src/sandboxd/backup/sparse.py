"""Sparse files in a tar archive, in the form that GNU tar and Python read: "PAX 1.0", a map of the data before it.

See https://www.gnu.org/software/tar/manual/html_section/Sparse-Formats.html.
"""

import errno
import os
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

BLOCK = 512
PIECE = 1024 * 1024

Extents = list[tuple[int, int]]


def extents(fd: int, size: int) -> Extents:
    """(offset, length) of what is not a hole; ends with an empty one at the end of the file."""
    found: Extents = []
    at = 0
    while at < size:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # nothing but a hole is left
                raise
            break
        at = min(os.lseek(fd, begin, os.SEEK_HOLE), size)
        if begin < size:
            found.append((begin, at - begin))
    return [*found, (size, 0)]


def as_map(parts: Extents) -> bytes:
    """How many there are, then each offset and length, a line each; whole blocks."""
    text = "".join(f"{number}\n" for number in (len(parts), *(one for part in parts for one in part))).encode()
    return text + bytes(-len(text) % BLOCK)


def member(name: str, size: int, parts: Extents) -> tarfile.TarInfo:
    """The header of a sparse file."""
    made = tarfile.TarInfo(f"GNUSparseFile.0/{name}")
    made.size = len(as_map(parts)) + sum(length for _, length in parts)
    made.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": name,
        "GNU.sparse.realsize": str(size),
    }
    return made


def data(file: BinaryIO, parts: Extents) -> Iterator[bytes]:
    """What is in these parts, in pieces. Raises EOFError for a file that became shorter."""
    for offset, length in parts:
        file.seek(offset)
        while length:
            piece = file.read(min(PIECE, length))
            if not piece:
                raise EOFError(f"{file.name} became shorter while it was read")
            length -= len(piece)
            yield piece
