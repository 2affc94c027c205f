"""A small HTTP/1.1 server for an ASGI application: httptools parses, asyncio carries, this module keeps the order.

Why not uvicorn: it costs 9 MB of private memory in every idle sandbox, twice what everything else here takes.
The application is plain ASGI, so `uvicorn envd.app:...` remains possible. Touches sockets only.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import cast
from urllib.parse import unquote

import httptools

from envd.errors import ClientDisconnected
from envd.web import Message, Receive, Scope, Send

Application = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_HEAD_BYTES = 64 * 1024
MAX_BUFFERED_BODY_BYTES = 256 * 1024  # above it the socket is not read: the uploading client waits
IDLE_TIMEOUT_S = 620  # longer than any client's or proxy's, so that they close first (E2B's SDK keeps 300 s)

log = logging.getLogger("envd")


class Exchange:
    """One request and its response: the `receive` and `send` of ASGI."""

    def __init__(self, connection: "Connection", scope: Scope, keep_alive: bool, expects_continue: bool) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self.expects_continue = expects_continue  # the client holds the body back until it is told to go on
        self.buffered_bytes = 0
        self.body_complete = False
        self.response_started = False
        self.response_complete = False
        self._connection = connection
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
            self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not self._chunks and not self._disconnected and (not self.body_complete or self._end_delivered):
            self._wake.clear()
            await self._wake.wait()
        if self._disconnected and (self._end_delivered or not self.body_complete):
            return {"type": "http.disconnect"}
        body = b"".join(self._chunks)
        self._chunks.clear()
        self.buffered_bytes = 0
        self._connection.regulate_reading()
        self._end_delivered = self.body_complete
        return {"type": "http.request", "body": body, "more_body": not self.body_complete}

    async def send(self, message: Message) -> None:
        if self._disconnected:
            raise ClientDisconnected
        if message["type"] == "http.response.start":
            self._start(message)
            return
        more = message.get("more_body", False)
        self._connection.write(self._frame(message.get("body", b""), more))
        if more:
            await self._connection.drain()
        else:
            self.response_complete = True
            self._connection.exchange_advanced()

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


class Connection(asyncio.Protocol):
    """One TCP connection: its exchanges run one after the other, in the order of their requests."""

    def __init__(self, app: Application, open_connections: set["Connection"]) -> None:
        self._app = app
        self._open_connections = open_connections
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._exchanges: deque[Exchange] = deque()  # the first one runs, the others were pipelined
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost = False
        self._idle_timer: asyncio.TimerHandle | None = None
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0

    # --- asyncio's side ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._open_connections.add(self)
        self._watch_idleness()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._open_connections.discard(self)
        self._watch_idleness()
        self._writable.set()
        for exchange in self._exchanges:
            exchange.disconnect()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # we speak nothing else; the request itself is answered
            self._exchanges[-1].keep_alive = False
        except httptools.HttpParserError as error:
            self._refuse(str(error))

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # --- the parser's side ---

    def on_message_begin(self) -> None:
        self._url, self._headers, self._head_bytes = b"", [], 0

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))
        self._count_head(len(name) + len(value))

    def on_headers_complete(self) -> None:
        raw_path, _, query_string = self._url.partition(b"?")
        version = self._parser.get_http_version()
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": version,
            "method": self._parser.get_method().decode(),
            "scheme": "http",
            "path": unquote(raw_path.decode("latin-1")),
            "raw_path": raw_path,
            "query_string": query_string,
            "headers": self._headers,
        }
        expects_continue = version == "1.1" and (b"expect", b"100-continue") in self._headers
        exchange = Exchange(self, scope, self._parser.should_keep_alive(), expects_continue)
        self._exchanges.append(exchange)
        self._watch_idleness()
        if len(self._exchanges) == 1:
            self._task = self._loop.create_task(self._run(exchange))

    def on_body(self, data: bytes) -> None:
        self._exchanges[-1].feed(data)
        self.regulate_reading()

    def on_message_complete(self) -> None:
        self._exchanges[-1].feed_end()
        self.exchange_advanced()

    # --- the exchanges' side ---

    def write(self, data: bytes) -> None:
        if data and not self._lost:
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the client has taken enough of what was written."""
        await self._writable.wait()
        if self._lost:
            raise ClientDisconnected

    def regulate_reading(self) -> None:
        if self._lost:
            return
        if len(self._exchanges) > 1 or any(e.buffered_bytes > MAX_BUFFERED_BODY_BYTES for e in self._exchanges):
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def exchange_advanced(self) -> None:
        """Go on to the next request once the response is out and the rest of the body has come in (and was dropped)."""
        if not self._exchanges or not self._exchanges[0].response_complete:
            return
        if not self._exchanges[0].keep_alive:
            self._transport.close()
        elif self._exchanges[0].body_complete:
            self._exchanges.popleft()
            self._watch_idleness()
            if self._exchanges:
                self._task = self._loop.create_task(self._run(self._exchanges[0]))
        self.regulate_reading()

    async def _run(self, exchange: Exchange) -> None:
        try:
            await self._app(exchange.scope, exchange.receive, exchange.send)
        except ClientDisconnected:
            pass
        except Exception:
            log.exception("error while answering %s %s", exchange.scope["method"], exchange.scope["path"])
        if not exchange.response_complete and not self._lost:
            self._transport.abort()  # the client must not take half an answer for a whole one

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            raise ValueError(f"request head is larger than {MAX_HEAD_BYTES} bytes")

    def _refuse(self, reason: str) -> None:
        """Answer 400 if it is this request's turn, and hang up: after a broken message nothing can be understood."""
        for exchange in self._exchanges:
            exchange.disconnect()
        if not self._exchanges:
            body = json.dumps({"code": 400, "message": f"malformed HTTP request: {reason}"}).encode()
            head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close"
            self.write(head % len(body) + b"\r\n\r\n" + body)
        self._transport.close()

    def _watch_idleness(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if not self._exchanges and not self._lost:
            self._idle_timer = self._loop.call_later(IDLE_TIMEOUT_S, self._transport.close)


def _reason(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""


async def listen(app: Application, host: str, port: int) -> asyncio.Server:
    """Start serving `app`; the returned server accepts connections already."""
    connections: set[Connection] = set()
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Connection(app, connections), host, port, backlog=1024)
