"""A running agent and clients that are broken or mean: the right error, nothing left behind, and others served."""

import json
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.envd.client import DEADLINE_S, TOKEN, Client, Running, bash, envelope, eventually, running_agent
from tests.unit.envd.test_auth import sign
from tests.unit.envd.test_server import HEAD, HEALTH, connection, read_until, until_closed
from tests.unit.properties import always_the_same

HALF = "\ud800"  # of a surrogate pair: JSON can spell it, and no file name hold it
LONG = "a" * 4096
DIGITS = "9" * 5000  # more than Python turns into a number
DEEP = b'{"path":' * 980 + b"1" + b"}" * 980
BYTES, STREAM = "application/octet-stream", "application/connect+json"
NINE, CHUNKED = "Content-Length: 9", "Transfer-Encoding: chunked"
FORM = b'--B\r\nContent-Disposition: form-data; name="file"; filename="half"\r\n\r\nx'
CROWD = 200


def post(path: str, kind: str, framing: str) -> bytes:
    """The head of a request."""
    return f"POST /{path} HTTP/1.1\r\n{HEAD}Content-Type: {kind}\r\n{framing}\r\n\r\n".encode()


FILES = "filesystem.Filesystem"
PATHS = [
    *((f"{FILES}/{method}", {"path": path}) for method in ("Stat", "ListDir", "MakeDir", "Remove") for path in
      (HALF, "a\0b", LONG, "/etc/passwd/x")),
    (f"{FILES}/CreateWatcher", {"path": HALF}),
    (f"{FILES}/Move", {"source": HALF, "destination": "x"}),
    (f"{FILES}/Move", {"source": "/etc", "destination": "a\0b"}),
    (f"{FILES}/Stat", {"path": ["x"]}),
    (f"{FILES}/ListDir", {"path": "/", "depth": "many"}),
]  # fmt: skip


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An agent that nobody else uses, so that its open files can be counted."""
    with running_agent(tmp_path_factory.mktemp("bad"), sandboxID="abc", accessToken=TOKEN) as running:
        warm = Client(running.port)
        assert warm.run("true").end["exitCode"] == 0 and warm.upload("warm", b"x").status_code == 200
        warm.http.close()
        yield running


@pytest.fixture
def client(own: Running) -> Iterator[Client]:
    """With the promise that afterwards the agent is as it was: no file, no connection and no process more."""
    eventually(lambda: not connections(own), "earlier connections are closed")
    before = own.open_fds()
    connected = Client(own.port)
    yield connected
    assert connected.http.get("/health").status_code == 204
    assert connected.run("echo well").stdout == b"well\n"
    assert connected.ok("process.Process/List", {}) == {"processes": []}
    assert "Traceback" not in own.log.read_text(), own.log.read_text()
    connected.http.close()
    eventually(lambda: own.open_fds() <= before, "what was opened is closed")


def connections(own: Running) -> int:
    """How many the agent holds, as the kernel knows them: those that are established, or closed by the client only."""
    port = f":{own.port:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(line[1].endswith(port) and line[3] in ("01", "08") for line in lines)


@pytest.mark.parametrize(("method", "message"), PATHS)
def test_bad_paths_are_invalid(client: Client, method: str, message: dict[str, Any]) -> None:
    headers = {"Content-Type": "application/json"}  # with ASCII only: httpx itself cannot write half of a pair
    response = client.http.post(f"/{method}", content=json.dumps(message).encode(), headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "invalid_argument"), response.text


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[]", b'"x"', b"null", DEEP, b"[" * 100_000])
def test_what_is_no_message_is_invalid(client: Client, body: bytes) -> None:
    response = client.http.post(f"/{FILES}/Stat", content=body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_argument")
    assert len(response.content) < 300


@pytest.mark.parametrize("nesting", range(940, 1000, 4))
def test_a_value_of_any_depth_can_be_told(client: Client, nesting: int) -> None:
    body = b'{"path":' + b"[" * nesting + b"]" * nesting + b"}"
    response = client.http.post(f"/{FILES}/Stat", content=body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_argument")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_argument"),
        (b"\0\0", "invalid_argument"),
        (b"\1\0\0\0\2{}", "unimplemented"),
        (b"\0\xff\xff\xff\xff", "resource_exhausted"),
        (envelope({}) + envelope({}), "invalid_argument"),
        (b"\0\0\0\0\1{", "invalid_argument"),
        (envelope({"process": 5}), "invalid_argument"),
        (envelope({"process": {"cmd": "", "args": []}}), "invalid_argument"),
        (envelope(bash("true", args=["-c", HALF])), "invalid_argument"),
        (envelope(bash("true", args=["-c", "a\0b"])), "invalid_argument"),
        (envelope(bash("true", envs={"A=B": "c"})), "invalid_argument"),
        (envelope(bash("true", envs={"A": HALF})), "invalid_argument"),
        (envelope(bash("true", cwd=HALF)), "invalid_argument"),
        (envelope({**bash("true"), "pty": {"size": {"cols": 1e400, "rows": 1}}}), "invalid_argument"),
        (envelope({**bash("true"), "pty": {"size": {"cols": -1, "rows": 1}}}), "invalid_argument"),
        (envelope({"process": {"cmd": LONG}}), "invalid_argument"),
        (envelope({"process": {"cmd": "true", "args": ["x" * 3_000_000]}}), "invalid_argument"),
        (envelope({"process": {"cmd": "/no/such"}}), "not_found"),
    ],
)
def test_a_start_that_cannot_be_ends_with_its_error(client: Client, body: bytes, code: str) -> None:
    response = client.http.post("/process.Process/Start", content=body, headers={"Content-Type": STREAM})
    flags, length = struct.unpack(">BI", response.content[:5])
    assert (response.status_code, flags, 5 + length) == (200, 2, len(response.content))
    assert json.loads(response.content[5:])["error"]["code"] == code


@pytest.mark.parametrize("number", [[], {}, True, None, 9.5, "SIGNAL_NONE", "x" * 100_000, 10**400])
def test_a_signal_that_is_none(client: Client, number: object) -> None:
    with client.stream("process.Process/Start", bash("sleep 100")) as messages:
        pid = next(messages)["event"]["start"]["pid"]
        response = client.rpc("process.Process/SendSignal", {"process": {"pid": pid}, "signal": number})
        assert (response.status_code, response.json()["code"]) == (501, "unimplemented")
        assert len(response.content) < 300
        client.ok("process.Process/SendSignal", {"process": {"pid": pid}, "signal": "SIGNAL_SIGKILL"})
        assert "end" in [*messages][-2]["event"]


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"params": {"path": "a\0b"}}, 400),
        ({"params": {"path": LONG}}, 400),
        ({"params": {"path": "x", "username": "a\0b"}}, 401),
        ({"params": {"path": "x", "username": LONG}}, 401),
        ({"params": {"path": "../" * 20 + "etc"}}, 400),
        ({"params": {"path": "x"}}, 404),
        ({"params": {"path": b"\xff\xfe".decode("latin-1")}}, 404),
        ({"params": {"path": "/etc/passwd"}, "headers": {"Range": f"bytes={DIGITS}-"}}, 416),
        ({"params": {"path": "/etc/passwd"}, "headers": {"Range": f"bytes=0-{DIGITS}"}}, 206),
        ({"params": {"path": "/etc/passwd"}, "headers": {"Accept-Encoding": "identity;q=0"}}, 406),
        ({"params": {"path": "/etc/passwd", "signature": "v1_é"}, "headers": {"X-Access-Token": "wrong"}}, 401),
        ({"params": {"path": "/etc/passwd"}, "headers": {"X-Access-Token": "wrong"}}, 401),
    ],
)
def test_downloads(client: Client, options: dict[str, Any], status: int) -> None:
    response = client.http.get("/files", **options)
    assert response.status_code == status, response.text
    assert status < 400 or response.json()["code"] == status


@pytest.mark.parametrize("expires", ["1", "-1", "soon", "", DIGITS, "٣", "1e9"])
def test_signatures_that_have_ended_or_have_no_end(client: Client, own: Running, expires: str) -> None:
    query = {"path": "/etc/passwd", "signature_expiration": expires}
    query["signature"] = sign("/etc/passwd", "read", "", TOKEN, expires)
    response = httpx.get(f"http://127.0.0.1:{own.port}/files", params=query, timeout=DEADLINE_S)
    assert response.status_code == 401 and "signature" in response.json()["message"]


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"x", {"Content-Type": "text/plain"}, 400),
        (b"x", {"Content-Type": "multipart/form-data"}, 400),
        (b"x", {"Content-Type": "multipart/form-data; boundary=B"}, 400),
        (b'--B\r\nContent-Disposition: form-data; name="file"; filename="a\0b"\r\n\r\n--B--', None, 400),
        (b'--B\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n' % LONG.encode(), None, 400),
        (b'--B\r\nContent-Disposition: form-data; name="file"; filename=""\r\n\r\n\r\n--B--', None, 400),
        (b"--B\r\n" + b"x" * 100_000, None, 400),
        (b"no gzip", {"Content-Type": "application/octet-stream", "Content-Encoding": "gzip"}, 400),
        (b"x", {"Content-Type": "application/octet-stream", "Content-Encoding": "br"}, 415),
        (b"no tar" * 1000, {"Content-Type": "application/x-tar"}, 400),
    ],
)
def test_uploads(client: Client, content: bytes, headers: dict[str, str] | None, status: int) -> None:
    headers = headers or {"Content-Type": "multipart/form-data; boundary=B"}
    form = "multipart" in headers["Content-Type"]
    response = client.http.post("/files", params={} if form else {"path": "up"}, content=content, headers=headers)
    assert (response.status_code, response.json()["code"]) == (status, status)


@pytest.mark.parametrize("chunked", [True, False])
def test_a_message_without_end_is_refused_at_its_limit(client: Client, own: Running, chunked: bool) -> None:
    framing = "Transfer-Encoding: chunked" if chunked else "Content-Length: 999999999999"
    piece = b"100000\r\n" + bytes(0x100000) + b"\r\n" if chunked else bytes(0x100000)
    with connection(own) as raw:
        raw.sendall(post(f"{FILES}/Stat", "application/json", framing))
        for _ in range(17):
            raw.sendall(piece)
        assert read_until(raw, b"}").startswith(b"HTTP/1.1 413 ")


def test_a_message_beyond_its_limit_is_read_to_its_end(own: Running) -> None:
    """A proxy that is still sending it would lose the answer."""
    size = 18 * 1024 * 1024
    with connection(own) as raw:
        raw.sendall(post(f"{FILES}/Stat", "application/json", f"Content-Length: {size}"))
        raw.sendall(bytes(size - 1))
        raw.settimeout(0.3)
        with pytest.raises(TimeoutError):
            raw.recv(1)
        raw.sendall(b"x")
        raw.settimeout(DEADLINE_S)
        assert read_until(raw, b"}").startswith(b"HTTP/1.1 413 ")


def test_a_body_shorter_than_it_says_is_no_upload(client: Client, own: Running) -> None:
    with connection(own) as raw:
        raw.sendall(post("files?path=short", BYTES, "Content-Length: 100") + b"x")
        raw.shutdown(socket.SHUT_WR)
        assert until_closed(raw) == b""


def test_garbage_behind_a_request_ends_the_connection_and_not_the_answer(client: Client, own: Running) -> None:
    with connection(own) as raw:
        raw.sendall(HEALTH)
        answer = read_until(raw, b"\r\n\r\n")
        raw.sendall(b"\x16\x03\x01 no HTTP at all \r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 204 ") and until_closed(raw).startswith(b"HTTP/1.1 400 ")


HALVES = [
    b"",
    b"GET /hea",
    post("files?path=half", BYTES, NINE)[:-2],
    post("files?path=half", BYTES, NINE) + b"x",
    post("files?path=half", "application/x-tar", NINE) + b"x",
    post("files", "multipart/form-data; boundary=B", CHUNKED) + b"%x\r\n%b\r\n" % (len(FORM), FORM),
    post(f"{FILES}/Stat", "application/json", NINE) + b"{",
    post("process.Process/Start", STREAM, CHUNKED) + b"3\r\n\0\0\0\r\n",
    post("process.Process/StreamInput", STREAM, CHUNKED) + b"3\r\n\0\0\0\r\n",
]


def test_a_crowd_that_stops_in_the_middle_holds_nobody_up(client: Client, own: Running) -> None:
    """Half of them leave with a reset, as crashed clients do."""
    before_kb = own.memory_kb()
    with ExitStack() as crowd:
        sockets = [crowd.enter_context(connection(own)) for _ in range(CROWD)]
        for number, raw in enumerate(sockets):
            raw.sendall(HALVES[number % len(HALVES)])
            if number % 2:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert client.run("echo meanwhile").stdout == b"meanwhile\n"
        assert client.upload("meanwhile", b"x").status_code == 200
    eventually(lambda: own.open_fds() < 50, "the crowd has left")
    assert own.memory_kb() - before_kb < 16_000


@pytest.mark.parametrize("message", [bash("yes"), {**bash("yes"), "pty": {}}])
def test_who_does_not_read_a_stream_without_end_fills_no_memory(
    client: Client, own: Running, message: dict[str, Any]
) -> None:
    """The command waits for its reader; others do not."""
    body = envelope({**message, "tag": "endless"})
    start = post("process.Process/Start", STREAM, f"Content-Length: {len(body)}")
    before_kb = own.memory_kb()
    with ExitStack() as readers:
        for _ in range(5):
            raw = readers.enter_context(connection(own))
            raw.sendall(start + body)
            read_until(raw, b'{"event":{"data"')
        stalled(own)
        assert client.run("echo meanwhile").stdout == b"meanwhile\n"
        assert own.memory_kb() - before_kb < 16_000
    for process in client.ok("process.Process/List", {})["processes"]:
        client.ok("process.Process/SendSignal", {"process": {"pid": process["pid"]}, "signal": "SIGNAL_SIGKILL"})
    eventually(lambda: client.ok("process.Process/List", {}) == {"processes": []}, "all of them end")


def stalled(own: Running) -> None:
    """Wait until the agent has filled all buffers to its readers: it then uses no more processor time."""

    def used() -> int:
        return sum(map(int, Path(f"/proc/{own.pid}/stat").read_text().rpartition(")")[2].split()[11:13]))

    def quiet() -> bool:
        before = used()
        select.select([], [], [], 0.1)
        return used() == before

    eventually(quiet, "the agent waits for its readers")


PIECES = st.sampled_from(
    [
        *(b"GET ", b"POST ", b"/health", b"/files?path=%ff", b" HTTP/1.1", b" HTTP/1.0", b"\r\n", b"\r\n\r\n", b"\n"),
        *(
            b"Host: x\r\n",
            b"Content-Length: 5\r\n",
            b"Content-Length: -1\r\n",
            b"Content-Length: 9999999999999999999\r\n",
        ),
        *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: x\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"-1\r\n"),
        *(
            b"fffffffffffffffff\r\n",
            b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
            b"Expect: 100-continue\r\n",
            b": x\r\n",
        ),
        *(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", f"X-Access-Token: {TOKEN}\r\n".encode(), b"\0", b"\xff\xfe"),
    ]
)


@settings(always_the_same, max_examples=100)
@given(st.lists(PIECES | st.binary(max_size=10), max_size=12).map(b"".join))
def test_any_bytes_on_a_connection_leave_the_agent_well(own: Running, garbage: bytes) -> None:
    with connection(own) as raw:
        raw.sendall(garbage)
        raw.shutdown(socket.SHUT_WR)
        received = until_closed(raw)
    for answer in received.split(b"HTTP/1.1 ")[1:]:
        assert answer[:1] in (b"1", b"2", b"4"), (garbage, received)
