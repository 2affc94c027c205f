"""Downloads: one file, streamed from disk. Reads the file system as the requested user."""

import asyncio
import mimetypes
import os
import stat
from urllib.parse import quote

from envd.errors import EnvdError, invalid_argument
from envd.oserrors import file_errors
from envd.users import User, expand_path
from envd.web import Request, Response

READ_BYTES = 512 * 1024

# With no paths: the sandbox's own mime.types neither costs memory here nor decides what a download is called.
_TYPES = mimetypes.MimeTypes()


async def download(request: Request, response: Response, user: User, workdir: str) -> None:
    path = expand_path(request.query.get("path", ""), user, workdir)
    with file_errors(path):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        info = os.fstat(fd)
        if stat.S_ISDIR(info.st_mode):
            raise invalid_argument(f"path '{path}' is a directory")
        if not stat.S_ISREG(info.st_mode):
            raise invalid_argument(f"path '{path}' is not a regular file")
        await response.start(200, {"content-length": str(info.st_size)})
        left = info.st_size
        while left:
            data = await asyncio.to_thread(os.read, fd, min(left, READ_BYTES))
            if not data:
                raise EnvdError("internal", f"path '{path}' shrank")
            left -= len(data)
            await response.write(data)
        await response.end()
    finally:
        os.close(fd)
