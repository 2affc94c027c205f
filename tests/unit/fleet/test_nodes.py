"""One host: how it is asked, what counts as no answer, and when it is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fleet.config import Host
from fleet.nodes import Answer, Node, Nodes, Unreachable
from tests.unit.sandboxd.conftest import short_directory


@asynccontextmanager
async def answering(path: Path, *answers: bytes) -> AsyncIterator[list[bytes]]:
    """A socket on which each connection gets the answers one after the other, and then hangs up."""
    heads: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            await writer.drain()
        writer.close()

    path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(talk, path)
    async with server:
        yield heads


def answer(status: int, body: bytes, kind: str = "application/json") -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s" % (
        status,
        kind.encode(),
        len(body),
        body,
    )


def host(path: Path, name: str = "b") -> Host:
    return Host(name, "worker", "10.0.0.2", path)


OK = answer(200, b'{"x": 1}')


def test_one_connection_serves_many_requests() -> None:
    async def ask(path: Path) -> list[bytes]:
        node = Node(host(path), "example.com")
        async with answering(path, OK, OK, OK) as heads:
            for _ in range(3):
                assert (await node.ask("GET", "/a?b=c")).json() == {"x": 1}
            await node.close()
            return heads

    with short_directory() as directory:
        heads = asyncio.run(ask(directory / "b.sock"))
    assert heads == [b"GET /a?b=c HTTP/1.1\r\nhost: node.example.com\r\n\r\n"] * 3


def test_a_connection_that_was_closed_meanwhile_is_made_anew() -> None:
    async def ask(path: Path) -> int:
        node = Node(host(path), "example.com")
        async with answering(path, OK) as heads:
            for _ in range(3):
                assert (await node.ask("GET", "/")).status == 200
            await node.close()
            return len(heads)

    with short_directory() as directory:
        assert asyncio.run(ask(directory / "b.sock")) == 3


@pytest.mark.parametrize(("status", "reached"), [(403, False), (502, True), (503, False), (504, True)])
def test_what_its_gateway_says_of_a_host_that_is_gone_is_no_answer(status: int, reached: bool) -> None:
    async def ask(path: Path) -> None:
        node = Node(host(path), "example.com")
        async with answering(path, answer(status, b"<html>", "text/html")):
            with pytest.raises(Unreachable, match=f"node b does not answer: its gateway answers {status}") as error:
                await node.ask("GET", "/")
            assert error.value.reached is reached and node.lost_since is None
        async with answering(path, answer(status, b'{"code": 503, "message": "full"}')):
            assert (await node.ask("GET", "/")).status == status  # its own word
        await node.close()

    with short_directory() as directory:
        asyncio.run(ask(directory / "b.sock"))


def test_it_is_lost_after_a_while_and_back_with_its_first_answer() -> None:
    async def live(path: Path) -> None:
        node = Node(host(path), "example.com", lost_s=60)
        with pytest.raises(Unreachable, match=r"node b does not answer: .*Try again") as error:
            await node.ask("GET", "/")
        assert not error.value.reached and node.lost_since is None
        node.check()
        node.lost_s = 0.2
        while node.lost_since is None:
            with pytest.raises(Unreachable):
                await node.ask("GET", "/")
            await asyncio.sleep(0.01)
        with pytest.raises(Unreachable, match=r"^lost: node b unreachable since \d{4}-.*Z$"):
            node.check()
        async with answering(path, OK):
            await node.ask("GET", "/")
        assert node.lost_since is None
        node.check()
        await node.close()

    with short_directory() as directory:
        asyncio.run(live(directory / "b.sock"))


def test_what_breaks_off_may_have_been_done() -> None:
    async def ask(path: Path) -> None:
        node = Node(host(path), "example.com")
        async with answering(path, b""):
            with pytest.raises(Unreachable) as error:
                await node.ask("POST", "/", {"a": 1})
            assert error.value.reached
        async with answering(path, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"):
            with pytest.raises(Unreachable):
                await node.ask("GET", "/")
        await node.close()

    with short_directory() as directory:
        asyncio.run(ask(directory / "b.sock"))


def test_any_is_this_host_unless_it_is_lost() -> None:
    nodes = Nodes({name: Node(host(Path("/none"), name), "example.com") for name in "ab"}, "a")
    assert nodes.any.name == "a" and len(nodes) == 2
    nodes["a"].lost_since = 1.0
    assert nodes.any.name == "b" and [node.name for node in nodes.living] == ["b"]
    nodes["b"].lost_since = 1.0
    with pytest.raises(Unreachable, match="node a unreachable since 1970-01-01T00:00:01"):
        _ = nodes.any


def test_a_header_by_its_name() -> None:
    assert Answer(200, [(b"X-One", b"1")], b"").header(b"x-one") == "1" and Answer(200, [], b"").header(b"x") == ""
