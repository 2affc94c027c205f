"""A small HTTP/1.1 client over a connected socket: one request after the other, bodies streamed both ways.

Why not `http.client`: importing it (with `email` and `ssl`, which nothing here needs) costs 16 ms at each start of the
command, a third of what a whole `exec` may take. Touches the socket that it is given.
"""

import select
import socket
from collections.abc import Callable, Iterable, Iterator

RECEIVE_BYTES = 1024 * 1024
LINE_BYTES = 16 * 1024  # read at once where lines are expected
MAX_HEAD_LINE_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 256 * 1024 * 1024  # of an answer that is held in memory: a sandbox may say how long it is
UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")  # RFC 3986, section 2.3


def chunk(*pieces: bytes) -> bytes:
    """A piece of a body of unknown length; nothing for no bytes, since an empty chunk would end the body."""
    size = sum(len(piece) for piece in pieces)
    return b"".join((b"%x\r\n" % size, *pieces, b"\r\n")) if size else b""


def quote(text: str) -> str:
    """Percent-encodes a part of a path or query; file names that are no UTF-8 keep their bytes."""
    return "".join(
        chr(byte) if byte in UNRESERVED else f"%{byte:02X}" for byte in text.encode(errors="surrogateescape")
    )


class ConnectionBroken(OSError):
    """The other side hung up, or sent what is not HTTP, before a response was complete."""


def _whole(text: str, base: int) -> int:
    """A size as HTTP writes it: digits, no sign."""
    try:
        number = int(text, base)
    except ValueError:
        number = -1
    if number < 0:
        raise ConnectionBroken(f"the answer is not HTTP: {text[:40]!r} is no size")
    return number


class Response:
    """A status, its headers (names in lower case), and the body, which is read in pieces."""

    def __init__(self, status: int, headers: dict[str, str], source: "Connection") -> None:
        self.status, self.headers = status, headers
        self._source = source
        self._chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        length = headers.get("content-length")
        if status in (204, 304):
            length = "0"
        self._left = _whole(length, 10) if length is not None and not self._chunked else None
        self._chunk_left = 0
        self._ended = False

    def read(self, size: int) -> bytes:
        """At most `size` bytes, b"" at the end of the body. Raises ConnectionBroken when it stops before its end."""
        if self._ended or size == 0:
            return b""
        if self._chunked:
            return self._read_chunked(size)
        if self._left is None:
            piece = self._source.receive(size)
            self._ended = not piece
            return piece
        if self._left == 0:
            self._ended = True
            return b""
        piece = self._source.receive(min(size, self._left))
        if not piece:
            raise ConnectionBroken(f"the connection broke {self._left} bytes before the end of the answer")
        self._left -= len(piece)
        return piece

    def read_exactly(self, size: int) -> bytes:
        """`size` bytes. Raises ConnectionBroken when the body is shorter."""
        pieces = []
        while size:
            piece = self.read(size)
            if not piece:
                raise ConnectionBroken("the answer stops in the middle")
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def read_all(self) -> bytes:
        """The whole body. Raises ConnectionBroken when it is longer than MAX_ANSWER_BYTES."""
        pieces, size = [], 0
        while piece := self.read(RECEIVE_BYTES):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_ANSWER_BYTES:
                raise ConnectionBroken(f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
        return b"".join(pieces)

    def lines(self) -> Iterator[bytes]:
        """Each line of the body as soon as it is there, without its end."""
        rest = b""
        while piece := self.read(RECEIVE_BYTES):
            *whole, rest = (rest + piece).split(b"\n")
            yield from whole
        if rest:
            yield rest

    def _read_chunked(self, size: int) -> bytes:
        if self._chunk_left == 0:
            self._chunk_left = _whole(self._source.receive_line().partition(b";")[0].decode("latin-1"), 16)
            if self._chunk_left == 0:
                while self._source.receive_line():  # trailers
                    pass
                self._ended = True
                return b""
        piece = self._source.receive(min(size, self._chunk_left))
        if not piece:
            raise ConnectionBroken("the connection broke before the end of the answer")
        self._chunk_left -= len(piece)
        if self._chunk_left == 0:
            self._source.receive_line()
        return piece


class Connection:
    """One connection. `wait`, if set, is called before each receive; it may raise, what was received stays."""

    def __init__(self, connected: socket.socket, host: str) -> None:
        self.socket = connected
        self.wait: Callable[[], None] | None = None
        self._host = host
        self._buffer = b""

    def close(self) -> None:
        self.socket.close()

    def request(self, method: str, target: str, headers: dict[str, str], body: bytes = b"") -> Response:
        """Sends a whole request and returns the response, its body not yet read."""
        sized = {**headers, "Content-Length": str(len(body))} if body or method != "GET" else headers
        self.socket.sendall(self._head(method, target, sized) + body)
        return self.response()

    def begin(self, method: str, target: str, headers: dict[str, str], length: int | None) -> None:
        """Sends a head whose body follows with `send`, or with `send_chunk` when its length is not known (None)."""
        framing = {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
        self.socket.sendall(self._head(method, target, {**headers, **framing}))

    def send_chunk(self, *pieces: bytes) -> None:
        """One chunk of a body of unknown length; see `chunk`."""
        self.socket.sendall(chunk(*pieces))

    def end_chunks(self) -> None:
        self.socket.sendall(b"0\r\n\r\n")

    def answered(self) -> bool:
        """Whether something came back already. While a body is being sent, that is a refusal."""
        return bool(self._buffer) or bool(select.select([self.socket], [], [], 0)[0])

    def response(self) -> Response:
        """The head of the next response; interim ones (1xx) are passed over."""
        while True:
            status, headers = self._response_head()
            if status >= 200:
                return Response(status, headers, self)

    def receive(self, size: int) -> bytes:
        """At most `size` bytes, b"" when the other side has closed."""
        if not self._buffer:  # straight to the caller: of a large body no byte is copied twice
            return self._receive(min(size, RECEIVE_BYTES))
        piece, self._buffer = self._buffer[:size], self._buffer[size:]
        return piece

    def receive_line(self) -> bytes:
        """A line without its end."""
        while (end := self._buffer.find(b"\n")) < 0:
            before = len(self._buffer)
            self._buffer += self._receive(LINE_BYTES)
            if len(self._buffer) == before:
                raise ConnectionBroken("the connection was closed without an answer")
            if before > MAX_HEAD_LINE_BYTES:
                raise ConnectionBroken("the answer is not HTTP: a line has no end")
        line, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
        return line.rstrip(b"\r")

    def _receive(self, size: int) -> bytes:
        if self.wait is not None:
            self.wait()
        return self.socket.recv(size)

    def _head(self, method: str, target: str, headers: dict[str, str]) -> bytes:
        lines: Iterable[str] = (f"{name}: {value}" for name, value in {"Host": self._host, **headers}.items())
        return "\r\n".join((f"{method} {target} HTTP/1.1", *lines, "", "")).encode()

    def _response_head(self) -> tuple[int, dict[str, str]]:
        first = self.receive_line().decode("latin-1")
        version, _, rest = first.partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
            raise ConnectionBroken(f"the answer is not HTTP: it begins with {first[:80]!r}")
        headers = {}
        while line := self.receive_line().decode("latin-1"):
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        return int(rest[:3]), headers
