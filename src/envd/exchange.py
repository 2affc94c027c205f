"""One request and its response on a connection: the `receive` and `send` of ASGI. Touches only its connection."""

import asyncio
from collections import deque
from http import HTTPStatus
from typing import Protocol

from envd.errors import ClientDisconnected
from envd.web import Message, Scope


class Carrier(Protocol):
    """What an exchange needs of its connection."""

    def write(self, data: bytes) -> None: ...
    async def drain(self) -> None: ...
    def regulate_reading(self) -> None: ...
    def exchange_advanced(self) -> None: ...


class Exchange:
    """Bytes of the body come in by `feed`, in the pace at which the application takes them by `receive`."""

    def __init__(self, carrier: Carrier, scope: Scope, keep_alive: bool, expects_continue: bool) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self.expects_continue = expects_continue  # the client holds the body back until it is told to go on
        self.buffered_bytes = 0
        self.body_complete = False
        self.response_started = False
        self.response_complete = False
        self._carrier = carrier
        self._chunks: deque[bytes] = deque()
        self._end_delivered = False
        self._disconnected = False
        self._wake = asyncio.Event()
        self._head = b""
        self._chunked = False

    def feed(self, data: bytes) -> None:
        if not self.response_complete:  # else nobody will ask for it
            self._chunks.append(data)
            self.buffered_bytes += len(data)
            self._wake.set()

    def feed_end(self) -> None:
        self.body_complete = True
        self._wake.set()

    def disconnect(self) -> None:
        self._disconnected = True
        self._wake.set()

    async def receive(self) -> Message:
        if self.expects_continue and not self.response_started:
            self.expects_continue = False
            self._carrier.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not self._chunks and not self._disconnected and (not self.body_complete or self._end_delivered):
            self._wake.clear()
            await self._wake.wait()
        if self._disconnected and (self._end_delivered or not self.body_complete):
            return {"type": "http.disconnect"}
        body = b"".join(self._chunks)
        self._chunks.clear()
        self.buffered_bytes = 0
        self._carrier.regulate_reading()
        self._end_delivered = self.body_complete
        return {"type": "http.request", "body": body, "more_body": not self.body_complete}

    async def send(self, message: Message) -> None:
        if self._disconnected:
            raise ClientDisconnected
        if message["type"] == "http.response.start":
            self._start(message)
            return
        more = message.get("more_body", False)
        self._carrier.write(self._frame(message.get("body", b""), more))
        if more:
            await self._carrier.drain()
        else:
            self.response_complete = True
            self._chunks.clear()
            self.buffered_bytes = 0
            self._carrier.exchange_advanced()

    def _start(self, message: Message) -> None:
        self.response_started = True
        status, headers = message["status"], list(message["headers"])
        names = {name.lower() for name, _ in headers}
        if b"content-length" not in names and status >= 200 and status not in (204, 304):
            self._chunked = self.scope["http_version"] == "1.1"
            self.keep_alive = self.keep_alive and self._chunked
            headers += [(b"transfer-encoding", b"chunked")] if self._chunked else []
        if self.expects_continue and not self.body_complete:
            self.keep_alive = False  # whether the client will send the body now is unknowable
        if not self.keep_alive:
            headers.append((b"connection", b"close"))
        lines = [b"HTTP/1.1 %d %s" % (status, _reason(status)), *(b"%s: %s" % header for header in headers)]
        self._head = b"\r\n".join(lines) + b"\r\n\r\n"

    def _frame(self, body: bytes, more: bool) -> bytes:
        """The bytes of one body message; the head travels with the first."""
        head, self._head = self._head, b""
        if self.scope["method"] == "HEAD":
            return head
        if not self._chunked:
            return head + body if head else body
        chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        return head + chunk + (b"" if more else b"0\r\n\r\n")


def _reason(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""
