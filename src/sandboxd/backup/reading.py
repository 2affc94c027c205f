"""Reads a backup from a stream, and writes what is in it to a directory, or nowhere.

It is believed once all of it is right. The file may be anybody's: names are looked up and not followed, only plain
files count, and no name comes twice. Nothing is written outside the directory.
"""

import gzip
import hashlib
import json
import os
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from sandboxd.backup import FILES, FORMAT, HEAD, IMAGES, KINDS, LEDGER, MANIFEST, sparse
from sandboxd.disks import VOLUME_NAME
from sandboxd.errors import SandboxdError

TEXT_MAX = 64 * 1024 * 1024  # of head and manifest, and of what stands before a member, such as the map of a disk
MEMBERS_MAX = 100_000
SPACE_LEFT = 256 * 1024 * 1024  # bytes that unpacking leaves free on the disk
NAMES = re.compile(
    rf"{re.escape(HEAD)}|{re.escape(MANIFEST)}|{re.escape(LEDGER)}|{re.escape(IMAGES)}"
    rf"|(volumes|snapshots)/{VOLUME_NAME}\.img|(secrets|ca|acme)/{FILES}"
)


class Damaged(SandboxdError):
    """The file is no backup, not a whole one, or not as it was written."""


class NoSpace(SandboxdError):
    """The disk has no room for what is in the backup."""


@dataclass
class Content:
    """What a backup says of itself, and the members that are in it."""

    head: dict[str, Any] = field(default_factory=dict)
    members: dict[str, dict[str, Any]] = field(default_factory=dict)  # by name: size, sha256, and notes


def read(
    stream: BinaryIO,
    told: Callable[[int], None],
    accept: Callable[[dict[str, Any]], None],
    into: Path | None = None,
) -> Content:
    """Reads all of it, and with `into` writes its members there.

    `accept` is called with the head before anything else is read, and may raise. `told` gets the bytes of each piece of
    the stream.
    Raises Damaged, NoSpace, OSError.
    """
    found, seen = Content(), dict[str, tuple[int, str]]()
    manifest = None
    try:
        with gzip.GzipFile(fileobj=cast("IO[bytes]", _Told(stream, told)), mode="rb") as opened:
            source = _Unending(opened)
            with tarfile.open(fileobj=cast("IO[bytes]", source), mode="r|", bufsize=sparse.PIECE) as tar:
                for info in tar:
                    source.left = None
                    _check(info, seen, manifest is not None)
                    if info.name == MANIFEST:
                        manifest = _text(tar, info)
                    elif info.name == HEAD:
                        found.head = _head(_text(tar, info, seen))
                        accept(found.head)
                    else:
                        seen[info.name] = _take(tar, info, into)
                    source.left = TEXT_MAX
            while opened.read(sparse.PIECE):  # to its end, where the checksum is
                pass
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, ValueError) as error:  # ValueError: of a map that is none
        raise Damaged(f"this is no backup, or a damaged one: {error}") from error
    except EOFError as error:
        raise Damaged("the backup is not whole: it ends in the middle. Was the copy interrupted?") from error
    if manifest is None:
        raise Damaged("the backup is not whole: its manifest, which comes last, is missing")
    found.members = _compared(manifest, seen)
    return found


class _Told:
    """A stream that tells how much is read of it."""

    def __init__(self, stream: BinaryIO, told: Callable[[int], None]) -> None:
        self._stream, self._told = stream, told

    def read(self, size: int) -> bytes:
        piece = self._stream.read(size)
        self._told(len(piece))
        return piece


class _Unending:
    """An archive says itself where it ends: when there is nothing before that, the reader must not wait for more.

    `left` is how much may be read for the next header, which tarfile keeps in memory however long it is; None: no end.
    """

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file = file
        self.left: int | None = TEXT_MAX

    def read(self, size: int) -> bytes:
        piece = self._file.read(size)
        if not piece:
            raise EOFError
        if self.left is not None:
            self.left -= len(piece)
            if self.left < 0:
                raise Damaged(f"this is no backup of ours: a header in it has more than {TEXT_MAX // 1_000_000} MB")
        return piece


def _check(info: tarfile.TarInfo, seen: dict[str, Any], ended: bool) -> None:
    if not NAMES.fullmatch(info.name):
        raise Damaged(f"this is no backup of ours: it has a member {info.name[:200]!r}")
    if not info.isreg() or info.islnk() or info.issym():
        raise Damaged(f"this is no backup of ours: its member {info.name!r} is no plain file")
    if info.name in seen or ended:
        raise Damaged(f"this is no backup of ours: its member {info.name!r} comes twice, or after the manifest")
    if (info.name == HEAD) != (not seen):
        raise Damaged(f"this is no backup of ours: it does not begin with {HEAD}")
    if len(seen) >= MEMBERS_MAX:
        raise Damaged(f"this is no backup of ours: it has more than {MEMBERS_MAX} members")
    if info.size < 0:
        raise Damaged(f"this is no backup of ours: the size of its member {info.name!r} is {info.size}")


def _head(text: str) -> dict[str, Any]:
    head = _parsed(text)
    if head.get("format") != FORMAT:
        raise Damaged(
            f"the backup has format {head.get('format')!r}, and this release reads {FORMAT}. Deploy a newer release."
        )
    numbers, texts = ("schema", "bytes", "userns_uid"), ("project", "domain", "version", "made")
    fits = {key: type(head.get(key)) is int for key in numbers}
    fits |= {key: isinstance(head.get(key), str) and head[key].isprintable() for key in texts}  # a terminal shows them
    fits["without"] = isinstance(head.get("without"), list) and all(kind in KINDS for kind in head["without"])
    if wrong := [key for key in fits if not fits[key]]:
        raise Damaged(f"this is no backup of ours: {wrong[0]} = {repr(head.get(wrong[0]))[:200]} in its {HEAD}")
    return head


def _text(tar: tarfile.TarFile, info: tarfile.TarInfo, seen: dict[str, tuple[int, str]] | None = None) -> str:
    if info.size > TEXT_MAX or info.sparse is not None:
        raise Damaged(f"this is no backup of ours: its member {info.name!r} has {info.size} bytes")
    content = b"".join(_pieces(tar, info, [(0, info.size)]))
    if seen is not None:
        seen[info.name] = len(content), hashlib.sha256(content).hexdigest()
    return content.decode(errors="replace")


def _parsed(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise Damaged(f"the backup is damaged: {error}") from error
    if not isinstance(value, dict):
        raise Damaged("this is no backup of ours: what should say what it is is no object")
    return value


def _take(tar: tarfile.TarFile, info: tarfile.TarInfo, into: Path | None) -> tuple[int, str]:
    """Reads one member, and writes it below `into`. Returns its size and its digest."""
    parts = [(0, info.size)] if info.sparse is None else _parts(info)
    digest = hashlib.sha256(b"" if info.sparse is None else sparse.as_map(parts))
    target = -1 if into is None else _created(into / info.name, sum(length for _, length in parts))
    try:
        for piece in _pieces(tar, info, parts, lambda offset: os.lseek(target, offset, os.SEEK_SET) if into else 0):
            digest.update(piece)
            view = memoryview(piece)
            while into is not None and view:
                view = view[os.write(target, view) :]
        if into is not None:
            os.ftruncate(target, info.size)
            os.fsync(target)
    finally:
        if target >= 0:
            os.close(target)
    return info.size, digest.hexdigest()


def _created(path: Path, needed: int) -> int:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    found = os.statvfs(path.parent)
    free = found.f_bavail * found.f_frsize
    if free < needed + SPACE_LEFT:
        raise NoSpace(f"{path}: needs {needed} bytes, and {free} are free there. Make room: df -h {path.parent}")
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _parts(info: tarfile.TarInfo) -> sparse.Extents:
    """The map of a sparse member: in order, without overlaps, and within the file."""
    at, found = 0, cast("sparse.Extents", info.sparse)
    for offset, length in found:
        if offset < at or length < 0 or offset + length > info.size:
            raise Damaged(f"this is no backup of ours: the map of its member {info.name!r} is wrong")
        at = offset + length
    return found


def _pieces(
    tar: tarfile.TarFile,
    info: tarfile.TarInfo,
    parts: sparse.Extents,
    moved: Callable[[int], object] = lambda offset: None,
) -> Iterator[bytes]:
    """What is in these parts of a member; `moved` is called with the offset of each. A stream has them one after the
    other, without what is between."""
    stream = cast("BinaryIO", tar.fileobj)
    stream.seek(info.offset_data)
    if info.offset_data + sum(length for _, length in parts) > tar.offset:
        raise Damaged(f"this is no backup of ours: the map of its member {info.name!r} is wrong")
    for offset, length in parts:
        moved(offset)
        while length:
            piece = stream.read(min(sparse.PIECE, length))
            if not piece:
                raise EOFError
            length -= len(piece)
            yield piece


def _compared(manifest: str, seen: dict[str, tuple[int, str]]) -> dict[str, dict[str, Any]]:
    """The members as the manifest lists them, which are those that were read."""
    try:
        listed = {str(one["name"]): dict(one) for one in _parsed(manifest)["members"]}
        told = {name: (int(one["size"]), str(one["sha256"])) for name, one in listed.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise Damaged(f"the backup is damaged: no usable list of members in its manifest ({error!r})") from error
    for name in sorted(told.keys() | seen.keys()):
        if name not in seen or name not in told:
            where = "in the manifest, but not in the backup" if name not in seen else "not in the manifest"
            raise Damaged(f"the backup is damaged: {name} is {where}")
        if told[name] != seen[name]:
            raise Damaged(f"the backup is damaged: {name} is not what it was when it was written")
    if LEDGER not in listed:
        raise Damaged(f"the backup is not whole: it has no {LEDGER}")
    return listed
