"""The log of a sandbox, and what the ledger knows of its life: read to the end, or followed as it grows.

What a browser follows are server-sent events, whose data is JSON: the page puts it in as text. Whatever stands in a log
was written in a sandbox.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import StreamingResponse

from console.daemon import Daemon
from console.errors import Refused, SignedOut
from console.places import Places
from console.viewer import Viewer, Viewers

LINES, WHOLE_LINES = 200, 5000
MOST, MOST_OF_A_KEY = 40, 20  # read at a time; sandboxd has 100 streams for all its clients
BEAT_S = 15.0  # proxies and browsers see that it lives; and so long somebody follows whose key was revoked
FULL = f"{MOST_OF_A_KEY} logs of yours, or {MOST} of all, are read already. Close some pages."


class Logs:
    def __init__(self, daemon: Daemon, viewers: Viewers, beat_s: float = BEAT_S) -> None:
        self._daemon, self._viewers, self._beat_s = daemon, viewers, beat_s
        self._places = Places(MOST, MOST_OF_A_KEY)

    async def life(self, sandbox_id: str) -> list[dict[str, Any]]:
        """Its events, the last first: {"at", "kind", "text"}. Raises Refused."""
        async with self._daemon.stream("GET", f"/logs/{sandbox_id}?events=true&lines=0") as found:
            events = [one async for one in found if one["kind"] != "line"]
        return events[::-1]

    async def text(self, viewer: Viewer, sandbox_id: str) -> StreamingResponse:
        """Its last lines, for who has no scripts. Raises Refused."""
        self._admit(viewer)
        lines = self._lines(viewer, sandbox_id)
        await anext(lines)  # what is refused is refused here, before the answer begins
        return StreamingResponse(lines, media_type="text/plain")

    async def _lines(self, viewer: Viewer, sandbox_id: str) -> AsyncIterator[str]:
        """Nothing as soon as sandboxd gives the log, then one after the other."""
        whole = self._daemon.stream("GET", f"/logs/{sandbox_id}?lines={WHOLE_LINES}")
        with self._places.taken(viewer.session.key):
            async with whole as found:
                yield ""
                try:
                    async for one in found:
                        if one["kind"] == "line":
                            yield f"{one['at']} {one['text']}\n"
                except Refused as refused:
                    yield f"The rest is missing. {refused.message}\n"

    def follow(self, viewer: Viewer, sandbox_id: str) -> StreamingResponse:
        """Raises Refused."""
        self._admit(viewer)
        # X-Accel-Buffering: proxies of the world between us and a browser hold small pieces back otherwise.
        headers = {"X-Accel-Buffering": "no"}
        return StreamingResponse(self._events(viewer, sandbox_id), media_type="text/event-stream", headers=headers)

    def _admit(self, viewer: Viewer) -> None:
        if not self._places.free(viewer.session.key):
            raise Refused(503, FULL, 10)

    async def _events(self, viewer: Viewer, sandbox_id: str) -> AsyncIterator[bytes]:
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(100)
        with self._places.taken(viewer.session.key):
            reading = asyncio.create_task(self._read(sandbox_id, queue))
            try:
                yield b": the log begins\n\n"
                checked = asyncio.get_running_loop().time()
                while True:
                    try:
                        message = await asyncio.wait_for(queue.get(), self._beat_s)
                    except TimeoutError:
                        message = b": still there\n\n"
                    if message is None:
                        return
                    yield message
                    now = asyncio.get_running_loop().time()
                    if now - checked >= self._beat_s:
                        checked = now
                        if not await self._may_look(viewer):
                            yield event("end", {"text": "You were signed out."})
                            return
            finally:
                reading.cancel()

    async def _read(self, sandbox_id: str, queue: asyncio.Queue[bytes | None]) -> None:
        ending = "The log has ended."
        try:
            async with self._daemon.stream("GET", f"/logs/{sandbox_id}?lines={LINES}&follow=true") as found:
                async for one in found:
                    await queue.put(event("line" if one["kind"] == "line" else "note", one))
        except Refused as refused:
            ending = refused.message
        await queue.put(event("end", {"text": ending}))
        await queue.put(None)

    async def _may_look(self, viewer: Viewer) -> bool:
        try:
            await self._viewers.look(viewer.session)
        except SignedOut:
            return False
        except Refused:
            pass  # sandboxd is away for a moment, which changes nothing about who looks
        return True


def event(kind: str, value: dict[str, Any]) -> bytes:
    """One server-sent event. JSON has no line break in it, so a text cannot begin another field."""
    return f"event: {kind}\ndata: {json.dumps(value)}\n\n".encode()
