"""Uploads: one file, streamed from the body to disk. Works on the file system as root; the file becomes the user's."""

import asyncio
import os
import zlib
from collections.abc import AsyncIterator, Mapping

from envd.entries import read_metadata, replace_metadata
from envd.errors import EnvdError, invalid_argument
from envd.multipart import Data, MultipartParser, Part, PartEnd, boundary_of
from envd.oserrors import file_errors
from envd.users import User, expand_path, make_directories
from envd.web import Request, Response

WRITE_BYTES = 512 * 1024  # collected before each write, which costs a turn through a thread
INFLATE_BYTES = 1024 * 1024  # at most so much comes out of one step, however well the input was compressed
METADATA_HEADER = "x-metadata-"


async def upload(request: Request, response: Response, user: User, workdir: str) -> None:
    """POST /files: a form with one or more files, or the bare bytes of one."""
    metadata = {
        name.removeprefix(METADATA_HEADER): value
        for name, value in request.headers.items()
        if name.startswith(METADATA_HEADER)
    }
    path = request.query.get("path")
    match request.content_type:
        case "multipart/form-data":
            boundary = boundary_of(request.header("content-type") or "")
            written = await _upload_form(request, boundary, path, user, workdir, metadata)
        case "application/octet-stream":
            if not path:
                raise invalid_argument("query parameter 'path' is missing")
            body = _decoded(request)
            written = [await _upload_bytes(body, expand_path(path, user, workdir), user, metadata)]
        case other:
            raise invalid_argument(f"unsupported content type {other!r}: use multipart/form-data or octet-stream")
    await response.json(200, written)


class FileWriter:
    """An open target. Creates missing parents; an existing file keeps its mode and gets a new owner and content."""

    def __init__(self, path: str, user: User, metadata: Mapping[str, str]) -> None:
        self.path = path
        # O_NONBLOCK: a FIFO without a reader is then an error, and not a wait for ever.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK
        with file_errors(path):
            make_directories(os.path.dirname(path), user)
            self._fd = os.open(path, flags, 0o666)
            os.fchown(self._fd, user.uid, user.gid)
            replace_metadata(self._fd, dict(metadata))
        self._pending: list[bytes] = []
        self._pending_bytes = 0

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
        data = b"".join(self._pending)
        self._pending, self._pending_bytes = [], 0
        with file_errors(self.path):
            await asyncio.to_thread(_write_all, self._fd, data)


async def _upload_form(
    request: Request, boundary: bytes, path: str | None, user: User, workdir: str, metadata: Mapping[str, str]
) -> list[dict[str, object]]:
    """Store every part that is called "file": at `path`, or else at the path that is its file name."""
    parser = MultipartParser(boundary)
    written: dict[str, dict[str, object]] = {}
    writer: FileWriter | None = None
    try:
        async for piece in request.stream():
            for event in parser.feed(piece):
                if isinstance(event, Part) and event.name == "file":
                    target = expand_path(path or event.filename or "", user, workdir)
                    if target in written:
                        raise invalid_argument(f"cannot upload two files to the same path '{target}'")
                    writer = FileWriter(target, user, metadata)
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
    writer = FileWriter(path, user, metadata)
    try:
        async for piece in body:
            await writer.write(piece)
        return await writer.finish()
    finally:
        writer.close()


def _decoded(request: Request) -> AsyncIterator[bytes]:
    """The body without its Content-Encoding."""
    match (request.header("content-encoding") or "identity").strip().lower():
        case "identity":
            return request.stream()
        case "gzip":
            return _gunzipped(request.stream())
        case other:
            raise EnvdError("invalid_argument", f"content encoding {other!r} is not supported", status=415)


async def _gunzipped(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Inflate gzip members one after the other; raises `invalid_argument` when the body is not gzip or stops early."""
    member = zlib.decompressobj(wbits=31)
    async for data in body:
        while data:
            if member.eof:
                member = zlib.decompressobj(wbits=31)
            try:
                piece = member.decompress(data, INFLATE_BYTES)
            except zlib.error as error:
                raise invalid_argument(f"body is not valid gzip: {error}") from None
            if piece:
                yield piece
            data = member.unused_data if member.eof else member.unconsumed_tail
    if not member.eof:
        raise invalid_argument("the gzip body ends before its end marker")


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
