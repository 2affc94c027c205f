"""A request and its response on top of ASGI: what the rest of the agent sees of HTTP. Touches nothing."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from envd.errors import ClientDisconnected, EnvdError

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
T = TypeVar("T")

DRAIN_BYTES, DRAIN_S = 16 * 1024 * 1024, 5.0  # of a body that is larger
MAX_MESSAGE_BYTES = 16 * 1024 * 1024  # of a body that is held in memory: the message of an RPC
CORS_HEADERS = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "*",
    # "*" does not cover Authorization (Fetch standard, section 3.3.2), so it is named.
    "access-control-allow-headers": "*, Authorization",
    "access-control-expose-headers": "Location, Cache-Control, X-Content-Type-Options",
}


class Request:
    """Method, path, query, headers, and the body as a stream that is read at most once."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self._query_string: bytes = scope["query_string"]
        self._headers: list[tuple[bytes, bytes]] = scope["headers"]
        self._receive = receive

    @cached_property
    def query(self) -> dict[str, str]:
        pairs = parse_qsl(self._query_string.decode("latin-1"), keep_blank_values=True, errors="surrogateescape")
        return dict(reversed(pairs))  # of a repeated parameter the first counts

    @cached_property
    def headers(self) -> dict[str, str]:
        """Names in lower case; of a repeated header the first counts."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(self._headers)}

    def header(self, name: str) -> str | None:
        return self.headers.get(name)

    @property
    def content_type(self) -> str:
        """The media type in lower case, without its parameters."""
        return (self.header("content-type") or "").partition(";")[0].strip().lower()

    def allow(self, *methods: str) -> None:
        """Raises EnvdError when the method is none of these."""
        if self.method not in methods:
            headers = {"allow": ", ".join(methods)}
            raise EnvdError("unknown", f"method {self.method} not allowed", status=405, headers=headers)

    async def stream(self) -> AsyncIterator[bytes]:
        """The body in the pieces in which it arrives; raises ClientDisconnected when it stops before its end."""
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            if message.get("body"):
                yield message["body"]
            more = message.get("more_body", False)

    async def body(self) -> bytes:
        """The whole body, at most MAX_MESSAGE_BYTES of it."""
        pieces, size, stream = [], 0, self.stream()
        async for piece in stream:
            pieces.append(piece)
            size += len(piece)
            if size > MAX_MESSAGE_BYTES:
                await _drop(stream)
                message = f"message is larger than {MAX_MESSAGE_BYTES} bytes"
                raise EnvdError("resource_exhausted", message, status=413)
        return b"".join(pieces)

    async def while_connected(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` and return its result, but cancel it as soon as the client leaves. The body must have been read."""
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(self._disconnected())
        try:
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
        finally:
            gone.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
        raise ClientDisconnected

    async def _disconnected(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass


class Response:
    """The answer to one request: either `json`/`empty` at once, or `start`, `write`..., `end`."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the head. Without a content-length the body is chunked."""
        self.started = True
        pairs = [(name.encode("latin-1"), value.encode("utf-8")) for name, value in {**CORS_HEADERS, **headers}.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})

    async def write(self, data: bytes) -> None:
        """Send a piece of the body; waits while the client is too slow, raises ClientDisconnected when it has left."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self, data: bytes = b"") -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def whole(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """The whole answer at once."""
        await self.start(status, {"content-length": str(len(body)), **headers})
        await self.end(body)

    async def json(self, status: int, value: object, headers: Mapping[str, str] | None = None) -> None:
        await self.whole(status, {"content-type": "application/json", **(headers or {})}, json.dumps(value).encode())

    async def empty(self, status: int) -> None:
        await self.start(status, {})
        await self.end()


async def _drop(stream: AsyncIterator[bytes]) -> None:
    """Reads the rest of a body, if it is not too much: while a proxy is still sending it may lose the answer."""
    size = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            async for piece in stream:
                size += len(piece)
                if size > DRAIN_BYTES:
                    return


async def answer(
    respond: Callable[[Request, Response], Awaitable[None]],
    request: Request,
    response: Response,
    program: str,
    log: logging.Logger,
) -> None:
    """Answer one request by `respond`; an error is told as {"code": <status>, ...}, what nobody expected also in `log`.

    When it fails after its head is out, the exception goes on: the server then hangs up.
    """
    try:
        await respond(request, response)
    except ClientDisconnected:
        raise
    except EnvdError as error:
        if response.started:
            raise
        await response.json(error.status, {"code": error.status, "message": error.message}, error.headers)
    except Exception:
        if response.started:
            raise
        log.exception("error while answering %s %s", request.method, request.path)
        message = f"internal error of the {program}; its log has the details"
        await response.json(500, {"code": 500, "message": message})
