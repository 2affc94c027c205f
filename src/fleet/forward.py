"""Requests that go on to a host as they came, and their answers: streamed both ways, looked into by nobody.

When the client leaves, the request to the host ends, and the host ends what it did for it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager

import httpx
from anyio import CancelScope
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from fleet.nodes import Answer, Node
from sandboxd.api.streams import STOPPING, encode

log = logging.getLogger(__name__)

# Of one connection, and not of what is carried over it: RFC 9110, section 7.6.1. `date` and `expect` are answered by
# the server of each hop itself.
HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding"
    b" upgrade host date expect".split()
)


LINES = "application/x-ndjson"


class ClientLeft(Exception):
    """In the middle of its request's body."""


class Streams:
    """Answers that go on, so that the service can end them before it waits for running requests."""

    def __init__(self) -> None:
        self.open: set[CancelScope] = set()
        self._ending = False

    @contextmanager
    def opened(self) -> Iterator[CancelScope]:
        """Cancelled when the service ends, at once if it ends already."""
        with CancelScope() as scope:
            self.open.add(scope)
            if self._ending:
                scope.cancel()
            try:
                yield scope
            finally:
                self.open.discard(scope)

    def end_all(self) -> None:
        self._ending = True
        for scope in self.open:
            scope.cancel()


class Forwarded(Response):
    """The response that a host gives to this request. `after`, with its status, is done before it is complete."""

    def __init__(
        self, node: Node, api: str, streams: Streams, after: Callable[[int], Awaitable[None]] | None = None
    ) -> None:
        super().__init__()
        self._node, self._api, self._streams, self._after = node, api, streams, after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises Unreachable as long as nothing is answered; later the connection to the client breaks off."""
        read = asyncio.Event()
        headers = onward(scope["headers"])
        sends = with_body(scope["headers"])
        if not sends:
            await receive()  # the empty body
            read.set()
        elif not any(name == b"content-length" for name, _ in headers):
            headers.append((b"transfer-encoding", b"chunked"))
        with CancelScope() as ended:
            watcher = asyncio.create_task(_watch(receive, read, ended.cancel))
            try:
                pieces = _pieces(receive, read) if sends else None
                response = await self._node.open(self._api, scope["method"], target(scope), headers, pieces)
                await self._answer(response, send)
            except ClientLeft:
                pass
            finally:
                watcher.cancel()

    async def _answer(self, response: httpx.Response, send: Send) -> None:
        try:
            status, headers = response.status_code, onward(response.headers.raw)
            whole = status == 204 or any(name == b"content-length" for name, _ in headers)
            if self._after is not None and whole:  # the client may know that it is done before the last message here
                await self._after(status)
            await send({"type": "http.response.start", "status": status, "headers": headers})
            with CancelScope() if whole else self._streams.opened() as scope:
                async for piece in response.aiter_raw():
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            if scope.cancelled_caught:
                if response.headers.get("content-type") != LINES:
                    return  # and the connection breaks off: what was sent is not the whole answer
                await send({"type": "http.response.body", "body": encode(STOPPING), "more_body": True})
            if self._after is not None and not whole:
                await self._after(status)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except httpx.TransportError as error:
            log.warning("the answer of node %s broke off: %r", self._node.name, error)
        finally:
            with CancelScope(shield=True):
                await response.aclose()


class Streaming(StreamingResponse):
    """One of our own making, which breaks off when the service ends."""

    def __init__(self, streams: Streams, content: AsyncIterator[bytes]) -> None:
        super().__init__(content, media_type=LINES)
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._streams.opened():
            await super().__call__(scope, receive, send)


def target(scope: Scope) -> bytes:
    """Path and query as the client wrote them."""
    path: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    return path + b"?" + query if query else path


def onward(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Without those of one connection."""
    lower = [(name.lower(), value) for name, value in headers]
    named = {one.strip().lower() for name, value in lower if name == b"connection" for one in value.split(b",")}
    return [(name, value) for name, value in lower if name not in HOP and name not in named]


def without_body(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """What goes onward with another body than came, or with none."""
    return [one for one in onward(headers) if one[0] != b"content-length"]


def with_body(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip() != b"0") for name, value in headers
    )


def given(answer: Answer) -> Response:
    """An answer that was read whole, as it came."""
    made = Response(answer.body, answer.status)
    made.raw_headers = onward(answer.headers)
    return made


async def _pieces(receive: Receive, read: asyncio.Event) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body", False):
            read.set()
            return


async def _watch(receive: Receive, read: asyncio.Event, leave: Callable[[], None]) -> None:
    """Once the body is read, only the client's leaving can come."""
    await read.wait()
    while (await receive())["type"] != "http.disconnect":
        pass
    leave()
