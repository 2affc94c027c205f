"""The end of the daemon, as its clients see it: whoever has connected is answered."""

import asyncio
import contextlib
import errno
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from sandboxd.peers import PeerProtocol
from sandboxd.server import Server, notify_ready

REQUEST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("well")(scope, receive, send)


def server(finish: Callable[[], object] = lambda: None, app: ASGIApp = app) -> Server:
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


def test_whoever_is_accepted_in_the_turn_in_which_it_ends_is_answered() -> None:
    """asyncio accepts in one turn of its loop, and gives the connection a transport in the next: not once it closed."""
    connected = threading.Event()

    async def run() -> bytes:
        listener, loop = socket.create_server(("127.0.0.1", 0)), asyncio.get_running_loop()
        clients = list[socket.socket]()

        def finish() -> None:
            loop.call_soon_threadsafe(stall)
            clients.append(socket.create_connection(listener.getsockname()))
            clients[0].sendall(REQUEST)
            connected.set()

        def stall() -> None:
            connected.wait(20)
            time.sleep(0.2)  # so that finish is over: the loop hears of its end and of the client in the same turn

        made = server(finish)
        await made.startup([listener])
        await made.shutdown([listener])
        return await ended(clients[0])

    assert asyncio.run(asyncio.wait_for(run(), 60)).startswith(b"HTTP/1.1 200 OK")


def test_who_takes_nothing_of_his_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `less` before its first page is full; who takes it, however slowly, gets the whole of it."""
    monkeypatch.setattr("sandboxd.peers.STALLED_S", 0.2)
    much = b"x" * 20_000_000

    async def long(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(much)(scope, receive, send)

    async def run() -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        made = server(app=long)
        await made.startup([listener])
        clients = [socket.create_connection(listener.getsockname()) for _ in range(2)]
        for client in clients:
            client.sendall(REQUEST)
        while len([one for one in made.server_state.connections if one.transport.get_write_buffer_size()]) < 2:
            await asyncio.sleep(0.01)
        ending = asyncio.create_task(made.shutdown([listener]))
        clients[1].setblocking(False)
        taken = 0
        while piece := await asyncio.get_running_loop().sock_recv(clients[1], 1_000_000):
            taken += len(piece)
            await asyncio.sleep(0.02)
        await ending
        assert not made.server_state.tasks
        return taken

    assert asyncio.run(asyncio.wait_for(run(), 15)) > len(much)


class Raced(socket.socket):
    """A listener that somebody comes to when it has been found that nobody waits there, and before it is closed."""

    said: str = ""

    def accept(self) -> tuple[socket.socket, object]:
        try:
            return super().accept()
        except BlockingIOError:
            with socket.socket(self.family) as late:
                late.settimeout(0.3)
                try:
                    late.connect(self.getsockname())
                    self.said = "let in, and cut off"
                except OSError as error:
                    self.said = type(error).__name__
            raise


class Exhausted(socket.socket):
    """A listener for which there are no more descriptors, once one was let in."""

    accepted = 0

    def accept(self) -> tuple[socket.socket, object]:
        if self.accepted:
            raise OSError(errno.EMFILE, "Too many open files")
        found = super().accept()
        self.accepted += 1
        return found


def test_without_descriptors_for_more_who_is_served_already_is_answered() -> None:
    asked, go = threading.Event(), threading.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        asked.set()
        await asyncio.to_thread(go.wait, 20)
        await PlainTextResponse("well")(scope, receive, send)

    async def run() -> bytes:
        listener = Exhausted(socket.AF_INET)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        made = server(app=slow)
        await made.startup([listener])
        client = socket.create_connection(listener.getsockname())
        client.sendall(REQUEST)
        while not asked.is_set():
            await asyncio.sleep(0.01)
        ending = asyncio.create_task(made.shutdown([listener]))
        await asyncio.sleep(0.2)
        go.set()
        said = await ended(client)
        await ending
        return said

    assert asyncio.run(asyncio.wait_for(run(), 60)).endswith(b"well")


@pytest.mark.parametrize(("family", "said"), [("tcp", "TimeoutError"), ("unix", "ConnectionRefusedError")])
def test_nobody_is_let_in_between_the_last_look_and_the_close(directory: Path, family: str, said: str) -> None:
    async def run() -> str:
        with Raced(socket.AF_INET if family == "tcp" else socket.AF_UNIX) as listener:
            listener.bind(("127.0.0.1", 0) if family == "tcp" else str(directory / "s.sock"))
            listener.listen()
            made = server()
            await made.startup([listener])
            await made.shutdown([listener])
            return listener.said

    assert asyncio.run(asyncio.wait_for(run(), 60)) == said


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(directory: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    """systemd gives a path, or a name in the abstract namespace, written with an @."""
    path = f"{directory}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{path}" if abstract else path)
        receiver.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{path}" if abstract else path)
        notify_ready()
        assert receiver.recv(100) == b"READY=1"


def test_without_systemd_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify_ready()
