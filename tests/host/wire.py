"""Requests byte for byte, past every client library: raw HTTP/1.1 and HTTP/2 over TLS, and a server that plays answers.

Opens connections to a test host, and puts tests/host/player.py into sandboxes.
"""

from __future__ import annotations

import base64
import json
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.host.machine import Machine, Sandbox

PLAYER = Path(__file__).with_name("player.py")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1


class Ended(Exception):
    """The other side closed or reset the connection before the answer was whole; the message has what came."""


@dataclass
class Answer:
    """One answer of HTTP/1.1. Names of headers are in lower case; a header that came twice is there twice."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    interim: list[int] = field(default_factory=list)  # the statuses of the 1xx before it
    trailers: list[tuple[str, str]] = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """An open connection, read and written by hand."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._file = connection.makefile("rb")

    def send(self, data: str | bytes) -> None:
        self.socket.sendall(data.encode("latin-1") if isinstance(data, str) else data)

    def ask(self, data: str | bytes, method: str = "GET") -> Answer:
        self.send(data)
        return self.answer(method)

    def answer(self, method: str = "GET") -> Answer:
        """The next answer, whole. Raises Ended."""
        interim: list[int] = []
        while True:
            answer = self.head()
            if answer.status >= 200 or answer.status == 101:
                answer.interim = interim
                break
            interim.append(answer.status)
        if method == "HEAD" or answer.status in (101, 204, 304):
            return answer
        if answer.all("transfer-encoding"):
            while size := int(self._line(), 16):
                answer.body += self.exactly(size)
                self._line()
            answer.trailers = self._fields()
        elif answer.all("content-length"):
            answer.body = self.exactly(int(answer.all("content-length")[0]))
        else:
            answer.body = self._file.read()
        return answer

    def rest(self) -> bytes:
        """What still comes until the other side closes, or resets."""
        try:
            return self._file.read()
        except ConnectionError:
            return b""

    def head(self) -> Answer:
        """Status and headers of what comes next. Raises Ended."""
        line = self._line()
        if not line.startswith("HTTP/1."):
            raise Ended(line)
        return Answer(int(line.split()[1]), self._fields())

    def _fields(self) -> list[tuple[str, str]]:
        found = []
        while line := self._line():
            name, _, value = line.partition(":")
            found.append((name.lower(), value.strip()))
        return found

    def _line(self) -> str:
        try:
            line = self._file.readline()
        except ConnectionError as error:
            raise Ended(repr(error)) from error
        if not line.endswith(b"\n"):
            raise Ended(repr(line))
        return line.rstrip(b"\r\n").decode("latin-1")

    def exactly(self, size: int) -> bytes:
        """So many bytes. Raises Ended."""
        try:
            found = self._file.read(size)
        except ConnectionError as error:
            raise Ended(repr(error)) from error
        if len(found) != size:
            raise Ended(f"{len(found)} of {size} bytes: {found[:200]!r}")
        return found


class WebSocket:
    """The client's side of a WebSocket (RFC 6455), frame by frame."""

    def __init__(self, wire: Wire, host: str, path: str = "/socket") -> None:
        upgrade = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
        answer = wire.ask(get(host, path, *upgrade, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="))
        if answer.status != 101 or answer.all("sec-websocket-accept") != ["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]:
            raise Ended(f"{answer}")
        self._wire = wire

    def send(self, opcode: int, data: bytes = b"") -> None:
        """One whole frame, masked with zeros."""
        size = len(data)
        short = bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack(">H", size & 0xFFFF)
        length = short if size < 65536 else b"\xff" + struct.pack(">Q", size)
        self._wire.send(bytes([0x80 | opcode]) + length + bytes(4) + data)

    def receive(self) -> tuple[int, bytes]:
        """The opcode and the data of the next frame."""
        first, size = self._wire.exactly(2)
        if size >= 126:
            size = int.from_bytes(self._wire.exactly(2 if size == 126 else 8), "big")
        return first & 0x0F, self._wire.exactly(size)


@dataclass
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes


class Http2:
    """A connection of HTTP/2 whose header fields may be what no library would send."""

    def __init__(self, connection: socket.socket) -> None:
        self._wire = Wire(connection)
        self._next = 1
        self._wire.send(PREFACE + self._frame(SETTINGS, 0, 0, b""))

    def open(self, fields: list[tuple[str, str]], flags: int = END_HEADERS | END_STREAM) -> int:
        """Sends the head of a request. Returns the number of its stream."""
        stream, self._next = self._next, self._next + 2
        block = b"".join(self._literal(name, value) for name, value in fields)
        self._wire.send(self._frame(HEADERS, flags, stream, block))
        return stream

    def ask(self, fields: list[tuple[str, str]], body: bytes = b"") -> tuple[str, bytes]:
        """How it ended (`answered`, `reset`, `goaway` or `closed`), and the body of the answer."""
        stream = self.open(fields, END_HEADERS | (0 if body else END_STREAM))
        if body:
            self._wire.send(self._frame(DATA, END_STREAM, stream, body))
        answer = b""
        for frame in self._frames():
            if frame.kind == SETTINGS and not frame.flags & ACK:
                self._wire.send(self._frame(SETTINGS, ACK, 0, b""))
            elif frame.kind == GOAWAY:
                return "goaway", answer
            elif frame.stream == stream and frame.kind == RST_STREAM:
                return "reset", answer
            elif frame.stream == stream:
                answer += frame.payload if frame.kind == DATA else b""
                if frame.flags & END_STREAM:
                    return "answered", answer
        return "closed", answer

    def _frames(self) -> Iterator[Frame]:
        while True:
            try:
                head = self._wire.exactly(9)
                size = int.from_bytes(head[:3], "big")
                yield Frame(head[3], head[4], int.from_bytes(head[5:], "big"), self._wire.exactly(size))
            except Ended:
                return

    @staticmethod
    def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload

    @staticmethod
    def _literal(name: str, value: str) -> bytes:
        """A field that is neither indexed nor compressed (RFC 7541, 6.2.2)."""

        def text(what: str) -> bytes:
            data = what.encode("latin-1")
            if len(data) < 127:
                return bytes([len(data)]) + data
            rest, size = len(data) - 127, b"\x7f"
            while rest >= 128:
                size, rest = size + bytes([rest % 128 + 128]), rest // 128
            return size + bytes([rest]) + data

        return b"\x00" + text(name) + text(value)


class Edge:
    """Connections to the public port of a host, as somebody outside opens them."""

    def __init__(self, machine: Machine) -> None:
        self.address = machine.target.address
        self.domain = machine.settings.domain
        authority = machine.authority()
        self._authority = str(authority) if authority else None

    def host(self, sandbox: Sandbox, port: int | str = "qa") -> str:
        return f"{port}-{sandbox.id}.{self.domain}"

    @contextmanager
    def connection(self, name: str, protocol: str = "http/1.1", timeout: float = 30) -> Iterator[ssl.SSLSocket]:
        """TLS for a name of the host's domain, its certificate checked."""
        context = ssl.create_default_context(cafile=self._authority)
        context.set_alpn_protocols([protocol])
        with (
            socket.create_connection((self.address, 443), timeout=timeout) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            yield secure

    @contextmanager
    def wire(self, name: str, timeout: float = 30) -> Iterator[Wire]:
        with self.connection(name, timeout=timeout) as connection:
            yield Wire(connection)

    def ask(self, name: str, path: str = "/", *headers: str, method: str = "GET", timeout: float = 30) -> Answer:
        """One request on a connection of its own."""
        with self.wire(name, timeout) as wire:
            return wire.ask(get(name, path, *headers, method=method), method)


def get(host: str, path: str = "/", *headers: str, method: str = "GET") -> str:
    """The text of a request without a body."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *headers, "", ""])


def steps(*wanted: tuple[Any, ...]) -> str:
    """The path by which a player answers with these steps."""
    return f"/play/{base64.urlsafe_b64encode(json.dumps(wanted).encode()).decode()}"


def plays(sandbox: Sandbox, name: str, port: int = 8000) -> Sandbox:
    """Starts a player in the sandbox."""
    sandbox.run("cat >player.py", stdin=PLAYER.read_bytes())
    sandbox.serve(f"python3 player.py {name} {port} 127.0.0.1", port)
    return sandbox
