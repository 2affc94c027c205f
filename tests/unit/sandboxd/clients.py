"""Clients of the API in tests: over its real sockets, and straight into its application."""

import asyncio
import socket
import threading
from dataclasses import replace
from typing import Any

import httpx
import uvicorn
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from sandboxd import api
from sandboxd.doctor.effects import Effects, Output
from sandboxd.front import Front
from sandboxd.listeners import open_tcp, open_unix
from sandboxd.peers import PeerProtocol
from tests.unit.sandboxd.conftest import World, services_of, until

REAL = Effects()
KEPT_S = 600  # a connection without requests: with uvicorn's 5 s it would be closed under whoever goes on after a stall


def nobody_there(*_: object) -> Any:
    raise ConnectionRefusedError("nobody there")


# For those who only want an answer: nothing is asked of this machine, nor of name servers, which may be long about it.
NOBODY = Effects(
    run=lambda command, *_: Output(127, f"{command[0]} is not installed"), certificate=nobody_there, fetch=nobody_there
)


def services(world: World, effects: Effects) -> api.Services:
    return replace(services_of(world), effects=effects)


class Server(uvicorn.Server):
    """Ends when it is told to: uvicorn looks every 0.1 s for that, and then gives its connections as long again."""

    def __init__(self, options: uvicorn.Config) -> None:
        super().__init__(options)
        self._end = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self._end.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if not self.force_exit:
            await super().shutdown(sockets)
            return
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self.lifespan.shutdown()

    def end(self) -> None:
        """From another thread."""
        self._loop.call_soon_threadsafe(self._end.set)


class Client:
    """Requests over the daemon's real Unix socket, served by uvicorn as in the daemon."""

    def __init__(self, world: World, effects: Effects = REAL) -> None:
        self.world = world
        self.app = Front(services(world, effects))
        self.sockets = [open_unix(world.config.socket, world.config.socket_group), open_tcp(world.config.listen)]
        options = uvicorn.Config(
            self.app,
            http=PeerProtocol,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEPT_S,
        )
        self.server = Server(options)
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve(self.sockets)))
        self.thread.start()
        until(lambda: self.server.started, "the server")
        self.unix = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(world.config.socket)),
            base_url="http://sandboxd",
            trust_env=False,
            timeout=30,
        )
        port = self.sockets[1].getsockname()[1]
        self.tcp = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30)

    def close(self) -> None:
        self.unix.close()
        self.tcp.close()
        self.server.end()
        self.thread.join(30)

    def create(self, **body: Any) -> dict[str, Any]:
        answer = self.unix.post("/v2/sandboxes", json=body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())


class Direct:
    """Requests straight into the app, as if they had come by the Unix socket, or by TCP."""

    def __init__(self, world: World, effects: Effects = REAL) -> None:
        self.world = world
        app = Front(services(world, effects))

        def by_unix(path: str) -> TestClient:
            async def front(scope: Scope, receive: Receive, send: Send) -> None:
                await app({**scope, "server": (path, None)}, receive, send)

            return TestClient(front, raise_server_exceptions=False)

        self.unix, self.elsewhere = by_unix(str(world.config.socket)), by_unix("/run/elsewhere.sock")
        self.tcp = TestClient(app, raise_server_exceptions=False)

    def create(self, **body: Any) -> dict[str, Any]:
        answer = self.unix.post("/v2/sandboxes", json=body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())
