"""Whole directories as one tar stream, in and out: an addition to E2B's protocol. Runs GNU tar as the requested user.

tar and not Python's tarfile: it costs the agent no memory, keeps a disk busy, checks names, links and truncation, and
the kernel checks what it touches against the user.
"""

import os
import stat

from envd.bodies import decoded
from envd.downloads import download
from envd.errors import EnvdError, invalid_argument, no_space
from envd.identity import run_as
from envd.oserrors import file_errors
from envd.tools import Tool
from envd.users import User, expand_path, make_directories
from envd.web import Request, Response

TAR_TYPE = "application/x-tar"
END_OF_ARCHIVE = bytes(1024)  # two blocks of zeros: without them the archive is cut off, even if between two files
CHANGED_MEANWHILE = 1  # exit status of a tar that read files which others were writing: no failure in a live sandbox


async def unpack(request: Request, response: Response, user: User, workdir: str) -> None:
    """POST /files with a tar: extract it below `path`. Directories that exist already keep their mode."""
    path = request.query.get("path")
    if not path:
        raise invalid_argument("query parameter 'path' is missing")
    path = expand_path(path, user, workdir)
    body = decoded(request)
    with file_errors(path):
        await run_as(user, make_directories, path)
    options = ["--same-permissions", "--no-same-owner", "--no-overwrite-dir", f"--directory={path}"]
    tar = Tool(["tar", "--extract", "--file=-", *options], user, reads=True)
    try:
        last = await tar.feed(body, len(END_OF_ARCHIVE))
        status = await tar.finish()
    finally:
        tar.close()
    if status:
        raise _failure(f"cannot extract the archive below '{path}'", tar.diagnostics)
    if last != END_OF_ARCHIVE:
        raise invalid_argument("the tar archive is truncated: it has no end marker")
    await response.json(200, {"path": path})


async def pack(request: Request, response: Response, user: User, workdir: str) -> None:
    """GET /files as a tar: of a directory its entries as "./...", of a file one entry with its name."""
    path = expand_path(request.query.get("path", ""), user, workdir)
    with file_errors(path):
        directory, name, *options = await run_as(user, _source, path)
    head = {"content-type": TAR_TYPE}
    if request.method == "HEAD":
        await response.start(200, head)
        await response.end()
        return
    options += [f"--directory={directory}", "--", name]
    tar = Tool(["tar", "--create", "--file=-", "--format=gnu", *options], user, writes=True)
    try:
        # One piece is held back until tar's verdict: a small archive that fails still gets an error as its answer.
        held = b""
        while data := await tar.read():
            if held:
                if not response.started:
                    await response.start(200, head)
                await response.write(held)
            held = data
        status = await tar.finish()
    finally:
        tar.close()
    if status not in (0, CHANGED_MEANWHILE):
        raise _failure(f"cannot archive '{path}'", tar.diagnostics)
    if not response.started:
        await response.start(200, head)
    await response.end(held)


async def pack_or_download(request: Request, response: Response, user: User, workdir: str) -> None:
    """GET /files of a client that takes both: a directory as a tar, anything else as its bytes."""
    path = expand_path(request.query.get("path", ""), user, workdir)
    transfer = pack if await run_as(user, os.path.isdir, path) else download
    await transfer(request, response, user, workdir)


def _source(path: str) -> tuple[str, ...]:
    """Where tar begins, what it takes, and how."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        return path, "."
    if stat.S_ISREG(mode):  # a link to a file gives the file, as it does without tar
        return os.path.dirname(path), os.path.basename(path), "--dereference"
    raise invalid_argument(f"path '{path}' is neither a file nor a directory")


def _failure(what: str, diagnostics: str) -> EnvdError:
    if "No space left on device" in diagnostics or "Disk quota exceeded" in diagnostics:
        return no_space()
    message = f"{what}: {diagnostics or 'tar was killed'}"
    if "Permission denied" in diagnostics:
        return EnvdError("permission_denied", message)
    return invalid_argument(message)
