"""What lasts or is large, through Traefik, the gateway and into a sandbox: WebSockets, events, bodies, quiet."""

from __future__ import annotations

import hashlib
import json
import shlex
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.host.machine import Machine, Sandbox
from tests.host.player import pieces
from tests.host.wire import BINARY, CLOSE, PING, PONG, TEXT, Edge, WebSocket, get, plays, steps

MIB = 1 << 20
QUIET_S = 600
KNOWN = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 27\r\n\r\n"
EVENTS = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


@dataclass(frozen=True)
class Stage:
    edge: Edge
    sandbox: Sandbox

    @property
    def name(self) -> str:
        return self.edge.host(self.sandbox)


@pytest.fixture(scope="module")
def stage(machine: Machine) -> Iterator[Stage]:
    with machine.sandbox("--timeout 30m") as sandbox:
        yield Stage(Edge(machine), plays(sandbox, "streams"))


def test_a_websocket_brings_every_frame_back(stage: Stage) -> None:
    noise = next(pieces(MIB)) * 4
    frames = [
        *(
            (TEXT, "grüß dich".encode()),
            (BINARY, bytes(range(256))),
            (TEXT, b""),
            (BINARY, noise[:125]),
            (PING, b"there?"),
        ),
        *((BINARY, noise[:65_535]), (BINARY, noise[:65_536]), (BINARY, noise), (PING, b""), (TEXT, b"x" * len(noise))),
    ]
    with stage.edge.wire(stage.name) as wire:
        websocket = WebSocket(wire, stage.name)
        for opcode, data in frames:
            websocket.send(opcode, data)
            heard, back = websocket.receive()
            assert (heard, len(back)) == (PONG if opcode == PING else opcode, len(data)) and back == data
        websocket.send(CLOSE, (4321).to_bytes(2, "big") + b"enough")
        assert websocket.receive() == (CLOSE, (4321).to_bytes(2, "big") + b"enough")
        assert wire.rest() == b""


def test_an_answer_that_begins_before_the_body_was_read_comes_whole(stage: Stage) -> None:
    """To HTTP/1.1 clients, too: it is there that Traefik gives such answers up, unless it has the whole body first."""
    head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    path = steps(("send", f"{head}5\r\nfirst\r\n"), ("take",), ("wait", 0.002), ("send", "6\r\nsecond\r\n0\r\n\r\n"))
    body = "x" * 20_000

    def client(_: int) -> list[bytes]:
        with stage.edge.wire(stage.name) as wire:
            request = get(stage.name, path, f"Content-Length: {len(body)}", method="POST") + body
            return [wire.ask(request, "POST").body for _ in range(25)]

    with ThreadPoolExecutor(8) as clients:
        assert {answer for answers in clients.map(client, range(8)) for answer in answers} == {b"firstsecond"}


def curl(stage: Stage, *options: str) -> str:
    """A command line that asks on the host itself: Debian's curl speaks HTTP/2."""
    settings = stage.sandbox.machine.settings
    trust = ("--cacert", f"{settings.etc}/ca/ca.pem") if settings.tls_mode == "internal" else ()
    return shlex.join(["curl", "-sSN", "--max-time", "60", *trust, "--connect-to", "::127.0.0.1:443", *options])


@pytest.mark.parametrize("protocol", ["--http1.1", "--http2"])
@pytest.mark.parametrize("head", [EVENTS, KNOWN], ids=["events", "length"])
def test_what_is_said_arrives_while_the_stream_goes_on(stage: Stage, protocol: str, head: str) -> None:
    """The server says the second line only when somebody has heard the first."""
    heard = f"heard-{protocol}-{len(head)}"
    path = steps(("send", f"{head}data: first\n\n"), ("until", heard), ("send", "data: second\n\n"), ("close",))
    ask, base = curl(stage, protocol), f"https://{stage.name}"
    script = f"{ask} {base}{path} | {{ read -r first; echo $first; {ask} {base}/let/{heard} >/dev/null; cat; }}"
    assert stage.sandbox.machine.out(script).split("\n") == ["data: first", "", "data: second"]


def test_http2_is_spoken_to_clients(stage: Stage) -> None:
    url = f"https://{stage.name}/x"
    said = stage.sandbox.machine.out(f"{curl(stage, '--http2')} --write-out ' %{{http_version}}' --data abc {url}")
    body, _, version = said.rpartition(" ")
    assert version == "2" and json.loads(body)["body"] == "abc"


def test_what_a_client_may_ask_of_a_transfer_arrives(stage: Stage) -> None:
    part = 'HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 2-4/9\r\nContent-Length: 3\r\nETag: "x"\r\n\r\ncde'
    answer = stage.edge.ask(stage.name, steps(("send", part)), "Range: bytes=2-4", 'If-Range: "x"')
    assert (answer.status, answer.body, answer.all("content-range")) == (206, b"cde", ["bytes 2-4/9"])
    heard = dict(stage.edge.ask(stage.name, "/", "Range: bytes=2-4", 'If-Range: "x"').json()["headers"])
    assert (heard["range"], heard["if-range"]) == ("bytes=2-4", '"x"')

    with stage.edge.wire(stage.name) as wire:
        answer = wire.ask(get(stage.name, "/there", method="HEAD"), "HEAD")
        assert answer.status == 200 and int(answer.all("content-length")[0]) > 100
        wire.send(f"POST /digest HTTP/1.1\r\nHost: {stage.name}\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        wire.send("abc")
        answer = wire.answer()
        assert answer.interim == [100] and answer.json()["body"] == f"3 {hashlib.sha256(b'abc').hexdigest()}"

    trailing = "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n"
    answer = stage.edge.ask(stage.name, steps(("send", f"HTTP/1.1 200 OK\r\n{trailing}")))
    assert (answer.body, answer.trailers) == (b"abc", [("x-sum", "6")])


def whole_both_ways(stage: Stage, size: int) -> None:
    """So many bytes down and up, whose digests are made at both ends."""
    wanted = hashlib.sha256()
    for piece in pieces(size):
        wanted.update(piece)
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"
    with stage.edge.wire(stage.name, timeout=120) as wire:
        wire.send(get(stage.name, steps(("send", head), ("stream", size)), "Accept-Encoding: identity"))
        assert wire.head().all("content-length") == [str(size)]
        digest = hashlib.sha256()
        for start in range(0, size, MIB):
            digest.update(wire.exactly(min(MIB, size - start)))
    assert digest.hexdigest() == wanted.hexdigest()
    with stage.edge.wire(stage.name, timeout=120) as wire:
        wire.send(f"POST /digest HTTP/1.1\r\nHost: {stage.name}\r\nContent-Length: {size}\r\n\r\n")
        for piece in pieces(size):
            wire.send(piece)
        assert wire.answer().json()["body"] == f"{size} {wanted.hexdigest()}"


def test_a_large_body_arrives_whole_both_ways(stage: Stage) -> None:
    whole_both_ways(stage, 256 * MIB + 77)


@pytest.mark.disruptive
@pytest.mark.suite("trixie")
def test_two_gigabytes_arrive_whole_both_ways(stage: Stage) -> None:
    whole_both_ways(stage, 2048 * MIB + 77)


@pytest.mark.disruptive
@pytest.mark.chaos
def test_nothing_is_cut_because_it_is_quiet(stage: Stage) -> None:
    """Ten minutes without a byte: events, a WebSocket, an answer that takes so long, and a body that stops half-way."""

    def events() -> bool:
        path = steps(("send", f"{EVENTS}data: first\n\n"), ("wait", QUIET_S), ("send", "data: last\n\n"), ("close",))
        return b"data: last" in stage.edge.ask(stage.name, path, timeout=QUIET_S + 60).body

    def late() -> bool:
        answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate"
        path = steps(("wait", QUIET_S), ("send", answer))
        return stage.edge.ask(stage.name, path, timeout=QUIET_S + 60).body == b"late"

    def websocket() -> bool:
        with stage.edge.wire(stage.name, QUIET_S + 60) as wire:
            open_one = WebSocket(wire, stage.name)
            time.sleep(QUIET_S)
            open_one.send(TEXT, b"still there")
            return open_one.receive() == (TEXT, b"still there")

    def upload() -> bool:
        with stage.edge.wire(stage.name, QUIET_S + 60) as wire:
            wire.send(f"POST /digest HTTP/1.1\r\nHost: {stage.name}\r\nContent-Length: 6\r\n\r\nabc")
            time.sleep(QUIET_S)
            return bool(wire.ask("def").json()["body"].startswith("6 "))

    with ThreadPoolExecutor(4) as four:
        started = {case.__name__: four.submit(case) for case in (events, late, websocket, upload)}
        assert {name: case.result() for name, case in started.items()} == dict.fromkeys(started, True)
