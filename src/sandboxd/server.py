"""How a daemon serves, and ends: whoever has connected is answered."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import uvicorn

from sandboxd.listeners import let_nobody_in
from sandboxd.peers import PeerProtocol

SHUTDOWN_S = 20  # how long running requests may take to end after SIGTERM; the unit leaves 10 s more for our threads
HANDSHAKE_S = 0.05  # for those that have begun, on this host


class Server(uvicorn.Server):
    """Tells systemd once the sockets are served, ends long work first of all, and lets its caller end what else runs.

    `finish` is called, in a thread, while everybody is served still: what it waits for may take long.
    """

    def __init__(
        self,
        settings: uvicorn.Config,
        ready: Callable[[], None],
        end_long_work: Callable[[], None],
        finish: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(settings)
        self._ready, self._end_long_work, self._finish = ready, end_long_work, finish

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._end_long_work()  # a log that somebody follows would be waited for, and nobody served meanwhile
        await asyncio.to_thread(self._finish)
        await self._take_in(sockets or [])
        await super().shutdown(sockets)

    async def _take_in(self, listeners: list[socket.socket]) -> None:
        """Closes the listeners, and serves whom the kernel has let in already: it would cut them off, unheard."""
        loop, waiting = asyncio.get_running_loop(), list[socket.socket]()
        for listener in listeners:
            loop.remove_reader(listener)
            with suppress(OSError):  # whatever goes wrong here, who is served already goes on
                let_nobody_in(listener)
        await asyncio.sleep(HANDSHAKE_S)  # also: whom asyncio has just accepted it would drop at the close
        for listener, server in zip(listeners, self.servers, strict=True):
            with suppress(OSError):  # there are no more; or no descriptors for them
                while True:
                    waiting.append(listener.accept()[0])
            server.close()
        protocol = partial(PeerProtocol, self.config, self.server_state, self.lifespan.state)
        for connection in waiting:
            connection.setblocking(False)
            await loop.connect_accepted_socket(protocol, connection)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own raises the signal again after serving, which ends the process before its threads are stopped.

        A second signal while they stop does end it.
        """
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def notify_ready() -> None:
    """READY=1 for a unit of Type=notify; nothing when systemd did not start us. See sd_notify(3)."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.connect("\0" + path[1:] if path.startswith("@") else path)
            channel.sendall(b"READY=1")
