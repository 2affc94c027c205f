"""One exchange on a pretended connection."""

import asyncio

import pytest

from envd.errors import ClientDisconnected
from envd.exchange import Exchange


class Carrier:
    def __init__(self) -> None:
        self.written = b""
        self.advanced = 0

    def write(self, data: bytes) -> None:
        self.written += data

    async def drain(self) -> None: ...

    def regulate_reading(self) -> None: ...

    def exchange_advanced(self) -> None:
        self.advanced += 1


def exchange(carrier: Carrier, method: str = "GET", version: str = "1.1", expects: bool = False) -> Exchange:
    return Exchange(carrier, {"method": method, "http_version": version}, keep_alive=True, expects_continue=expects)


async def answer(tested: Exchange, *pieces: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    await tested.send({"type": "http.response.start", "status": 200, "headers": headers or []})
    for index, piece in enumerate(pieces):
        more = index < len(pieces) - 1
        await tested.send({"type": "http.response.body", "body": piece, "more_body": more})


def test_without_a_length_the_body_is_chunked() -> None:
    carrier = Carrier()
    asyncio.run(answer(exchange(carrier), b"one", b"", b"two"))
    chunks = b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    assert carrier.written == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunks
    assert carrier.advanced == 1


def test_with_a_length_it_is_not() -> None:
    carrier = Carrier()
    asyncio.run(answer(exchange(carrier), b"one", headers=[(b"content-length", b"3")]))
    assert carrier.written.endswith(b"content-length: 3\r\n\r\none")


def test_head_has_no_body_and_1_0_ends_by_closing() -> None:
    carrier = Carrier()
    asyncio.run(answer(exchange(carrier, "HEAD"), b"one"))
    assert carrier.written.endswith(b"\r\n\r\n")
    carrier = Carrier()
    asyncio.run(answer(exchange(carrier, version="1.0"), b"one"))
    assert carrier.written == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\none"


def test_the_body_comes_in_and_then_the_disconnection() -> None:
    async def scenario() -> None:
        carrier = Carrier()
        tested = exchange(carrier, expects=True)
        first = asyncio.ensure_future(tested.receive())
        await asyncio.sleep(0)
        assert carrier.written == b"HTTP/1.1 100 Continue\r\n\r\n"
        tested.feed(b"one")
        assert await first == {"type": "http.request", "body": b"one", "more_body": True}
        tested.feed(b"two")
        tested.feed_end()
        assert await tested.receive() == {"type": "http.request", "body": b"two", "more_body": False}
        last = asyncio.ensure_future(tested.receive())
        await asyncio.sleep(0)
        assert not last.done()
        tested.disconnect()
        assert await last == {"type": "http.disconnect"}
        with pytest.raises(ClientDisconnected):
            await answer(tested, b"")

    asyncio.run(scenario())


def test_a_body_that_breaks_off_is_a_disconnection() -> None:
    async def scenario() -> None:
        tested = exchange(Carrier())
        tested.feed(b"one")
        tested.disconnect()
        assert (await tested.receive())["type"] == "http.disconnect"

    asyncio.run(scenario())
