"""A small HTTP/1.1 server for an ASGI application: httptools parses, asyncio carries, this module keeps the order.

Why not uvicorn: measured with httptools and asyncio's loop, its import alone makes an idle agent 4 MB larger (15.4 MB
of private memory instead of 11.6), in every sandbox, and that is more than all of the agent's own code takes. The
application is plain ASGI, so uvicorn can serve it where memory does not count. Touches sockets only.
"""

import asyncio
import json
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast
from urllib.parse import unquote

import httptools

from envd.errors import ClientDisconnected
from envd.exchange import Exchange
from envd.web import Receive, Scope, Send

Application = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_HEAD_BYTES = 64 * 1024
HEADER_COST_BYTES = 32  # counted for each header besides its text, so that empty ones are not free
MAX_BUFFERED_BODY_BYTES = 256 * 1024  # above it the socket is not read: the uploading client waits
IDLE_TIMEOUT_S = 620  # longer than any client's or proxy's, so that they close first (E2B's SDK keeps 300 s)
HEAD_TIMEOUT_S = 60  # from the first byte of a request to the end of its head
MAX_CONNECTIONS = 512  # with more of them, those that do nothing are closed, the oldest first
SPARED_S = 10  # after an answer: whoever keeps the connection may just be writing the next request to it

log = logging.getLogger("envd")


class Connection(asyncio.Protocol):
    """One TCP connection: its exchanges run one after the other, in the order of their requests."""

    def __init__(self, app: Application, open_connections: dict["Connection", None]) -> None:
        """`open_connections` is shared by the connections of a server, in the order in which they came."""
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
        self._answered_at: float | None = None
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._silent_bytes = 0  # fed to the parser since it last told of a head, a piece of body or an end

    # --- asyncio's side ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # A client that vanishes without a word in the middle of an upload is noticed, if only after hours.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._open_connections[self] = None
        self._watch_idleness(IDLE_TIMEOUT_S)
        if len(self._open_connections) > MAX_CONNECTIONS:
            idle = next((each for each in self._open_connections if each.spare and each is not self), None)
            if idle is not None:
                idle.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._open_connections.pop(self, None)
        self._watch_idleness(0)
        self._writable.set()
        for exchange in self._exchanges:
            exchange.disconnect()

    def data_received(self, data: bytes) -> None:
        # The parser keeps an unfinished header, or trailer, in memory and tells nothing before its end.
        self._silent_bytes += len(data)
        if self._silent_bytes > MAX_HEAD_BYTES + len(data):
            self._refuse(431, f"request head is larger than {MAX_HEAD_BYTES} bytes")
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # we speak nothing else; the request itself is answered
            if self._exchanges:
                self._exchanges[-1].keep_alive = False
        except httptools.HttpParserError as error:
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(431, f"request head is larger than {MAX_HEAD_BYTES} bytes")
            else:
                self._refuse(400, f"malformed HTTP request: {error}")

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # --- the parser's side ---

    def on_message_begin(self) -> None:
        self._url, self._headers, self._head_bytes = b"", [], 0
        self._watch_idleness(HEAD_TIMEOUT_S)

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))
        self._count_head(len(name) + len(value) + HEADER_COST_BYTES)

    def on_headers_complete(self) -> None:
        self._silent_bytes = 0
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
        expects = any(name == b"expect" and value.lower() == b"100-continue" for name, value in self._headers)
        exchange = Exchange(self, scope, self._parser.should_keep_alive(), expects and version == "1.1")
        self._exchanges.append(exchange)
        self._watch_idleness(0)
        if len(self._exchanges) == 1:
            self._task = self._loop.create_task(self._run(exchange))

    def on_body(self, data: bytes) -> None:
        self._silent_bytes = 0
        self._exchanges[-1].feed(data)
        self.regulate_reading()

    def on_message_complete(self) -> None:
        self._silent_bytes = 0
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
            self._answered_at = self._loop.time()
            self._watch_idleness(IDLE_TIMEOUT_S)
            if self._exchanges:
                self._task = self._loop.create_task(self._run(self._exchanges[0]))
        self.regulate_reading()

    # --- the server's side ---

    @property
    def spare(self) -> bool:
        """Whether nobody waits for an answer on it, or has just got one."""
        if not all(exchange.response_complete for exchange in self._exchanges):
            return False
        return self._answered_at is None or self._loop.time() > self._answered_at + SPARED_S

    def close(self) -> None:
        self._open_connections.pop(self, None)  # at once: in a burst the next one must not choose it again
        self._transport.close()

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
            raise ValueError("request head is too large")  # stops the parser, see data_received

    def _refuse(self, status: int, message: str) -> None:
        """Say so if it is this request's turn, and hang up: after a broken message nothing can be understood."""
        for exchange in self._exchanges:
            exchange.disconnect()
        if not self._exchanges:
            body = json.dumps({"code": status, "message": message}).encode()
            head = b"HTTP/1.1 %d Refused\r\ncontent-type: application/json\r\nconnection: close\r\n" % status
            self.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        self._transport.close()

    def _watch_idleness(self, timeout_s: float) -> None:
        """Hang up after `timeout_s` seconds unless a request is there by then; 0 stops the watch."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        if timeout_s and not self._exchanges and not self._lost:
            self._idle_timer = self._loop.call_later(timeout_s, self._transport.close)


async def listen(app: Application, host: str, port: int) -> asyncio.Server:
    """Start serving `app`; the returned server accepts connections already."""
    connections: dict[Connection, None] = {}
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Connection(app, connections), host, port, backlog=1024)
