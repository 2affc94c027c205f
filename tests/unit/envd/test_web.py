import asyncio
import json
import logging

import pytest

from envd.errors import ClientDisconnected, EnvdError
from envd.web import MAX_MESSAGE_BYTES, Message, Request, Response, answer


def request(*messages: Message, query: bytes = b"", headers: list[tuple[bytes, bytes]] | None = None) -> Request:
    left = list(messages)

    async def receive() -> Message:
        if not left:
            await asyncio.get_running_loop().create_future()  # a client that stays and says nothing
        return left.pop(0)

    scope = {"method": "GET", "path": "/x", "query_string": query, "headers": headers or []}
    return Request(scope, receive)


def body(content: bytes, more: bool = False) -> Message:
    return {"type": "http.request", "body": content, "more_body": more}


def test_query_and_headers() -> None:
    tested = request(
        query=b"path=%2Fa+b%FF&path=second&empty=", headers=[(b"content-type", b"Text/Plain; x"), (b"a", b"1")]
    )
    assert tested.query == {"path": "/a b\udcff", "empty": ""}
    assert tested.content_type == "text/plain"
    assert (tested.header("a"), tested.header("b")) == ("1", None)


def test_the_body() -> None:
    assert asyncio.run(request(body(b"a", True), body(b"", True), body(b"b")).body()) == b"ab"
    with pytest.raises(ClientDisconnected):
        asyncio.run(request(body(b"a", True), {"type": "http.disconnect"}).body())
    with pytest.raises(EnvdError, match="larger than"):
        asyncio.run(request(body(bytes(MAX_MESSAGE_BYTES), True), body(b"x")).body())


def test_work_goes_on_while_the_client_is_there_and_no_longer() -> None:
    ended: list[str] = []

    async def quick() -> int:
        return 7

    async def endless() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("cancelled")

    assert asyncio.run(request().while_connected(quick())) == 7
    with pytest.raises(ClientDisconnected):
        asyncio.run(request({"type": "http.disconnect"}).while_connected(endless()))
    assert ended == ["cancelled"]


def test_a_whole_answer() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    response = Response(send)
    asyncio.run(response.json(404, {"code": 404}, {"allow": "GET"}))
    assert response.started and sent[0]["status"] == 404
    headers = dict(sent[0]["headers"])
    assert headers[b"content-length"] == b"13" and headers[b"allow"] == b"GET"
    assert sent[1] == {"type": "http.response.body", "body": b'{"code": 404}', "more_body": False}


def answered(error: Exception, started: bool = False) -> list[Message]:
    """What is sent when the application fails like that, maybe after the head of its answer is out."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def respond(_: Request, response: Response) -> None:
        if started:
            await response.start(200, {})
        raise error

    asyncio.run(answer(respond, request(), Response(send), "agent", logging.getLogger("test")))
    return sent


def test_an_error_is_told(caplog: pytest.LogCaptureFixture) -> None:
    head, told = answered(EnvdError("not_found", "nothing there", headers={"x-kind": "test"}))
    assert head["status"] == 404 and (b"x-kind", b"test") in head["headers"]
    assert json.loads(told["body"]) == {"code": 404, "message": "nothing there"}
    assert caplog.text == ""
    head, told = answered(KeyError("secret"))
    assert head["status"] == 500
    assert json.loads(told["body"]) == {"code": 500, "message": "internal error of the agent; its log has the details"}
    assert "error while answering GET /x" in caplog.text and "KeyError: 'secret'" in caplog.text


@pytest.mark.parametrize(
    ("error", "started"),
    [(EnvdError("not_found", "late"), True), (KeyError("late"), True), (ClientDisconnected(), False)],
)
def test_what_cannot_be_told_any_more_goes_on_to_the_server(error: Exception, started: bool) -> None:
    with pytest.raises(type(error)):
        answered(error, started)


def test_a_method_that_is_not_allowed() -> None:
    request().allow("GET", "POST")
    with pytest.raises(EnvdError, match="GET not allowed") as refused:
        request().allow("POST", "PUT")
    assert (refused.value.status, refused.value.headers) == (405, {"allow": "POST, PUT"})
