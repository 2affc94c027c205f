"""How much of a request is read."""

import asyncio
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from sandboxd.bodies import DRAIN_BYTES, MAX_BODY_BYTES, BodyLimit, DrainedBody, Text


def read_through(chunks: list[bytes], path: str = "/") -> list[bytes]:
    """What an app behind the limit gets to see of a body that comes in these chunks."""
    seen: list[bytes] = []
    messages: list[Message] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.disconnect"})

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        raise NotImplementedError

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] == "http.request":
            seen.append(message["body"])

    scope: dict[str, Any] = {"type": "http", "path": path}
    asyncio.run(BodyLimit(app)(scope, receive, send))
    return seen


def test_a_body_up_to_the_limit_passes_unchanged() -> None:
    chunks = [b"a" * (MAX_BODY_BYTES - 3), b"bcd"]
    assert read_through(chunks) == chunks


@pytest.mark.parametrize("chunks", [[b"a" * MAX_BODY_BYTES, b"b"], [b"a" * (MAX_BODY_BYTES + 1)]])
def test_one_byte_more_is_refused_whatever_its_length_header_says(chunks: list[bytes]) -> None:
    with pytest.raises(HTTPException) as error:
        read_through(chunks)
    assert error.value.status_code == 413 and str(MAX_BODY_BYTES) in error.value.detail


@pytest.mark.parametrize("path", [f"/build-files/{'a' * 64}", "/volumecontent/vol-1/file"])
def test_files_have_no_limit(path: str) -> None:
    chunks = [b"a" * MAX_BODY_BYTES, b"b"]
    assert read_through(chunks, path) == chunks
    for other in (f"{path}/x", f"/x{path}", "/volumecontent/vol-1/path", "/volumecontent/a/b/file"):
        with pytest.raises(HTTPException):
            read_through(chunks, other)


def test_a_body_that_stops_in_the_middle_is_not_waited_for() -> None:
    """Nor is the end of the connection mistaken for a body: streams listen for that as long as they run."""
    first: list[Message] = [{"type": "http.request", "body": b"{", "more_body": True}]
    whole: list[Message] = [{"type": "http.request", "body": b"{}", "more_body": False}]

    async def read(messages: list[Message]) -> None:
        ended = asyncio.Event()

        async def receive() -> Message:
            if messages:
                return messages.pop(0)
            await ended.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            raise NotImplementedError

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            while (message := await receive())["type"] == "http.request":
                if not message["more_body"]:
                    asyncio.get_running_loop().call_later(0.1, ended.set)

        await BodyLimit(app, body_s=0.05)({"type": "http"}, receive, send)

    asyncio.run(read(whole))
    with pytest.raises(HTTPException, match=r"not complete within 0.05 s") as error:
        asyncio.run(read(first))
    assert error.value.status_code == 408


def test_text_is_what_utf8_can_hold() -> None:
    adapter: TypeAdapter[str] = TypeAdapter(Text)
    assert adapter.validate_python("ä 😀 \0") == "ä 😀 \0"
    with pytest.raises(ValidationError, match="half of a surrogate pair"):
        adapter.validate_python("\ud83d")


def refused(body: list[Message], headers: dict[str, str], status: int = 413) -> tuple[int, bool]:
    """How many messages of the body were read when an app refuses at once, and whether that came before the answer."""
    read: list[int] = []
    seen: list[int] = []

    async def receive() -> Message:
        if len(read) == len(body):
            await asyncio.Event().wait()
        read.append(1)
        return body[len(read) - 1]

    async def send(message: Message) -> None:
        seen.append(len(read))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {"type": "http", "path": "/", "headers": encoded}
    asyncio.run(DrainedBody(app)(scope, receive, send))
    return len(read), seen[0] == len(read)


PIECES: list[Message] = [{"type": "http.request", "body": b"abc", "more_body": more} for more in (True, True, False)]
GONE: Message = {"type": "http.disconnect"}


@pytest.mark.parametrize(
    ("body", "headers", "status", "read"),
    [
        (PIECES, {"content-length": "9"}, 413, 3),
        (PIECES, {"transfer-encoding": "chunked"}, 401, 3),
        ([*PIECES[:1], GONE], {"content-length": "9"}, 413, 2),
        (PIECES, {}, 404, 0),
        (PIECES, {"content-length": "0"}, 404, 0),
        (PIECES, {"content-length": "9", "expect": "100-continue"}, 401, 0),
        (PIECES, {"content-length": "9"}, 408, 0),
    ],
)
def test_the_rest_of_a_body_is_read_before_the_answer(
    body: list[Message], headers: dict[str, str], status: int, read: int
) -> None:
    assert refused(body, headers, status) == (read, True)


def test_the_rest_of_a_body_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandboxd.bodies.DRAIN_S", 0.05)
    assert refused(PIECES[:2], {"content-length": "9"}) == (2, True)
    monkeypatch.setattr("sandboxd.bodies.DRAIN_S", 60.0)
    large: Message = {"type": "http.request", "body": bytes(DRAIN_BYTES), "more_body": True}
    assert refused([large, large], {"content-length": "9"}) == (1, True)
