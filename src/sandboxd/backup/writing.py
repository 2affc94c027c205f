"""Writes a backup to a stream, member by member. Touches the stream, and reads the files that it is given."""

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from sandboxd.backup import HEAD, MANIFEST, sparse

LEVEL = 1  # of gzip: the disks of the host are faster than a higher one


class Writer:
    """Use it in a `with` statement; `told` gets the bytes of each piece that was read. A body that fails leaves an
    archive without its end, which no reader takes."""

    def __init__(self, stream: BinaryIO, head: dict[str, Any], told: Callable[[int], None]) -> None:
        self._told = told
        self._gzip = gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=LEVEL, mtime=0)
        self._tar = tarfile.TarFile(
            fileobj=cast("IO[bytes]", self._gzip), mode="w", format=tarfile.PAX_FORMAT, copybufsize=sparse.PIECE
        )
        self.members: list[dict[str, Any]] = []
        self.content(HEAD, json.dumps(head, indent=2).encode())

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            manifest = json.dumps({"members": self.members}, indent=1).encode()
            self._put(MANIFEST, [manifest], len(manifest))
            self._tar.close()
            self._gzip.close()

    def content(self, name: str, content: bytes) -> None:
        self._note(name, len(content), self._put(name, [content], len(content)))

    def file(self, name: str, path: Path) -> None:
        """A file as it is."""
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            self._note(name, size, self._put(name, sparse.data(file, [(0, size)]), size))

    def image(self, name: str, path: Path, **notes: Any) -> None:
        """A file with holes, of which only the rest is stored."""
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            parts = sparse.extents(file.fileno(), size)
            stored = [sparse.as_map(parts)]
            digest = self._add(sparse.member(name, size, parts), chain(stored, sparse.data(file, parts)))
        self._note(name, size, digest, **notes)

    def _note(self, name: str, size: int, digest: str, **notes: Any) -> None:
        self.members.append({"name": name, "size": size, "sha256": digest, **notes})

    def _put(self, name: str, pieces: Iterable[bytes], size: int) -> str:
        made = tarfile.TarInfo(name)
        made.size = size
        return self._add(made, pieces)

    def _add(self, made: tarfile.TarInfo, pieces: Iterable[bytes]) -> str:
        made.mode = 0o600
        reading = Pieces(pieces, self._told)
        self._tar.addfile(made, reading)
        return reading.digest.hexdigest()


class Pieces(io.RawIOBase):
    """A file of pieces, whose digest and bytes are counted as they go by."""

    def __init__(self, pieces: Iterable[bytes], told: Callable[[int], None]) -> None:
        self._pieces, self._told = iter(pieces), told
        self._rest = b""
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """At most one piece, and less only at the end of all."""
        while len(self._rest) < size and (piece := next(self._pieces, b"")):
            self.digest.update(piece)
            self._told(len(piece))
            self._rest = self._rest + piece if self._rest else piece
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken
