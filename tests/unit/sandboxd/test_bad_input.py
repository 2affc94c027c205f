"""The daemon as a process, and clients that are broken or mean: the right error, nothing left open, others served."""

import json
import os
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandboxd.bodies import MAX_BODY_BYTES
from tests.unit.sandboxd.conftest import short_directory, until
from tests.unit.sandboxd.test_main import LIMIT_S, client_of, deployed, running

HEAD = b"POST /v2/sandboxes HTTP/1.1\r\nHost: api.example.com\r\nContent-Type: application/json\r\n"
CROWD = 200
HALVES = [
    b"",
    b"POST /v2/san",
    HEAD,
    HEAD + b"Content-Length: 1000\r\n\r\n{",
    HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
    HEAD + b"Content-Length: 99999999999999\r\n\r\n" + bytes(10_000),
]


class Daemon:
    """One that runs, and how it is reached by TCP."""

    def __init__(self, pid: int, file: Path) -> None:
        self.pid = pid
        self.port = int(re.findall(r'listen = "127.0.0.1:(\d+)"', file.read_text())[0])
        self.url = f"http://127.0.0.1:{self.port}"
        with client_of(file) as trusted:
            self.key = {"X-API-KEY": trusted.post("/keys", json={"name": "team"}).json()["key"]}

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT_S)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """With the key."""
        return httpx.request(method, f"{self.url}{path}", headers=self.key, timeout=LIMIT_S, **options)

    def answer(self, *sent: bytes) -> tuple[int, bytes]:
        """Status and body of what comes back, be it before all is sent."""
        received = b""
        with self.connect() as raw:
            try:
                for one in sent:
                    raw.sendall(one)
            except ConnectionError:
                pass
            while not (whole := re.match(rb"HTTP/1.1 (\d+) .*\r\n\r\n(.+)", received, re.DOTALL)):
                data = raw.recv(65536)
                assert data, f"closed after {received!r}"
                received += data
        return int(whole[1]), whole[2]

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def memory_kb(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.findall(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)[0])


@pytest.fixture(scope="module")
def own() -> Iterator[Daemon]:
    with short_directory() as directory, deployed(directory) as file, running(file) as process:
        yield Daemon(process.pid, file)
        process.terminate()
        _, log = process.communicate(timeout=LIMIT_S)
        assert "Traceback" not in log, log


@pytest.fixture
def daemon(own: Daemon) -> Iterator[Daemon]:
    """With the promise that it is as well afterwards as before, and so is somebody's sandbox."""
    made = own.ask("POST", "/v2/sandboxes", json={"templateID": "base"})
    assert made.status_code == 201, made.text
    before = own.open_files()
    yield own
    listed = own.ask("GET", "/v2/sandboxes").json()
    assert [one["sandboxID"] for one in listed] == [made.json()["sandboxID"]]
    assert own.ask("DELETE", f"/sandboxes/{made.json()['sandboxID']}").status_code == 204
    until(lambda: own.open_files() <= before, "what was opened is closed")


def test_bodies_that_are_none(daemon: Daemon) -> None:
    def status(body: bytes, *framing: bytes) -> int:
        lines = framing or (b"Content-Length: %d" % len(body),)
        key = b"X-API-KEY: " + daemon.key["X-API-KEY"].encode()
        return daemon.answer(HEAD + b"\r\n".join([*lines, key, b"", b""]) + body)[0]

    for body in (b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"templateID":"\\ud800"}'):
        assert status(body) == 400, body
    assert status(b'{"templateID":"a\\u0000"}') == 404
    assert status(b"1\r\n{\r\n0\r\n\r\n", b"Transfer-Encoding: chunked") == 400
    assert status(b"zz\r\n", b"Transfer-Encoding: chunked") == 400
    assert status(b"{}", b"Content-Length: -2") == 400
    assert status(b"0\r\n\r\n", b"Content-Length: 5", b"Transfer-Encoding: chunked") == 400


def test_a_body_without_end_is_refused_at_its_limit(daemon: Daemon) -> None:
    before_kb = daemon.memory_kb()
    piece = bytes(65536)
    chunk = b"10000\r\n" + piece + b"\r\n"
    many = MAX_BODY_BYTES // len(piece) + 1
    for _ in range(3):
        for framing, one in ((b"Transfer-Encoding: chunked", chunk), (b"Content-Length: 99999999999", piece)):
            status, body = daemon.answer(HEAD + framing + b"\r\n\r\n", *[one] * many)
            assert status == 413 and json.loads(body)["code"] == 413
    assert daemon.memory_kb() - before_kb < 16_000


def test_a_crowd_that_stops_in_the_middle_holds_nobody_up(daemon: Daemon) -> None:
    """Half of them leave with a reset, as crashed clients do."""
    before_kb = daemon.memory_kb()
    with ExitStack() as crowd:
        for number in range(CROWD):
            raw = crowd.enter_context(daemon.connect())
            raw.sendall(HALVES[number % len(HALVES)])
            if number % 2:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert daemon.ask("GET", "/v2/sandboxes").status_code == 200
    assert daemon.memory_kb() - before_kb < 32_000


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x02\0\x01\0", b"PRI * HTTP/2.0\r\n\r\nSM", b"GET", b"GET /\xff HTTP/1.1", b"\0"],
)
def test_what_is_no_request(daemon: Daemon, garbage: bytes) -> None:
    assert daemon.answer(garbage + b"\r\n\r\n")[0] in (400, 404)
