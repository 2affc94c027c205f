"""Requests about the content of volumes, each with a process of `volumehelper` that does the work.

Content is passed on piece by piece, in both directions. A request that ends ends its helper.
"""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from anyio import CancelScope
from fastapi import Response
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

import sandboxd
from sandboxd.api.answers import run
from sandboxd.errors import BadRequest, HostBusy, HostError, SandboxdError
from sandboxd.sandboxes import Sandboxes
from sandboxd.volumehelper import LENGTH, PIECE

HELPERS = 32  # at a time, on the whole host
IDLE_S = 60.0  # between two pieces of an upload
LINE_BYTES = 32 * 1024 * 1024  # the longest answer: a listing, of which volumefiles.MOST_TEXT is the measure
END_S, STOP_S = 0.2, 5.0


class VolumeRefused(SandboxdError):
    """What the helper said: `status` is the one that it gave."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Content:
    def __init__(self, sandboxes: Sandboxes) -> None:
        self._sandboxes = sandboxes
        self._helpers = 0

    async def ask(self, volume_id: str, wish: dict[str, Any], body: AsyncIterator[bytes] | None = None) -> Any:
        async with self._helper(volume_id, wish) as helper:
            if body is None:
                return await answer(helper)
            reading = asyncio.ensure_future(answer(helper))
            sending = asyncio.ensure_future(send(helper, body))
            try:
                await asyncio.wait({sending, reading}, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():  # else it was refused
                    await sending
                return await reading
            finally:
                for task in (sending, reading):
                    task.cancel()
                await asyncio.gather(sending, reading, return_exceptions=True)

    async def read(self, volume_id: str, wish: dict[str, Any]) -> Response:
        async with AsyncExitStack() as stack:
            helper = await stack.enter_async_context(self._helper(volume_id, wish))
            return Download(helper, await answer(helper), stack.pop_all())

    @asynccontextmanager
    async def _helper(self, volume_id: str, wish: dict[str, Any]) -> AsyncIterator[Process]:
        """A helper that has got the request. It has ended when the body is left."""
        if self._helpers >= HELPERS:
            raise HostBusy(f"{HELPERS} requests about volumes are being served. Try again in some seconds.")
        self._helpers += 1
        held = self._sandboxes.volumes.held(volume_id)
        try:
            root = await run(held.__enter__)
            try:
                base_uid = await run(self._sandboxes.engine.userns_uid) if self._sandboxes.host.confined else -1
                process = await started(root, base_uid, LINE_BYTES if wish["do"] == "list" else PIECE)
                try:
                    put(process).write(json.dumps(wish).encode() + b"\n")
                    yield process
                finally:
                    with CancelScope(shield=True):
                        await ended(process)
            finally:
                with CancelScope(shield=True):
                    await run(lambda: held.__exit__(None, None, None))
        finally:
            self._helpers -= 1


class Download(StreamingResponse):
    """What a helper sends, which ends with the answer, however that ends."""

    def __init__(self, helper: Process, size_bytes: int, kept: AsyncExitStack) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            while piece := await out(helper).read(PIECE):
                yield piece

        headers = {"Content-Length": str(size_bytes), "X-Content-Type-Options": "nosniff"}
        super().__init__(pieces(), headers=headers, media_type="application/octet-stream")
        self._kept = kept

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._kept:
            await super().__call__(scope, receive, send)


async def started(root: Path, base_uid: int, limit: int) -> Process:
    """No environment and no packages: what it imports is the standard library and our own code.

    Of what it says at most twice `limit` bytes are kept in memory; it waits meanwhile.
    """
    command = [sys.executable, "-E", "-S", "-m", "sandboxd.volumehelper", str(root), str(base_uid)]
    directory = Path(sandboxd.__file__).parents[1]
    return await asyncio.create_subprocess_exec(
        *command, cwd=directory, env={"LC_ALL": "C.UTF-8"}, stdin=PIPE, stdout=PIPE, limit=limit
    )


async def ended(process: Process) -> None:
    """It ends by itself when it has said all, and at the end of what it reads. SIGTERM lets it remove what is half
    written."""
    put(process).close()
    for wait_s, stop in ((END_S, process.terminate), (STOP_S, process.kill), (STOP_S, None)):
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await process.wait()
        if process.returncode is None and stop is not None:
            with suppress(ProcessLookupError):
                stop()
    while await out(process).read(PIECE):  # what is left in the pipe would keep it open
        pass


async def send(process: Process, body: AsyncIterator[bytes]) -> None:
    """To its end, or until the helper has refused and takes no more.

    Raises BadRequest when the client leaves, or sends nothing for IDLE_S.
    """
    pieces = aiter(body)
    while (piece := await following(pieces)) is not None:
        parts = (piece[start : start + PIECE] for start in range(0, len(piece), PIECE))
        if not await passed(process, parts):
            return
    await passed(process, [b""])


async def passed(process: Process, parts: Iterable[bytes]) -> bool:
    """Each after its length. False when the helper takes no more."""
    try:
        for part in parts:
            put(process).write(LENGTH.pack(len(part)) + part)
            await put(process).drain()
    except ConnectionError:
        return False
    return True


async def following(pieces: AsyncIterator[bytes]) -> bytes | None:
    """None at the end."""
    try:
        async with asyncio.timeout(IDLE_S):
            return await anext(pieces, None)
    except (ClientDisconnect, TimeoutError):
        raise BadRequest(f"the upload broke off, or nothing came for {IDLE_S:.0f} s") from None


async def answer(process: Process) -> Any:
    """What was found. Raises VolumeRefused; HostError when the helper ends without a word."""
    line = await out(process).readline()
    if not line.endswith(b"\n"):
        raise HostError("what looks into volumes ended without an answer. Is the volume's disk sound?")
    said = json.loads(line)
    if "status" in said:
        raise VolumeRefused(said["status"], said["message"])
    return said["found"]


def put(process: Process) -> asyncio.StreamWriter:
    if process.stdin is None:
        raise HostError("the helper has no standard input")
    return process.stdin


def out(process: Process) -> asyncio.StreamReader:
    if process.stdout is None:
        raise HostError("the helper has no standard output")
    return process.stdout
