"""The daemon: `python -m sandboxd --config FILE`. Wires the parts, opens the sockets, serves until stopped."""

import argparse
import asyncio
import grp
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import uvicorn

from sandboxd import api, config, recovery, routes, spec
from sandboxd.dockerengine import DockerEngine
from sandboxd.engine import Engine
from sandboxd.errors import ConfigError, LedgerError
from sandboxd.front import Front
from sandboxd.gateway import Gateway
from sandboxd.health import Health
from sandboxd.keys import Keys
from sandboxd.objects import Host
from sandboxd.peers import PeerProtocol
from sandboxd.pool import Pool
from sandboxd.reconcile import Reconciler
from sandboxd.sandboxes import Sandboxes
from sandboxd.templates import Templates
from sandboxd.tokens import TokenKey
from sandboxd.transitions import Transitions
from sandboxd.watchdog import Watchdog

log = logging.getLogger(__name__)

SHUTDOWN_S = 20  # how long running requests may take to end after SIGTERM; the unit leaves 10 s more for our threads


class Server(uvicorn.Server):
    """Tells systemd once the sockets are served, ends streams first of all, and lets its caller end what else runs.

    `finish` is called, in a thread, while everybody is served still: what it waits for may take long.
    """

    def __init__(
        self,
        settings: uvicorn.Config,
        ready: Callable[[], None],
        end_streams: Callable[[], None],
        finish: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(settings)
        self._ready, self._end_streams, self._finish = ready, end_streams, finish

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._end_streams()  # a log that somebody follows would be waited for, and nobody served meanwhile
        await asyncio.to_thread(self._finish)
        await self._take_in(sockets or [])
        await super().shutdown(sockets)

    async def _take_in(self, listeners: list[socket.socket]) -> None:
        """Closes the listeners, and serves whom the kernel has let in already: it would cut them off, unheard."""
        waiting = list[socket.socket]()
        for listener, server in zip(listeners, self.servers, strict=True):
            with suppress(BlockingIOError):
                while True:
                    waiting.append(listener.accept()[0])
            server.close()
        protocol = partial(PeerProtocol, self.config, self.server_state, self.lifespan.state)
        for connection in waiting:
            connection.setblocking(False)
            await asyncio.get_running_loop().connect_accepted_socket(protocol, connection)

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


def services(settings: config.Config, engine: Engine, host: Host) -> api.Services:
    """All parts, not yet started."""
    key = TokenKey(config.read_token_key(settings.secrets_dir))
    settings.state_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
    ledger, health = recovery.opened(settings.ledger, host.now()), Health()
    edge = settings.gateway
    gateway = Gateway(edge.admin_socket, edge.routes_map, lambda: routes.table(ledger.routes(), key))
    sandboxes = Sandboxes(settings, key, ledger, engine, gateway, host)
    pool, transitions, templates = Pool(sandboxes, health), Transitions(sandboxes), Templates(sandboxes)
    return api.Services(
        sandboxes,
        Keys(ledger),
        transitions,
        templates,
        pool,
        Reconciler(sandboxes, transitions, pool, templates, health),
        Watchdog(sandboxes, transitions, health),
        health,
    )


def serve(settings: config.Config, parts: api.Services) -> None:
    """Serves until SIGTERM or SIGINT, then ends what was begun."""
    tcp = open_tcp(settings.listen)  # first: it refuses while another daemon runs, whose Unix socket we would replace
    edge = settings.gateway
    sockets = [open_unix(edge.socket, edge.group), tcp]
    if settings.fleet is None or not settings.fleet.manages:
        sockets.append(open_unix(settings.socket, settings.socket_group))
    if settings.fleet is not None:
        sockets.append(open_unix(settings.fleet.socket, settings.fleet.group))
    metrics_port = 0
    if settings.metrics_listen:
        sockets.append(open_tcp(settings.metrics_listen, "metrics_listen"))
        metrics_port = settings.metrics_listen[1]
    options = uvicorn.Config(
        Front(parts, metrics_port),
        http=PeerProtocol,
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    parts.reconciler.start()
    parts.pool.start()
    parts.watchdog.start()
    try:
        # A member of a pool that is being made is waited for: some seconds, which clients need not wait as well.
        asyncio.run(Server(options, notify_ready, parts.streams.end_all, parts.pool.stop).serve(sockets))
    finally:
        parts.pool.stop()
        parts.reconciler.stop()
        parts.watchdog.stop()
        parts.sandboxes.settle()
        parts.sandboxes.ledger.close()
        parts.sandboxes.audit.log.close()


def open_unix(path: Path, group: str) -> socket.socket:
    """A socket that is trusted by its file mode: 0660, root and the given group."""
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(f"{path}: its group {group!r} does not exist. Deploy again, or: groupadd {group}") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    os.chown(path, -1, gid)
    path.chmod(0o660)
    listener.listen(1024)
    return listener


def open_tcp(address: tuple[str, int], key: str = "listen") -> socket.socket:
    try:
        return socket.create_server(address, backlog=1024)
    except OSError as error:
        raise ConfigError(
            f"{key} = {address[0]}:{address[1]}: {error.strerror}. Is another sandboxd running?"
        ) from error


def notify_ready() -> None:
    """READY=1 for a unit of Type=notify; nothing when systemd did not start us. See sd_notify(3)."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.connect("\0" + path[1:] if path.startswith("@") else path)
            channel.sendall(b"READY=1")


def allowed(limit: int, most: int) -> int:
    """What a sandbox may ask for: dockerd on this host has a limit like ours, and a container cannot exceed it."""
    hard = resource.getrlimit(limit)[1]
    return most if hard == resource.RLIM_INFINITY else min(most, hard)


def main() -> int:
    parser = argparse.ArgumentParser("sandboxd", description="Control plane of a sandbox host.")
    parser.add_argument("--config", type=Path, required=True, help="TOML file that the deploy renders")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        settings = config.load(parser.parse_args().config)
        host = Host(
            nofile=allowed(resource.RLIMIT_NOFILE, spec.NOFILE),
            memlock=allowed(resource.RLIMIT_MEMLOCK, spec.MEMLOCK_BYTES),
        )
        serve(settings, services(settings, DockerEngine(), host))
    except (ConfigError, LedgerError) as error:
        print(f"sandboxd: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
