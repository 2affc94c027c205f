"""The HTTP client, against a peer that says anything."""

import socket
from collections.abc import Callable

import pytest

from sandboxd.cli import http1
from sandboxd.cli.http1 import MAX_HEAD_LINE_BYTES, Connection, ConnectionBroken, Response, quote
from tests.unit.sandboxd.cli.doubles import connection_of

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def response(script: bytes) -> Response:
    return connection_of(script).response()


@pytest.mark.parametrize(
    ("text", "quoted"), [("a-b._~9", "a-b._~9"), ("a b/c?d&e=%", "a%20b%2Fc%3Fd%26e%3D%25"), ("ü\udcff", "%C3%BC%FF")]
)
def test_quote(text: str, quoted: str) -> None:
    assert quote(text) == quoted


def test_a_response_with_a_length() -> None:
    found = response(b"HTTP/1.1 201 Made\r\nX-A:  b \r\nContent-Length: 5\r\n\r\nhello and more")
    assert (found.status, found.headers["x-a"]) == (201, "b")
    assert (found.read(2), found.read_exactly(2), found.read_all(), found.read(9)) == (b"he", b"ll", b"o", b"")


def test_a_chunked_response() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    found = response(head + b"3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\nTrailer: x\r\n\r\n")
    assert (found.read(2), found.read(9), found.read_exactly(3), found.read_all()) == (b"ab", b"c", b"def", b"g")


def test_a_response_that_ends_with_the_connection() -> None:
    assert response(b"HTTP/1.0 200 OK\r\n\r\nall of it").read_all() == b"all of it"


@pytest.mark.parametrize("status", [204, 304])
def test_a_response_without_a_body(status: int) -> None:
    assert response(b"HTTP/1.1 %d X\r\n\r\nnext" % status).read_all() == b""


def test_interim_responses_are_passed_over() -> None:
    assert (
        response(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n").status
        == 200
    )


def test_trailers_do_not_spill_into_the_next_response() -> None:
    connection = connection_of(CHUNKED + b"0\r\nA: b\r\nC: d\r\n\r\nHTTP/1.1 204 X\r\n\r\n")
    assert connection.response().read_all() == b""
    assert connection.response().status == 204


def test_two_responses_on_one_connection() -> None:
    connection = connection_of(2 * b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
    assert [connection.response().read_all() for _ in range(2)] == [b"x", b"x"]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (b"", "closed without an answer"),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n", "closed without an answer"),
        (b"SSH-2.0-OpenSSH\r\n", "is not HTTP: it begins with 'SSH-2.0-OpenSSH'"),
        (b"HTTP/1.1 abc\r\n\r\n", "is not HTTP"),
        (b"x" * (MAX_HEAD_LINE_BYTES + 300_000), "a line has no end"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", "broke 2 bytes before the end"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "'many' is no size"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx", "'-1' is no size"),
        (CHUNKED + b"zz\r\n", "'zz' is no size"),
        (CHUNKED + b"-5\r\nabc", "'-5' is no size"),
        (CHUNKED + b"5\r\nabc", "before the end of the answer"),
        (CHUNKED + b"3\r\nabc\r\n", "closed without an answer"),
    ],
)
def test_a_response_that_is_cut_off_or_none(script: bytes, words: str) -> None:
    with pytest.raises(ConnectionBroken, match=words):
        response(script).read_all()


def test_exactly_means_exactly() -> None:
    with pytest.raises(ConnectionBroken, match="stops in the middle"):
        response(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc").read_exactly(4)


def sent(send: Callable[[Connection], object]) -> bytes:
    """What reaches the other side."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        send(Connection(ours, "a.example"))
        ours.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: theirs.recv(65536), b""))


def test_a_request_with_a_body() -> None:
    data = sent(lambda connection: connection.request("POST", "/x", {"A": "b"}, b"body"))
    assert data == b"POST /x HTTP/1.1\r\nHost: a.example\r\nA: b\r\nContent-Length: 4\r\n\r\nbody"


def test_requests_without_a_body() -> None:
    assert sent(lambda connection: connection.request("GET", "/", {})) == b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
    assert b"Content-Length: 0\r\n" in sent(lambda connection: connection.request("DELETE", "/", {}))


def test_a_streamed_body() -> None:
    def send(connection: Connection) -> None:
        connection.begin("POST", "/", {}, None)
        connection.send_chunk(b"ab", b"c" * 20)
        connection.send_chunk(b"")  # an empty chunk would be the end
        connection.end_chunks()

    assert sent(send).partition(b"\r\n\r\n")[2] == b"16\r\nab" + b"c" * 20 + b"\r\n0\r\n\r\n"
    assert b"Content-Length: 7\r\n" in sent(lambda connection: connection.begin("POST", "/", {}, 7))


def test_an_early_answer_is_noticed() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = Connection(ours, "host")
        assert not connection.answered()
        theirs.sendall(b"HTTP/1.1 413 Large\r\n\r\n")
        assert connection.answered()
        assert connection.response().status == 413


def test_what_was_received_survives_an_interruption() -> None:
    """`wait` raises between two pieces, as a signal does; the next read goes on where the first stopped."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = Connection(ours, "host")
        theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        found = connection.response()
        assert found.read(2) == b"ab"

        def interrupt() -> None:
            raise InterruptedError

        connection.wait = interrupt
        with pytest.raises(InterruptedError):
            found.read(2)
        connection.wait = None
        theirs.sendall(b"cd")
        assert found.read_all() == b"cd"


def test_the_lines_of_a_body_as_they_come() -> None:
    whole = CHUNKED + b"3\r\na\nb\r\n4\r\nc\n\nd\r\n0\r\n\r\n"
    assert list(response(whole).lines()) == [b"a", b"bc", b"", b"d"]
    lines = response(CHUNKED + b"4\r\na\nb\n\r\n").lines()
    assert (next(lines), next(lines)) == (b"a", b"b")
    with pytest.raises(ConnectionBroken):
        next(lines)


def test_an_answer_without_an_end_is_not_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http1, "MAX_ANSWER_BYTES", 10)
    assert response(b"HTTP/1.1 200 X\r\n\r\n" + b"x" * 10).read_all() == b"x" * 10
    with pytest.raises(ConnectionBroken, match="longer than 10 bytes"):
        response(b"HTTP/1.1 200 X\r\n\r\n" + b"x" * 11).read_all()
