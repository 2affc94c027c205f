"""Requests that go on as they came: streamed, with nothing added, and ended when the client leaves."""

import json
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from fleet.forward import onward, target, with_body
from tests.unit.fleet.fleets import Fleet
from tests.unit.sandboxd.conftest import until
from tests.unit.sandboxd.fake_engine import START, FakeLog


class Echo:
    """In the place of a host's API: keeps what came, and answers in the pieces that a test gives it."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self.gate, self.before = fleet.nodes[name].gate, fleet.nodes[name].gate.app
        self.scope: Scope = {}
        self.body: list[bytes] = []
        self.left = threading.Event()
        self.arrived = threading.Semaphore(0)
        self.answer_in_the_middle = False
        self.gate.app = self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "echo" not in scope["path"]:
            await self.before(scope, receive, send)
            return
        self.scope = scope
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.set()
                return
            self.body.append(message.get("body", b""))
            self.arrived.release()
            more = message.get("more_body", False)
        headers = [(b"x-from", b"host"), (b"content-type", b"text/plain"), (b"connection", b"x-hop"), (b"x-hop", b"1")]
        await send({"type": "http.response.start", "status": 207, "headers": headers})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        if scope["path"].endswith("/broken"):
            raise ConnectionError("in the middle")
        if scope["path"].endswith("/endless"):
            while (await receive())["type"] != "http.disconnect":
                pass
            self.left.set()
            return
        await send({"type": "http.response.body", "body": b"last", "more_body": False})


@pytest.fixture
def echo(patient: Fleet) -> Echo:
    return Echo(patient, "a")


def test_a_request_arrives_as_it_was_sent(patient: Fleet, echo: Echo) -> None:
    found = patient.create()["sandboxID"]
    while patient.where(found).name != "a":
        found = patient.create()["sandboxID"]
    headers = {"X-Mine": "1", "Connection": "x-hop", "X-Hop": "2"}
    path = f"/sandboxes/{found}/echo/a%2Fb%20c?x=%C3%A4&x=2&y"
    answer = patient.unix.request("PATCH", path, content=b"body", headers=headers)
    assert (answer.status_code, answer.text) == (207, "firstlast")
    assert answer.headers["x-from"] == "host" and "x-hop" not in answer.headers
    assert echo.scope["raw_path"] == f"/sandboxes/{found}/echo/a%2Fb%20c".encode()
    assert echo.scope["query_string"] == b"x=%C3%A4&x=2&y" and echo.scope["method"] == "PATCH"
    came = dict(echo.scope["headers"])
    assert came[b"x-mine"] == b"1" and came[b"host"] == b"node.example.com" and b"".join(echo.body) == b"body"
    assert b"x-hop" not in came and b"connection" not in came and came[b"content-length"] == b"4"
    assert len(answer.headers.get_list("date")) == 1


def test_an_upload_flows_while_it_is_sent(patient: Fleet, echo: Echo) -> None:
    sent = threading.Semaphore(0)

    def pieces() -> Iterator[bytes]:
        for piece in (b"one", b"two", b"three"):
            yield piece
            sent.release()
            assert echo.arrived.acquire(timeout=15), "nothing arrived while more was to come"

    answer = patient.tcp.put("/build-files/echo?node=a", content=pieces())
    assert answer.status_code == 207 and b"".join(echo.body) == b"onetwothree"
    assert len([piece for piece in echo.body if piece]) == 3 and sent.acquire(timeout=1)


def test_a_client_that_leaves_ends_the_request(patient: Fleet, echo: Echo) -> None:
    with patient.unix.stream("GET", "/echo/endless") as answer:
        pieces = answer.iter_bytes()  # which is kept: its end is the connection's
        assert next(pieces) == b"first"
        assert not echo.left.is_set()
    assert echo.left.wait(15), "the host goes on for nobody"
    until(lambda: not patient.services.streams.open, "it is still counted as open")


def test_a_client_that_leaves_in_its_body_ends_the_request(patient: Fleet, echo: Echo) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(patient.config.socket))
        connection.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nbegun")
        assert echo.arrived.acquire(timeout=15)
    assert echo.left.wait(15), "the host waits for the rest"


def test_an_answer_that_breaks_off_breaks_off(patient: Fleet, echo: Echo) -> None:
    with pytest.raises(httpx.RemoteProtocolError), patient.unix.stream("GET", "/echo/broken") as answer:
        assert b"".join(answer.iter_bytes()) == b""


def test_the_end_of_the_service_ends_what_goes_on(patient: Fleet, echo: Echo) -> None:
    """A text that is not whole breaks off; a stream of lines says that it is cut short."""
    with pytest.raises(httpx.RemoteProtocolError), patient.unix.stream("GET", "/echo/endless") as answer:
        pieces = answer.iter_bytes()
        assert next(pieces) == b"first"
        patient.soon(patient.services.streams.end_all)
        next(pieces)
    assert echo.left.wait(15)


def test_an_answer_that_begins_while_the_service_ends_is_ended(patient: Fleet, echo: Echo) -> None:
    patient.soon(patient.services.streams.end_all)
    with pytest.raises(httpx.RemoteProtocolError):
        patient.unix.get("/echo/endless")
    assert echo.left.wait(15)


def test_a_log_is_followed(patient: Fleet) -> None:
    found = patient.create()["sandboxID"]
    log = patient.where(found).world.engine.logged[found] = FakeLog()
    log.write(START, "one")
    with patient.unix.stream("GET", f"/logs/{found}?follow=true") as answer:
        lines = answer.iter_lines()
        assert json.loads(next(lines))["text"] == "one"
        log.write(START + 1, "two")
        assert json.loads(next(lines))["text"] == "two"
        patient.soon(patient.services.streams.end_all)
        assert json.loads(next(lines))["code"] == 503, "a stream that is cut short says so"


def test_headers() -> None:
    given = [(b"Connection", b"close, X-One"), (b"x-one", b"1"), (b"x-two", b"2"), (b"Transfer-Encoding", b"chunked")]
    assert onward(given) == [(b"x-two", b"2")]
    assert with_body([(b"content-length", b"1")]) and with_body([(b"transfer-encoding", b"chunked")])
    assert not with_body([(b"content-length", b"0")]) and not with_body([])
    assert target({"raw_path": b"/a%2Fb", "path": "/a/b", "query_string": b""}) == b"/a%2Fb"
    assert target({"path": "/a", "query_string": b"x=1"}) == b"/a?x=1"
