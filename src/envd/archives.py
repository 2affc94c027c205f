"""Whole directories as one tar stream, in and out: an addition to E2B's protocol. Runs GNU tar as the requested user.

tar and not Python's tarfile: it costs the agent no memory, keeps a disk busy, checks names, links and truncation, and
the kernel checks what it touches against the user.
"""

import asyncio
import os
import stat
import subprocess
from collections.abc import AsyncIterator
from typing import IO

from envd.bodies import decoded
from envd.errors import EnvdError, invalid_argument, no_space
from envd.identity import run_as
from envd.oserrors import file_errors
from envd.pipes import InputPipe, read_piece
from envd.spawn import DEFAULT_PATH, credentials, expendable
from envd.users import User, expand_path, make_directories
from envd.web import Request, Response

TAR_TYPE = "application/x-tar"
READ_BYTES = 64 * 1024
END_OF_ARCHIVE = bytes(1024)  # two blocks of zeros: without them the archive is cut off, even if between two files
DIAGNOSTICS_BYTES = 2048  # what an answer quotes of tar's complaints
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
    options = ["--extract", "--same-permissions", "--no-same-owner", "--no-overwrite-dir"]
    tar = Tar([*options, f"--directory={path}"], user, reads=True)
    try:
        last = await tar.feed(body)
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
    tar = Tar(["--create", "--format=gnu", *options, f"--directory={directory}", "--", name], user, reads=False)
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


class Tar:
    """A running tar: `feed` or `read`, then `finish`, and `close` in any case."""

    def __init__(self, arguments: list[str], user: User, *, reads: bool) -> None:
        """`reads`: whether it takes an archive (from `feed`) or makes one (for `read`)."""
        self.diagnostics = ""
        with expendable():
            self._popen = subprocess.Popen(
                ["tar", "--file=-", *arguments],
                bufsize=0,
                stdin=subprocess.PIPE if reads else subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if reads else subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                env={"PATH": DEFAULT_PATH, "LC_ALL": "C.UTF-8"},
                **credentials(user),
            )
        for pipe in self._pipes():
            os.set_blocking(pipe.fileno(), False)
        self._input = InputPipe(self._popen.stdin) if self._popen.stdin else None
        self._complaints = asyncio.get_running_loop().create_task(self._collect_complaints())

    async def feed(self, body: AsyncIterator[bytes]) -> bytes:
        """Pass the archive on; returns its last 1024 bytes. Stops when tar has given up."""
        last = b""
        if self._input is not None:
            async for piece in body:
                last = (last + piece)[-len(END_OF_ARCHIVE) :]
                try:
                    await self._input.write(piece)
                except BrokenPipeError:
                    break
            self._input.close()
        return last

    async def read(self) -> bytes:
        return await read_piece(self._popen.stdout, READ_BYTES) if self._popen.stdout else b""

    async def finish(self) -> int:
        """Wait for tar and return its exit status."""
        await self._complaints
        return await asyncio.to_thread(self._popen.wait)

    def close(self) -> None:
        """Stop it if it runs, and let go of everything."""
        self._complaints.cancel()
        if self._popen.poll() is None:
            self._popen.kill()
            self._popen.wait()
        if self._input is not None:
            self._input.close()
        for pipe in self._pipes():
            pipe.close()

    def _pipes(self) -> list[IO[bytes]]:
        return [pipe for pipe in (self._popen.stdin, self._popen.stdout, self._popen.stderr) if pipe is not None]

    async def _collect_complaints(self) -> None:
        if self._popen.stderr is None:
            return
        collected = b""
        while data := await read_piece(self._popen.stderr, READ_BYTES):
            collected += data[: max(0, DIAGNOSTICS_BYTES - len(collected))]
            self.diagnostics = collected.decode(errors="replace").strip().replace("\n", "; ")


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
