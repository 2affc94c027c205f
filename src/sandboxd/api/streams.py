"""Answers that go on: one JSON object a line, each sent as soon as it is known.

A stream that fails or is cut short by the daemon says so: its last line has `code` and `message`, as the body of any
error has. The work runs in threads; when the client goes, or the daemon stops, it is told to stop and ends by itself.
"""

import json
import logging
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from anyio import CancelScope, CapacityLimiter, create_task_group, to_thread
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sandboxd.errors import HostBusy, SandboxdError

log = logging.getLogger(__name__)

MAX_STREAMS = 100
STOPPING = {"code": 503, "message": "sandboxd is being stopped. Ask again in some seconds."}


@dataclass(frozen=True)
class Source:
    """`lines` is run in threads, one at a time. After `stop`, which any thread may call, and does not wait, it ends."""

    lines: Generator[dict[str, Any]]
    stop: Callable[[], None]


class Streams:
    """All that are open, so that the daemon can end them before it waits for running requests."""

    def __init__(self) -> None:
        self._stops: dict[int, Callable[[], None]] = {}
        self._lock = threading.Lock()
        self.ending = False

    def begin(self, source: Source) -> None:
        """Raises HostBusy when there are too many, and when the daemon stops."""
        with self._lock:
            if self.ending:
                raise HostBusy(STOPPING["message"])
            if len(self._stops) >= MAX_STREAMS:
                raise HostBusy(f"{MAX_STREAMS} streams are open already. Close some: docker-sandbox logs --follow.")
            self._stops[id(source)] = source.stop

    def end(self, source: Source) -> None:
        with self._lock:
            self._stops.pop(id(source), None)

    def end_all(self) -> None:
        with self._lock:
            self.ending = True
            stops = list(self._stops.values())
        for stop in stops:
            stop()


class Streamed(Response):
    """The response that sends a source. Begins it at once, so that a refusal is still an answer of its own."""

    def __init__(self, streams: Streams, source: Source) -> None:
        super().__init__(media_type="application/x-ndjson")
        streams.begin(source)
        self._streams, self._source = streams, source
        self._limiter = CapacityLimiter(1)  # one thread for each: those that only wait hold up nobody else

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            self._source.stop()

        headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        try:
            async with create_task_group() as group:
                group.start_soon(watch)
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                while (line := await to_thread.run_sync(self._next, limiter=self._limiter)) is not None:
                    await send({"type": "http.response.body", "body": encode(line), "more_body": True})
                if self._streams.ending:
                    await send({"type": "http.response.body", "body": encode(STOPPING), "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                group.cancel_scope.cancel()
        finally:
            self._streams.end(self._source)
            with CancelScope(shield=True):  # what the source has begun is cleaned up by itself, in any case
                self._source.stop()
                await to_thread.run_sync(self._source.lines.close, limiter=self._limiter)

    def _next(self) -> dict[str, Any] | None:
        try:
            return next(self._source.lines, None)
        except SandboxdError as error:
            return {"code": error.status, "message": str(error)}
        except Exception:
            log.exception("a stream failed")
            return {"code": 500, "message": "internal error; the log of sandboxd has it"}


def encode(line: dict[str, Any]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"
