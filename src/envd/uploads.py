"""Uploads of single files, streamed from the body to disk. Writes to the file system as the requested user."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping

from envd.bodies import decoded
from envd.entries import read_metadata, replace_metadata
from envd.errors import invalid_argument
from envd.identity import run_as
from envd.multipart import Data, MultipartParser, Part, PartEnd, boundary_of
from envd.oserrors import file_errors
from envd.users import User, expand_path, make_directories
from envd.web import Request, Response

WRITE_BYTES = 512 * 1024  # collected before each write, which costs a turn through a thread
IOV_MAX = 1024  # pieces in one writev(2), see sysconf(3)
METADATA_HEADER = "x-metadata-"


async def upload(request: Request, response: Response, user: User, workdir: str) -> None:
    """POST /files: a form with one or more files, or the bare bytes of one."""
    metadata = {
        name.removeprefix(METADATA_HEADER): value.encode("latin-1").decode("utf-8", "surrogateescape")
        for name, value in request.headers.items()
        if name.startswith(METADATA_HEADER)
    }
    path = request.query.get("path")
    match request.content_type:
        case "multipart/form-data":
            boundary = boundary_of(request.header("content-type") or "")
            written = await _upload_form(decoded(request), boundary, path, user, workdir, metadata)
        case "application/octet-stream":
            if not path:
                raise invalid_argument("query parameter 'path' is missing")
            body = decoded(request)
            written = [await _upload_bytes(body, expand_path(path, user, workdir), user, metadata)]
        case other:
            types = "multipart/form-data, application/octet-stream or application/x-tar"
            raise invalid_argument(f"unsupported content type {other!r}: use {types}")
    await response.json(200, written)


class FileWriter:
    """An open target. Missing parents were created; an existing file keeps its mode and its owner."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self._fd = fd
        self._pending: list[bytes] = []
        self._pending_bytes = 0

    @classmethod
    async def open(cls, path: str, user: User, metadata: Mapping[str, str]) -> "FileWriter":
        with file_errors(path):
            return cls(path, await run_as(user, _open_target, path, user, metadata))

    async def write(self, data: bytes) -> None:
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes >= WRITE_BYTES:
            await self._flush()

    async def finish(self) -> dict[str, object]:
        """Write what is left and describe the file in the form in which E2B's clients take it (no key more)."""
        await self._flush()
        info: dict[str, object] = {"path": self.path, "name": os.path.basename(self.path), "type": "file"}
        if metadata := read_metadata(self._fd):
            info["metadata"] = metadata
        return info

    def close(self) -> None:
        os.close(self._fd)

    async def _flush(self) -> None:
        if not self._pending:
            return
        pieces = self._pending
        self._pending, self._pending_bytes = [], 0
        with file_errors(self.path):
            await asyncio.to_thread(_write_all, self._fd, pieces)


async def _upload_form(
    body: AsyncIterator[bytes], boundary: bytes, path: str | None, user: User, workdir: str, metadata: Mapping[str, str]
) -> list[dict[str, object]]:
    """Store every part that is called "file": at `path`, or else at the path that is its file name."""
    parser = MultipartParser(boundary)
    written: dict[str, dict[str, object]] = {}
    writer: FileWriter | None = None
    try:
        async for piece in body:
            for event in parser.feed(piece):
                if isinstance(event, Part) and event.name == "file":
                    target = path or event.filename
                    if not target:
                        raise invalid_argument("neither query parameter 'path' nor the part's file name says where to")
                    target = expand_path(target, user, workdir)
                    if target in written:
                        raise invalid_argument(f"cannot upload two files to the same path '{target}'")
                    writer = await FileWriter.open(target, user, metadata)
                elif isinstance(event, Data) and writer is not None:
                    await writer.write(event.content)
                elif isinstance(event, PartEnd) and writer is not None:
                    written[writer.path] = await writer.finish()
                    writer.close()
                    writer = None
        parser.close()
    finally:
        if writer is not None:
            writer.close()
    return list(written.values())


async def _upload_bytes(
    body: AsyncIterator[bytes], path: str, user: User, metadata: Mapping[str, str]
) -> dict[str, object]:
    writer = await FileWriter.open(path, user, metadata)
    try:
        async for piece in body:
            await writer.write(piece)
        return await writer.finish()
    finally:
        writer.close()


def _open_target(path: str, user: User, metadata: Mapping[str, str]) -> int:
    # O_NONBLOCK: a FIFO without a reader is then an error, and not a wait for ever.
    flags = os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        # Not with O_CREAT from the start: in /tmp, fs.protected_regular then denies root the files of others.
        fd = os.open(path, flags)
    except FileNotFoundError:
        make_directories(os.path.dirname(path))
        fd = os.open(path, flags | os.O_CREAT, 0o666)
    replace_metadata(fd, metadata)
    return fd


def _write_all(fd: int, pieces: list[bytes]) -> None:
    for start in range(0, len(pieces), IOV_MAX):
        some = pieces[start : start + IOV_MAX]
        written = os.writev(fd, some)
        if written < sum(map(len, some)):  # the disk is about to be full: the rest, or the reason
            view = memoryview(b"".join(some))[written:]
            while view:
                view = view[os.write(fd, view) :]
