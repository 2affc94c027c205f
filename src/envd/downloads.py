"""Downloads of single files, streamed from disk. Reads the file system as the requested user."""

import asyncio
import os
import stat
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import quote

from envd.errors import EnvdError, invalid_argument
from envd.identity import run_as
from envd.oserrors import file_errors
from envd.ranges import Span, check_encoding, last_modified, wanted_span
from envd.users import User, expand_path
from envd.web import Request, Response

if TYPE_CHECKING:
    from mimetypes import MimeTypes

READ_BYTES = 512 * 1024
BYTES_TYPE = "application/octet-stream"


async def download(request: Request, response: Response, user: User, workdir: str) -> None:
    """GET /files: the bytes that the file has now, or a range of them; what is appended meanwhile is not sent.

    An addition to E2B's protocol: X-File-Mode (octal) and X-File-Mtime (Unix seconds), for those who make a copy.
    """
    check_encoding(request.header("accept-encoding"))
    path = expand_path(request.query.get("path", ""), user, workdir)
    with file_errors(path):
        fd, info, span, data = await run_as(
            user, _open_source, path, request.header("range"), request.header("if-range")
        )
    try:
        headers = {
            "content-type": content_type(path),
            "content-disposition": disposition(os.path.basename(path)),
            "vary": "Accept-Encoding",
            "accept-ranges": "bytes",
            "last-modified": last_modified(info.st_mtime),
            "x-file-mode": f"{stat.S_IMODE(info.st_mode):o}",
            "x-file-mtime": str(int(info.st_mtime)),
        }
        size = info.st_size if span is None else span.length
        if span is not None:
            headers["content-range"] = f"bytes {span.start}-{span.start + size - 1}/{info.st_size}"
        # The files of /proc say that they are empty and are not: of such a file the length is known at its end only.
        known = size > 0 or not data
        await response.start(
            200 if span is None else 206, {**headers, "content-length": str(size)} if known else headers
        )
        left = size
        while data and request.method != "HEAD":
            await response.write(data)
            left -= len(data)
            if known and left == 0:
                break
            data = await asyncio.to_thread(os.read, fd, min(left, READ_BYTES) if known else READ_BYTES)
        if known and left and request.method != "HEAD":
            raise EnvdError("internal", f"path '{path}' lost its last {left} bytes while it was read")
        await response.end()
    finally:
        os.close(fd)


def content_type(path: str) -> str:
    """By the name; a text is taken to be UTF-8."""
    kind, encoding = _types().guess_type(os.path.basename(path))
    if kind is None or encoding is not None:
        return BYTES_TYPE
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


@cache
def _types() -> "MimeTypes":
    """With no paths: the sandbox's own mime.types neither costs memory here nor decides what a download is called."""
    import mimetypes  # only here: most sandboxes never need it

    return mimetypes.MimeTypes()


def disposition(name: str) -> str:
    """The name in plain ASCII for everybody, and in full for those who know RFC 6266."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in name)
    full = "" if plain == name else f"; filename*=UTF-8''{quote(os.fsencode(name))}"
    return f'inline; filename="{plain}"{full}'


def _open_source(
    path: str, range_header: str | None, if_range: str | None
) -> tuple[int, os.stat_result, Span | None, bytes]:
    """The open file, what it is, which part of it is wanted (None: all), and the beginning of that."""
    # O_NONBLOCK: opening a FIFO that nobody writes to would wait for ever.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        info = os.fstat(fd)
        if stat.S_ISDIR(info.st_mode):
            raise invalid_argument(f"path '{path}' is a directory")
        if not stat.S_ISREG(info.st_mode):
            raise invalid_argument(f"path '{path}' is not a regular file")
        span = wanted_span(range_header, if_range, info.st_size, info.st_mtime)
        if span is None:
            return fd, info, None, os.read(fd, min(info.st_size, READ_BYTES) or READ_BYTES)
        os.lseek(fd, span.start, os.SEEK_SET)
        return fd, info, span, os.read(fd, min(span.length, READ_BYTES))
    except BaseException:
        os.close(fd)
        raise
