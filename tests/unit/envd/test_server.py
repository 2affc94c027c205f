"""HTTP as such: on a raw socket, against clients that are clumsy or mean."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from envd.server import MAX_CONNECTIONS
from tests.unit.envd.client import DEADLINE_S, TOKEN, Client, Running, bash, envelope, eventually

HEAD = f"Host: x\r\nX-Access-Token: {TOKEN}\r\n"
HEALTH = f"GET /health HTTP/1.1\r\n{HEAD}\r\n".encode()


@contextmanager
def connection(agent: Running) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", agent.port), timeout=DEADLINE_S) as raw:
        yield raw


def until_closed(raw: socket.socket) -> bytes:
    received = b""
    try:
        while data := raw.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


def read_until(raw: socket.socket, words: bytes) -> bytes:
    received = b""
    while words not in received:
        data = raw.recv(65536)
        assert data, f"closed after {received!r}"
        received += data
    return received


def test_pipelined_requests_are_answered_in_their_order(agent: Running) -> None:
    envs = f"GET /envs HTTP/1.1\r\n{HEAD}\r\n".encode()
    last = f"GET /no HTTP/1.1\r\n{HEAD}Connection: close\r\n\r\n".encode()
    with connection(agent) as raw:
        raw.sendall(HEALTH + envs + HEALTH + last)
        received = until_closed(raw)
    assert re.findall(rb"HTTP/1.1 (\d+) ", received) == [b"204", b"200", b"204", b"404"]


def test_a_request_in_single_bytes(agent: Running) -> None:
    with connection(agent) as raw:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in HEALTH:
            raw.sendall(bytes([byte]))
        assert read_until(raw, b"\r\n\r\n").startswith(b"HTTP/1.1 204 ")


def test_http_1_0_gets_its_answer_unchunked_and_closed(agent: Running) -> None:
    body = envelope(bash("echo x"))
    head = f"POST /process.Process/Start HTTP/1.0\r\n{HEAD}Content-Type: application/connect+json\r\n"
    with connection(agent) as raw:
        raw.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        received = until_closed(raw)
    assert b"transfer-encoding" not in received and received.endswith(envelope({}, 2))


def test_expect_100_continue(agent: Running) -> None:
    head = f"POST /process.Process/List HTTP/1.1\r\n{HEAD}Content-Type: application/json\r\nContent-Length: 2\r\n"
    with connection(agent) as raw:
        raw.sendall(f"{head}Expect: 100-Continue\r\n\r\n".encode())
        assert read_until(raw, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.sendall(b"{}")
        assert read_until(raw, b"}").startswith(b"HTTP/1.1 200 ")
    with connection(agent) as raw:  # refused without the body, which then is not waited for
        raw.sendall(f"{head}Expect: 100-continue\r\n\r\n".replace(TOKEN, "wrong").encode())
        assert until_closed(raw).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\nA B: x\r\n\r\n", b"400"),
        (b"POST /health HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\n" + b"a: " + b"x" * 1_000_000, b"431"),
        (b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 3000, b"431"),
    ],
)
def test_malformed_and_giant_heads_are_refused(agent: Running, request_bytes: bytes, status: bytes) -> None:
    with connection(agent) as raw:
        with suppress(ConnectionError):  # it may hang up before it was told all
            raw.sendall(request_bytes)
        received = until_closed(raw)
    assert received.split()[1] == status and b'"code": ' + status in received


def test_an_endless_trailer_fills_no_memory(agent: Running) -> None:
    head = f"POST /process.Process/List HTTP/1.1\r\n{HEAD}Content-Type: application/json\r\n"
    with connection(agent) as raw:
        raw.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\na: ".encode())
        with pytest.raises(ConnectionError):  # hung up on
            for _ in range(1000):
                raw.sendall(bytes(100_000).replace(b"\0", b"x"))


def test_an_endless_body_for_nobody_fills_no_memory(agent: Running, client: Client) -> None:
    """Without the token the answer comes at once; what the client goes on sending is dropped."""
    client.run("true")
    before_kb = agent.memory_kb()
    with connection(agent) as raw:
        raw.sendall(b"POST /files?path=/tmp/never HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
        assert read_until(raw, b"}").startswith(b"HTTP/1.1 401 ")
        for _ in range(100):
            raw.sendall(bytes(1_000_000))
        raw.sendall(HEALTH)  # the connection is of use again
        assert read_until(raw, b"\r\n\r\n").startswith(b"HTTP/1.1 204 ")
    assert agent.memory_kb() - before_kb < 4_000


def test_a_crowd_that_says_nothing_shuts_nobody_out(agent: Running) -> None:
    crowd = [socket.create_connection(("127.0.0.1", agent.port)) for _ in range(MAX_CONNECTIONS + 50)]
    try:
        for raw in crowd:
            raw.sendall(b"GET /he")
        fresh = Client(agent.port)
        assert fresh.http.get("/health").status_code == 204
        eventually(lambda: agent.open_fds() <= MAX_CONNECTIONS + 50, "the oldest are closed")
        crowd[0].settimeout(DEADLINE_S)
        assert until_closed(crowd[0]) == b""
    finally:
        for raw in crowd:
            raw.close()
    eventually(lambda: agent.open_fds() < 50, "all are closed")


def test_a_connection_that_was_just_answered_is_kept_whatever_comes(agent: Running) -> None:
    """Whoever keeps it may be writing his next request to it."""
    kept = list[socket.socket]()
    try:
        while len(kept) < MAX_CONNECTIONS:
            kept.append(socket.create_connection(("127.0.0.1", agent.port), timeout=DEADLINE_S))
            kept[-1].sendall(HEALTH)
            assert read_until(kept[-1], b"\r\n\r\n").startswith(b"HTTP/1.1 204 ")
        assert Client(agent.port).http.get("/health").status_code == 204
        for raw in kept:
            raw.sendall(HEALTH)
            assert read_until(raw, b"\r\n\r\n").startswith(b"HTTP/1.1 204 ")
    finally:
        for raw in kept:
            raw.close()


def test_upgrades_are_ignored(agent: Running) -> None:
    with connection(agent) as raw:
        raw.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        assert until_closed(raw).startswith(b"HTTP/1.1 204 ")
