"""The end of the console, as its visitors see it: whoever has connected is answered, by this one or by the next."""

import asyncio
import socket

import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from console.__main__ import Server

REQUEST = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("well")(scope, receive, send)


async def started(listener: socket.socket) -> Server:
    options = uvicorn.Config(app, lifespan="off", log_config=None, timeout_graceful_shutdown=20)
    options.load()
    made = Server(options)
    made.lifespan = options.lifespan_class(options)
    await made.startup([listener])
    return made


async def answer(client: socket.socket) -> bytes:
    client.setblocking(False)
    said = b""
    while text := await asyncio.get_running_loop().sock_recv(client, 65536):
        said += text
    return said


def test_whoever_has_just_connected_may_ask() -> None:
    async def run() -> bytes:
        listener = socket.create_server(("127.0.0.1", 0))
        made = await started(listener)
        client = socket.create_connection(listener.getsockname())
        while not made.server_state.connections:
            await asyncio.sleep(0)
        ending = asyncio.create_task(made.shutdown([listener]))
        await asyncio.sleep(0)  # and no longer: the grace runs
        client.sendall(REQUEST)
        said = await answer(client)
        await ending
        return said

    assert asyncio.run(asyncio.wait_for(run(), 30)).endswith(b"well")


def test_whoever_comes_when_it_ends_is_answered_by_the_next_one() -> None:
    """The socket is systemd's, which has it, too."""

    async def run() -> bytes:
        listener = socket.create_server(("127.0.0.1", 0))
        kept = listener.dup()
        first = await started(listener)
        client = socket.create_connection(listener.getsockname())  # which nobody has accepted yet
        client.sendall(REQUEST)
        await first.shutdown([listener])
        second = await started(kept)
        said = await answer(client)
        await second.shutdown([kept])
        return said

    assert asyncio.run(asyncio.wait_for(run(), 30)).endswith(b"well")
