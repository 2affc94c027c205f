"""The end of the daemon, as its clients see it: whoever has connected is answered."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from sandboxd.__main__ import Server
from sandboxd.peers import PeerProtocol

REQUEST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("well")(scope, receive, send)


def server(finish: Callable[[], object] = lambda: None) -> Server:
    options = uvicorn.Config(app, http=PeerProtocol, lifespan="off", log_config=None, timeout_graceful_shutdown=20)
    options.load()
    made = Server(options, lambda: None, lambda: None, finish)
    made.lifespan = options.lifespan_class(options)
    return made


async def ended(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    loop, said = asyncio.get_running_loop(), b""
    connection.setblocking(False)
    with contextlib.suppress(ConnectionResetError):
        while text := await loop.sock_recv(connection, 65536):
            said += text
    return said


def test_whom_only_the_kernel_has_let_in_is_answered() -> None:
    async def run() -> list[bytes]:
        listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        made = server()
        await made.startup(listeners)
        clients = [socket.create_connection(one.getsockname()) for one in listeners for _ in range(3)]
        for client in clients:
            client.sendall(REQUEST)
        ending = asyncio.create_task(made.shutdown(listeners))
        said = [await ended(client) for client in clients]
        await ending
        return said

    said = asyncio.run(run())
    assert [text.splitlines()[0] for text in said] == [b"HTTP/1.1 200 OK"] * 6


def test_whoever_has_just_connected_may_ask_and_whoever_says_nothing_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told, shutdown = list[PeerProtocol](), PeerProtocol.shutdown

    def telling(connection: PeerProtocol) -> None:
        shutdown(connection)
        told.append(connection)

    monkeypatch.setattr(PeerProtocol, "shutdown", telling)

    async def run() -> list[bytes]:
        listener = socket.create_server(("127.0.0.1", 0))
        made = server()
        await made.startup([listener])
        asker, silent, kept = (socket.create_connection(listener.getsockname()) for _ in range(3))
        kept.sendall(REQUEST)
        while len(made.server_state.connections) < 3 or made.server_state.total_requests < 1:
            await asyncio.sleep(0.01)
        ending = asyncio.create_task(made.shutdown([listener]))
        while len(told) < 3:
            await asyncio.sleep(0)  # and no longer: their grace runs
        asker.sendall(REQUEST)
        said = [await ended(one) for one in (asker, silent, kept)]
        await ending
        return said

    asked, silent, kept = asyncio.run(asyncio.wait_for(run(), 30))
    assert asked.endswith(b"well") and silent == b"" and kept.endswith(b"well")


def test_whoever_comes_while_it_finishes_is_served() -> None:
    served = threading.Event()

    async def run() -> bytes:
        listener = socket.create_server(("127.0.0.1", 0))
        made = server(lambda: served.wait(20))
        await made.startup([listener])
        ending = asyncio.create_task(made.shutdown([listener]))
        await asyncio.sleep(0.05)
        with socket.create_connection(listener.getsockname()) as client:
            client.setblocking(False)
            client.sendall(REQUEST)
            said = await asyncio.get_running_loop().sock_recv(client, 65536)
            assert not ending.done()
            served.set()
            await ending
        return said

    assert asyncio.run(asyncio.wait_for(run(), 15)).startswith(b"HTTP/1.1 200 OK")
