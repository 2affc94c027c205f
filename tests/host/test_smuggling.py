"""Requests and answers that each proxy could read in its own way: none reaches, or answers for, somebody else.

Traefik keeps connections to the gateway, and the gateway keeps connections to servers; both are shared by all who ask.
So after every attack, on whatever connection, everybody else must still be answered by whom he asked.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from tests.host.machine import Machine, Sandbox
from tests.host.wire import Answer, Edge, Ended, Http2, get, plays, steps

pytestmark = pytest.mark.disruptive

# The beginning of a request: whoever takes it for one adds the next head on the connection to it.
PREFIX = "GET /smuggled HTTP/1.1\r\nX-Prefix: "
OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
POISON = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"


@dataclass
class Stage:
    """Two players, `one` and `other`, and the ways to them."""

    edge: Edge
    one: Sandbox
    other: Sandbox
    name: str = field(init=False)
    elsewhere: str = field(init=False)

    def __post_init__(self) -> None:
        self.name, self.elsewhere = self.edge.host(self.one), self.edge.host(self.other)

    def asks(self, name: str, whom: str) -> str:
        """Asks as somebody new does. Empty, or what was wrong."""
        nonce = uuid.uuid4().hex
        try:
            answer = self.edge.ask(name, f"/{nonce}")
            heard = answer.json()
        except (Ended, ValueError) as error:
            return repr(error)
        right = (whom, f"GET /{nonce} HTTP/1.1")
        return "" if (heard["who"], heard["first"]) == right else f"{answer.status} {heard}"

    def undisturbed(self) -> None:
        """Both answer what they were asked, and neither has seen what was smuggled."""
        others = [(self.name, "one"), (self.elsewhere, "other")] * 2
        assert [self.asks(name, whom) for name, whom in others] == [""] * len(others)
        for name in (self.name, self.elsewhere):
            heard = "".join(self.edge.ask(name, "/seen").json())
            assert "GET /smuggled" not in heard and "x-prefix" not in heard.lower(), heard[-2000:]


@pytest.fixture(scope="module")
def stage(machine: Machine) -> Iterator[Stage]:
    with machine.sandbox() as one, machine.sandbox() as other:
        yield Stage(Edge(machine), plays(one, "one"), plays(other, "other"))


def attacked(stage: Stage, request: str) -> Answer | None:
    """The first answer to it; None when the connection was closed instead."""
    with stage.edge.wire(stage.name) as wire:
        try:
            return wire.ask(request)
        except Ended:
            return None


def post(stage: Stage, *headers: str, body: str = "") -> str:
    return "\r\n".join(["POST /mine HTTP/1.1", f"Host: {stage.name}", *headers, "", body])


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (("Content-Length: 44", "Transfer-Encoding: chunked"), "0\r\n\r\n" + PREFIX, 200),
        (("Content-Length: 4", "Transfer-Encoding:\tchunked"), "0\r\n\r\n" + PREFIX, 200),
        (("Content-Length: 4", "Transfer-Encoding:\r\n chunked"), "0\r\n\r\n" + PREFIX, 200),
        (("Content-Length: 4", "Transfer-Encoding: \x0bchunked"), "0\r\n\r\n" + PREFIX, 400),
        (("Content-Length: 4", "Transfer-Encoding : chunked"), "0\r\n\r\n" + PREFIX, 400),
        (("Content-Length: 4", "Transfer-Encoding: xchunked"), "0\r\n\r\n" + PREFIX, 501),
        (("Content-Length: 4", "Transfer-Encoding: chunked", "Transfer-Encoding: x"), "0\r\n\r\n" + PREFIX, 501),
        (("Transfer-Encoding: identity, chunked",), "0\r\n\r\n" + PREFIX, 501),
        (("Content-Length: 4", "X: a\rTransfer-Encoding: chunked"), "0\r\n\r\n" + PREFIX, 400),
        (("Content-Length: 4", "Content-Length: 5"), "abcd" + PREFIX, 400),
        (("Content-Length: 4", "Content-Length: 4"), "abcd" + PREFIX, 200),
        (("Content-Length: 4, 4",), "abcd" + PREFIX, 400),
        (("Content-Length: +4",), "abcd" + PREFIX, 400),
        (("Content-Length: -4",), "abcd" + PREFIX, 400),
        (("Content-Length: 0x4",), "abcd" + PREFIX, 400),
        (("Content-Length: 18446744073709551620",), "abcd" + PREFIX, 400),
        (("Content-Length:",), PREFIX, 400),
        (("Content_Length: 44", "Transfer_Encoding: chunked"), PREFIX, 200),
        (("Transfer-Encoding: chunked",), "3;a=b\r\nabc\r\n0\r\n\r\n" + PREFIX, 200),
        (("Transfer-Encoding: chunked",), "3;a=\nabc\r\n0\r\n\r\n" + PREFIX, 500),
        (("Transfer-Encoding: chunked",), "3\nabc\n0\n\n" + PREFIX, 500),
        (("Transfer-Encoding: chunked",), "ffffffffffffffff1\r\nabc\r\n0\r\n\r\n" + PREFIX, 500),
        (("Transfer-Encoding: chunked",), "-3\r\nabc\r\n0\r\n\r\n" + PREFIX, 500),
        (("Transfer-Encoding: chunked",), "0x3\r\nabc\r\n0\r\n\r\n" + PREFIX, 500),
        (("Transfer-Encoding: chunked",), "0\r\nContent-Length: 44\r\nHost: x\r\n\r\n" + PREFIX, 200),
    ],
)
def test_a_length_has_one_meaning(stage: Stage, headers: tuple[str, ...], body: str, status: int) -> None:
    answer = attacked(stage, post(stage, *headers, body=body))
    assert answer is None or answer.status == status, answer
    stage.undisturbed()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ("GET /mine\r\n", 400),
        ("GET /mine HTTP/1.0\r\n\r\n", 400),
        (
            "GET /mine HTTP/1.0\r\nHost: {0}\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n0\r\n\r\n",
            200,
        ),
        ("GET /mine HTTP/2.0\r\nHost: {0}\r\n\r\n", 505),
        ("GET /mine HTTP/1.1\nHost: {0}\n\n", 200),
        ("GET /mine HTTP/1.1\r\nHost: {0}\r\nHost: {1}\r\n\r\n", 400),
        ("GET /mine HTTP/1.1\r\nHost: {0}, {1}\r\n\r\n", 400),
        ("GET /mine HTTP/1.1\r\nHost: {0}@{1}\r\n\r\n", 400),
        ("GET /mine HTTP/1.1\r\nHost: {0}/{1}\r\n\r\n", 400),
        ("GET /mine HTTP/1.1\r\nHost: x@{0}\r\n\r\n", 400),
        ("GET /mine HTTP/1.1\r\nHost: {0}\r\nX Y: a\r\n\r\n", 400),
        ("GET /mine HTTP/1.1\r\nHost: {0}\r\nX: a\0b\r\n\r\n", 400),
        ("GET /mine there HTTP/1.1\r\nHost: {0}\r\n\r\n", 400),
        ("CONNECT {1}:443 HTTP/1.1\r\nHost: {0}\r\n\r\n", 501),
    ],
)
def test_a_request_that_is_none_reaches_nobody_else(stage: Stage, request_: str, status: int) -> None:
    answer = attacked(stage, request_.format(stage.name, stage.elsewhere) + PREFIX)
    assert answer is None or answer.status == status, answer
    stage.undisturbed()


@pytest.mark.parametrize(
    ("target", "host", "whom"),
    [
        ("/mine", "{0}:1", "one"),
        ("/mine", "{0}.", "one"),
        ("/mine", "{1}", "other"),  # whatever name TLS was told
        ("https://{1}/mine", "{0}", "other"),
        ("https://{0}@{1}/mine", "{0}", "other"),
    ],
)
def test_the_name_that_chooses_is_the_name_that_arrives(stage: Stage, target: str, host: str, whom: str) -> None:
    names = (stage.name, stage.elsewhere)
    answer = attacked(stage, get(host.format(*names), target.format(*names)))
    assert answer is not None and answer.json()["who"] == whom
    headers = dict(answer.json()["headers"])
    wanted = {"one": stage.name, "other": stage.elsewhere}[whom]
    assert headers["host"].startswith(wanted) and headers["x-forwarded-host"].startswith(wanted)


def fields(stage: Stage, method: str = "GET", path: str = "/mine", authority: str = "") -> list[tuple[str, str]]:
    pseudo = {"method": method, "scheme": "https", "path": path, "authority": authority or stage.name}
    return [(f":{name}", value) for name, value in pseudo.items()]


def over_http2(stage: Stage, sent: list[tuple[str, str]], body: bytes = b"") -> tuple[str, bytes]:
    with stage.edge.connection(stage.name, "h2") as connection:
        return Http2(connection).ask(sent, body)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x", "a\r\nhost: {1}"),
        ("x", "a\r\n\r\n" + PREFIX),
        ("x", "a\nb: c"),
        ("x", "a\0b"),
        ("x\r\ny", "a"),
        ("x: a\r\ny", "a"),
        ("x y", "a"),
        ("X", "a"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        (":authority", "{1}"),
        (":path", "/smuggled"),
        (":unknown", "a"),
    ],
)
def test_http2_brings_no_line_of_http1(stage: Stage, name: str, value: str) -> None:
    sent = [*fields(stage), (name, value.format(stage.name, stage.elsewhere))]
    how, body = over_http2(stage, sent)
    assert how in ("reset", "goaway", "closed") or b'"who"' not in body, body
    stage.undisturbed()


@pytest.mark.parametrize(
    ("method", "path", "authority"),
    [
        ("GET", "/mine HTTP/1.1\r\nHost: {1}\r\n\r\n" + PREFIX, ""),
        ("GET / HTTP/1.1\r\nX: y", "/mine", ""),
        ("GET", "/mine", "{0}\r\nX: y"),
        ("GET", "/mine", "x@{1}"),
        ("GET", "/mine", "{1}/{0}"),
        ("CONNECT", "/mine", ""),
    ],
)
def test_http2_has_no_second_request_in_its_first_line(stage: Stage, method: str, path: str, authority: str) -> None:
    names = (stage.name, stage.elsewhere)
    how, body = over_http2(stage, fields(stage, method, path.format(*names), authority.format(*names)))
    assert how in ("reset", "goaway", "closed") or b'"who"' not in body, body
    stage.undisturbed()


def test_http2_keeps_a_body_a_body(stage: Stage) -> None:
    how, body = over_http2(stage, fields(stage, "POST"), b"0\r\n\r\n" + PREFIX.encode())
    assert how == "answered" and json.loads(body)["body"] == "0\r\n\r\n" + PREFIX
    for length in ("3", "300"):
        over_http2(stage, [*fields(stage, "POST"), ("content-length", length)], b"abc" + PREFIX.encode())
    assert stage.asks(stage.name, "one") == "" and stage.asks(stage.elsewhere, "other") == ""
    how, body = over_http2(stage, [*fields(stage), ("host", stage.elsewhere)])
    heard = json.loads(body)
    assert heard["who"] == "one" and [value for name, value in heard["headers"] if name == "host"] == [stage.name]


def test_a_server_that_leaves_bodies_unread_gives_nobody_another_request(stage: Stage) -> None:
    """Its next head would begin with the body: the gateway ends a connection that has carried one."""
    for length in (f"Content-Length: {len(PREFIX)}\r\n\r\n{PREFIX}", None):
        framed = length or f"Transfer-Encoding: chunked\r\n\r\n{len(PREFIX):x}\r\n{PREFIX}\r\n0\r\n\r\n"
        for _ in range(3):
            answer = attacked(stage, f"POST /careless HTTP/1.1\r\nHost: {stage.name}\r\n{framed}")
            assert answer is not None and answer.json()["first"] == "POST /careless HTTP/1.1"
            assert [stage.asks(stage.name, "one") for _ in range(3)] == [""] * 3


@pytest.mark.parametrize(
    "played",
    [
        [("send", OK + POISON)],
        [("send", OK + POISON), ("close",)],
        [("send", "HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\npoison" + POISON)],
        [("send", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n6\r\npoison\r\n0\r\n\r\n" + POISON)],
        [("send", "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison" + POISON)],
        [("send", "HTTP/1.1 100 Continue\r\nContent-Length: 6\r\n\r\npoison" + POISON)],
        [("repeat", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 2000), ("send", OK + POISON)],
        [("send", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + POISON)],
        [("send", "HTTP/1.1 101 Switching Protocols\r\n\r\n" + POISON)],
        [
            (
                "send",
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
                + POISON,
            )
        ],
        [
            (
                "send",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 99\r\n\r\n2\r\nok\r\n0\r\n\r\n"
                + POISON,
            )
        ],
        [("send", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokx" + POISON)],
        [("send", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok" + POISON)],
        [("send", "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + POISON)],
        [("send", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n" + POISON)],
        [
            (
                "send",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nok\r\n0\r\n\r\n" + POISON,
            )
        ],
        [("send", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\n0\n\n" + POISON)],
        [
            (
                "send",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nContent-Length: 9\r\n\r\n"
                + POISON,
            )
        ],
        [("send", "HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok" + POISON)],
        [("send", "HTTP/1.1 200 OK\nX: a\nContent-Length: 2\n\nok" + POISON)],
        [("send", "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok" + POISON)],
        [("send", "HTTP/1.1 200 OK\r\nX: a\r\n Content-Length: 200\r\nContent-Length: 2\r\n\r\nok" + POISON)],
        [("send", "HTTP/1.1 000 X\r\nContent-Length: 2\r\n\r\nok" + POISON)],
        [("send", "HTTP/1.1 99 X\r\nContent-Length: 2\r\n\r\nok" + POISON)],
        [("send", "HTTP/1.1 1000 X\r\nContent-Length: 2\r\n\r\nok" + POISON)],
        [("send", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok" + POISON)],
        [("send", "poison" + POISON), ("close",)],
        [("send", "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\nok" + POISON), ("wait", 0.1), ("reset",)],
    ],
)
def test_an_answer_too_many_is_nobodys(stage: Stage, played: list[tuple[str, ...]]) -> None:
    """Of the same server too: whoever asks next gets an answer to what he asked."""
    for method in ("GET", "HEAD"):
        with stage.edge.wire(stage.name) as wire, suppress(Ended):
            answer = wire.ask(get(stage.name, steps(*played), method=method), method)
            assert b"poison" not in answer.body, answer
        stage.undisturbed()


def test_who_shares_connections_with_a_mean_server_gets_his_own_answers(stage: Stage, machine: Machine) -> None:
    """Many at once, so that every connection that Traefik and the gateway keep is used by all."""
    mean = [
        steps(("send", OK + POISON)),
        steps(("send", OK), ("wait", 0.01), ("send", POISON)),
        steps(("send", "HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\n" + POISON)),
        steps(("send", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + POISON), ("reset",)),
    ]
    api = f"api.{stage.edge.domain}"

    def attack(number: int) -> None:
        with suppress(Ended):
            stage.edge.ask(stage.name, mean[number % len(mean)])

    def ask(_: int) -> str:
        return stage.asks(stage.elsewhere, "other")

    def health(_: int) -> str:
        answer = stage.edge.ask(api, "/health")
        return "" if (answer.status, answer.body) == (200, b"ok\n") else repr(answer)

    with ThreadPoolExecutor(24) as crowd:
        attacks = [crowd.submit(attack, number) for number in range(400)]
        wrong = [*crowd.map(ask, range(300)), *crowd.map(health, range(100))]
        for one in attacks:
            one.result()
    assert [text for text in wrong if text] == []


def test_headers_of_the_connection_and_of_forwarding_are_ours(stage: Stage, machine: Machine) -> None:
    """Said by a client they are replaced, or do not arrive; however they are written."""
    said = [
        *(
            "X-Forwarded-For: 9.9.9.9",
            "X-Forwarded-For: 8.8.8.8",
            "x_forwarded_for: 9.9.9.9",
            "X.Forwarded.For: 9.9.9.9",
        ),
        *("X-Forwarded-Proto: http", "X-Forwarded-Host: evil.example", "X-Forwarded-Port: 1", "X-Real-IP: 9.9.9.9"),
        *(
            "X-Forwarded-Prefix: /evil",
            "X-Forwarded-Uri: /evil",
            "X-Forwarded-Method: EVIL",
            "X-Forwarded-Server: evil",
        ),
        *("Forwarded: for=9.9.9.9;host=evil.example", "fORWARDED: for=8.8.8.8", "Keep-Alive: timeout=9"),
        *(
            "Proxy-Authorization: evil",
            "Proxy-Connection: keep-alive",
            "Proxy-Authenticate: evil",
            "TE: trailers, evil",
        ),
        *(
            "Trailer: X-Evil",
            "Upgrade: h2c",
            "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
            "X-Listed: evil",
            "X-Kept: kept",
        ),
        "Connection: upgrade, HTTP2-Settings, X-Listed, X-Forwarded-For, X-Forwarded-Host, X-Real-Ip, Host",
    ]
    answer = stage.edge.ask(stage.name, "/", *said)
    heard = answer.json()["headers"]
    names = [name for name, _ in heard]
    assert len(names) == len(set(names)), heard
    headers = dict(heard)
    ours = headers["x-real-ip"]
    assert ours not in ("9.9.9.9", "8.8.8.8") and headers["x-forwarded-for"] == ours
    assert headers["x-forwarded-host"] == headers["host"] == stage.name
    assert (headers["x-forwarded-proto"], headers["x-forwarded-port"], headers["x-kept"]) == ("https", "443", "kept")
    assert "evil" not in json.dumps(heard) and "9.9.9.9" not in json.dumps(heard), heard
    gone = {
        "forwarded",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "upgrade",
        "http2-settings",
        "connection",
    }
    assert not gone & set(names) and headers.get("te", "trailers") == "trailers"


def test_a_private_sandbox_is_reached_by_no_trick(stage: Stage, machine: Machine) -> None:
    """The name whose token is looked at is the name that is dialled."""
    made = json.loads(machine.out("docker-sandbox key create smuggling --json"))
    headers = {"X-API-Key": made["key"]}
    body = {"templateID": "base", "timeout": 600, "network": {"allowPublicTraffic": False}}
    url = f"https://api.{stage.edge.domain}/v2/sandboxes"
    closed = Sandbox(machine, machine.request("POST", url, headers=headers, json=body).json()["sandboxID"])
    try:
        plays(closed, "closed")
        name, token = stage.edge.host(closed), "e2b-traffic-access-token"
        tricks = [
            get(name, "/"),
            get(name, "/", f"{token}: x", f"{token.replace('-', '_')}: x"),
            get(f"{name}.", "/"),
            get(f"{name}:1", "/"),
            get(name.upper(), "/"),
            get(stage.name, f"https://{name}/"),
            get(stage.name, "/", f"X-Forwarded-Host: {name}", f"X-Original-Host: {name}"),
            get(f"8000-{closed.id}-{stage.one.id}.{stage.edge.domain}", "/"),
            get(f"08000-{closed.id}.{stage.edge.domain}", "/"),
            *(
                get(f"sandbox.{stage.edge.domain}", "/", *both, "E2b-Sandbox-Port: 8000")
                for both in (
                    [f"E2b-Sandbox-Id: {closed.id}"],
                    [f"E2b-Sandbox-Id: {stage.one.id}", f"e2b-sandbox-id: {closed.id}"],
                    [f"E2b-Sandbox-Id: {closed.id}", f"e2b-sandbox-id: {stage.one.id}"],
                    [f"E2b-Sandbox-Id: {stage.one.id}, {closed.id}"],
                    [f"E2b-Sandbox-Id: {stage.one.id}", f"E2b_Sandbox_Id: {closed.id}"],
                    [f"E2B-SANDBOX-ID: {closed.id.upper()}-{stage.one.id}"],
                )
            ),
        ]
        for request in tricks:
            with stage.edge.wire(stage.name) as wire:
                answer = wire.ask(request)
            assert answer.status in (400, 403) or answer.json()["who"] == "one", (request, answer)
        assert stage.edge.ask(name, "/", "E2B-Traffic-Access-Token: wrong").status == 403
    finally:
        machine.run(f"docker-sandbox kill {closed.id}; docker-sandbox key revoke {made['keyID']}", check=False)
