"""A fleet: the real service before real applications of sandboxd, each on a Unix socket of its own."""

import asyncio
import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from fleet.app import Front
from fleet.booking import Booking
from fleet.config import Config, Fencing, Host, Share, Size
from fleet.services import Services
from sandboxd.config import Fleet as OfFleet
from sandboxd.config import Shared
from sandboxd.front import Front as Single
from sandboxd.listeners import open_tcp, open_unix
from sandboxd.peers import PeerProtocol
from tests.unit.fleet.memory_leases import MemoryLeases
from tests.unit.sandboxd.clients import Server
from tests.unit.sandboxd.conftest import OWN_GROUP, World, config_in, make_world, services_of, short_directory, until
from tests.unit.sandboxd.fake_engine import START, FakeEngine
from tests.unit.sandboxd.fake_haproxy import FakeHaproxy

EVERY_S, LOST_S = 0.05, 2.0  # the latter for a machine that others use, too
DOMAIN = "example.com"
WHOLE = Share(1.0, 1.0)
NODE_SOCKET = "/run/node.sock"  # as a host names the one for managers
NO_FENCING = Fencing()


class Gate:
    """The gateway of a host: which of its two APIs a request is for, by the name that it asks for."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.requests: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            asked = dict(scope["headers"])[b"host"].decode()
            assert asked in (f"node.{DOMAIN}", f"api.{DOMAIN}"), asked
            scope["server"] = (NODE_SOCKET, None) if asked.startswith("node.") else ("127.0.0.1", 8090)
            if scope["path"] != "/inventory":
                self.requests.append(f"{asked.partition('.')[0]} {scope['method']} {scope['path']}")
        await self.app(scope, receive, send)


class Served:
    """An application on its sockets, in a thread of its own."""

    def __init__(self, app: ASGIApp, *sockets: Any) -> None:
        options = uvicorn.Config(app, http=PeerProtocol, log_config=None, access_log=False, server_header=False)
        self.server = Server(options)
        self._thread = threading.Thread(target=lambda: asyncio.run(self.server.serve(list(sockets))))
        self._thread.start()
        until(lambda: self.server.started, "the server does not start")

    def stop(self) -> None:
        self.server.force_exit = True  # nobody waits for an answer
        self.server.end()
        self._thread.join(15)
        assert not self._thread.is_alive()


class Node:
    """A host of the fleet: sandboxd's parts on doubles, and its socket, which can go away and come back."""

    def __init__(self, directory: Path, name: str, number: int, export: Path | None = None) -> None:
        (directory / name).mkdir()
        self.name, self.socket = name, directory / f"{name}.sock"
        now = [START]
        engine = FakeEngine(lambda: now[0], numbers=itertools.count(1 + 80 * number))  # no id is on two hosts
        config = replace(
            config_in(directory / name),
            fleet=OfFleet(Path(NODE_SOCKET), OWN_GROUP, manages=False),
            shared=Shared(export, name) if export else None,
        )
        self.world: World = make_world(config, engine)
        self.gate = Gate(Single(services_of(self.world)))
        self._served: Served | None = None
        self.start()

    def start(self) -> None:
        self._served = Served(self.gate, open_unix(self.socket, OWN_GROUP))

    def stop(self) -> None:
        if self._served is not None:
            self._served.stop()
            self._served = None
            self.socket.unlink()

    def close(self) -> None:
        self.stop()
        self.world.pool.stop()
        self.world.reconciler.stop()
        self.world.sandboxes.settle()
        self.world.ledger.close()
        self.world.haproxy.stop()

    def ids(self) -> set[str]:
        """Of the sandboxes in use, by its ledger."""
        return {row.id for row in self.world.ledger.rows("running", "paused", "stopped")}


@dataclass
class Seat:
    """Where a client sits: before a single host, or before a fleet."""

    unix: httpx.Client
    tcp: httpx.Client
    worlds: list[World]

    def create(self, **body: Any) -> dict[str, Any]:
        answer = self.unix.post("/v2/sandboxes", json=body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def key(self, name: str = "team", max_sandboxes: int = 0) -> dict[str, str]:
        """A new key, as the headers of a request."""
        answer = self.unix.post("/keys", json={"name": name, "maxSandboxes": max_sandboxes})
        assert answer.status_code == 201, answer.text
        return {"X-API-KEY": answer.json()["key"]}


class Fleet(Seat):
    def __init__(
        self,
        directory: Path,
        names: str,
        lost_s: float,
        booking: bool,
        share: Share = WHOLE,
        export: Path | None = None,
        fencing: Fencing = NO_FENCING,
    ) -> None:
        self.directory = directory
        self.nodes = {name: Node(directory, name, number, export) for number, name in enumerate(names)}
        roles = {name: "manager" if name == names[0] else "worker" for name in names}
        self.leases = MemoryLeases(roles)
        self.config = Config(
            project="acme",
            domain=DOMAIN,
            node=names[0],
            listen=("127.0.0.1", 0),
            socket=directory / "api.sock",
            socket_group=OWN_GROUP,
            default_template="base",
            engine=directory / "engine.sock",
            lease_image="lease:1",
            lease_share=share,
            map=directory / "nodes.map",
            admin=directory / "edge.sock",
            templates={"base": Size(2048, 2.0), "large": Size(8192, 4.0)},
            nodes={name: Host(name, roles[name], "10.0.0.1", node.socket) for name, node in self.nodes.items()},
            fencing=fencing,
        )
        self.haproxy = FakeHaproxy(self.config.admin, self.config.map)
        tick = (lambda index: Booking(self.leases, index).tick) if booking else None
        self.services = Services(self.config, self.leases, EVERY_S, lost_s, tick)
        tcp = open_tcp(self.config.listen)
        self._served = Served(Front(self.services), open_unix(self.config.socket, OWN_GROUP), tcp)
        unix = over(self.config.socket)
        super().__init__(unix, by_tcp(tcp), [node.world for node in self.nodes.values()])

    def where(self, sandbox_id: str) -> Node:
        """By the hosts' own ledgers."""
        (found,) = (node for node in self.nodes.values() if sandbox_id in node.ids())
        return found

    def soon(self, work: Callable[[], object]) -> None:
        """In the service's own thread."""
        self._served.server._loop.call_soon_threadsafe(work)

    def lose(self, name: str) -> None:
        self.nodes[name].stop()
        until(lambda: self.services.nodes[name].lost_since is not None, f"nobody misses {name}")

    def find_again(self, name: str) -> None:
        self.nodes[name].start()
        until(lambda: self.services.nodes[name].lost_since is None, f"nobody hears {name} again")

    @contextmanager
    def beside(self) -> Iterator[Seat]:
        """Another manager of the same hosts, which knows what they have now, and does not look again by itself."""
        socket, gateway = self.directory / "other.sock", self.directory / "other"
        config = replace(self.config, socket=socket, admin=gateway, map=gateway.with_suffix(".map"))
        services = Services(config, self.leases, every_s=60.0, lost_s=60.0)
        tcp = open_tcp(self.config.listen)
        served = Served(Front(services), open_unix(socket, OWN_GROUP), tcp)
        try:
            with over(socket) as unix, by_tcp(tcp) as public:
                yield Seat(unix, public, self.worlds)
        finally:
            served.stop()

    def close(self) -> None:
        self.unix.close()
        self.tcp.close()
        self._served.stop()
        for node in self.nodes.values():
            node.close()
        self.haproxy.stop()


def over(socket: Path) -> httpx.Client:
    transport = httpx.HTTPTransport(uds=str(socket))
    return httpx.Client(transport=transport, base_url="http://sandboxd", trust_env=False, timeout=30)


def by_tcp(listener: socket.socket) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", trust_env=False, timeout=30)


@contextmanager
def running(names: str = "ab", lost_s: float = LOST_S, booking: bool = False, **options: Any) -> Iterator[Fleet]:
    """`options` are those of Fleet."""
    with short_directory() as directory, ExitStack() as stack:
        made = Fleet(directory, names, lost_s, booking, **options)
        stack.callback(made.close)
        yield made


@contextmanager
def single() -> Iterator[Seat]:
    """The same clients before one host."""
    with short_directory() as directory:
        (directory / "a").mkdir()
        config = config_in(directory / "a")
        world = make_world(config)
        tcp = open_tcp(config.listen)
        served = Served(Single(services_of(world)), open_unix(config.socket, OWN_GROUP), tcp)
        seat = Seat(over(config.socket), by_tcp(tcp), [world])
        yield seat
        seat.unix.close()
        seat.tcp.close()
        served.stop()
        world.pool.stop()
        world.reconciler.stop()
        world.sandboxes.settle()
        world.ledger.close()
        world.haproxy.stop()
