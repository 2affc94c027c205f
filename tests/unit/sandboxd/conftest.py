"""Doubles of what the daemon touches: a container engine in memory, HAProxy's admin socket, the host."""

import grp
import itertools
import os
import queue
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from sandboxd.config import Config, Template
from sandboxd.config import Gateway as GatewayConfig
from sandboxd.engine import Container, Found
from sandboxd.errors import EngineDown, EngineError
from sandboxd.gateway import Gateway
from sandboxd.health import Health
from sandboxd.ledger import Ledger
from sandboxd.pool import Pool
from sandboxd.reconcile import Reconciler
from sandboxd.sandboxes import Host, Sandboxes

KEY = b"k" * 32
START = 1_800_000_000.0
OWN_GROUP = grp.getgrgid(os.getgid()).gr_name


@dataclass
class FakeEngine:
    """An Engine whose objects are dictionaries. `fail[method]` is raised instead of the next call of that method."""

    clock: Callable[[], float]
    images: dict[str, str] = field(default_factory=lambda: {"base:1": "sha256:1", "large:1": "sha256:9"})
    containers: dict[str, Container] = field(default_factory=dict)
    slots: dict[str, str] = field(default_factory=dict)
    networks: dict[str, Found] = field(default_factory=dict)
    volumes: dict[str, Found] = field(default_factory=dict)
    fail: dict[str, Exception] = field(default_factory=dict)
    payloads: list[dict[str, Any]] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    lock: Any = field(default_factory=threading.RLock)
    events: "queue.Queue[str | Exception]" = field(default_factory=queue.Queue)

    def _enter(self, method: str) -> None:
        if error := self.fail.pop(method, None):
            raise error

    def version(self) -> str:
        self._enter("version")
        return "1"

    def userns_uid(self) -> int:
        self._enter("userns_uid")
        return os.getuid()

    def image_id(self, image: str) -> str:
        self._enter("image_id")
        if image not in self.images:
            raise EngineError(f"image {image!r} is not on this host. Build it: deploy again.")
        return self.images[image]

    def create_network(self, payload: dict[str, Any]) -> None:
        self._enter("create_network")
        slot = payload["Labels"]["sandbox.slot"]
        self.networks[payload["Name"]] = Found("network", payload["Name"], slot, self.clock())

    def create_container(self, name: str, payload: dict[str, Any]) -> str:
        self._enter("create_container")
        with self.lock:
            number = next(self.numbers)
            found = f"{number:012x}"
            image_id = self.images[payload["Image"]]
            self.containers[found] = Container(found, name, image_id, False, 0, "", "", "", "exit code 0")
            slot = self.slots[found] = payload["Labels"]["sandbox.slot"]
            volume = payload["HostConfig"]["Mounts"][0]["Source"]
            self.volumes[volume] = Found("volume", volume, slot, self.clock())
            self.payloads.append(payload)
            return found

    def start(self, container: str) -> None:
        self._enter("start")
        with self.lock:
            number, boot = int(container, 16), next(self.numbers)
            self.containers[container] = replace(
                self.containers[container],
                running=True,
                pid=1000 + number,
                address=f"10.200.0.{number}",
                gateway="10.200.0.1",
                booted=f"boot {boot}",
            )

    def stop(self, container: str) -> None:
        self.containers[container] = replace(self.containers[container], running=False, exit="exit code 1")

    def container(self, container: str) -> Container | None:
        self._enter("container")
        return self.containers.get(container)

    def rename(self, container: str, name: str) -> None:
        self._enter("rename")
        self.containers[container] = replace(self.containers[container], name=name)

    def logs(self, container: str, lines: int) -> str:
        return "the last line"

    def remove_container(self, container: str) -> None:
        self._enter("remove_container")
        for found in [key for key, value in self.containers.items() if container in (key, value.name)]:
            del self.containers[found]

    def remove_network(self, network: str) -> None:
        self._enter("remove_network")
        self.networks.pop(network, None)

    def remove_volume(self, volume: str) -> None:
        self._enter("remove_volume")
        self.volumes.pop(volume, None)

    def inventory(self, project: str) -> list[Found]:
        self._enter("inventory")
        with self.lock:
            made = [
                Found("container", key, self.slots[key], self.clock(), value.running)
                for key, value in self.containers.items()
            ]
            return [*made, *self.networks.values(), *self.volumes.values()]

    def changes(self, project: str) -> Iterator[str]:
        """What a test puts into `events`; an exception there is raised."""
        self._enter("changes")
        while True:
            event = self.events.get()
            if isinstance(event, Exception):
                raise event
            yield event

    def empty(self) -> bool:
        """Whether nothing at all is left."""
        return not (self.containers or self.networks or self.volumes)


class FakeHaproxy:
    """HAProxy's admin socket: one map, one command for a connection."""

    def __init__(self, path: Path, file: Path) -> None:
        self.path, self.file = path, file
        self.map: list[tuple[str, str]] = []
        self.commands: list[list[str]] = []
        self.hanging = threading.Event()  # set: connections are accepted, and nothing is answered
        self._stopped = threading.Event()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen(64)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self.path.exists():
            self.path.unlink()
            self._server.shutdown(socket.SHUT_RDWR)
            self._server.close()
            self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection, connection.makefile("rw") as stream:
                words = stream.readline().split()
                if self.hanging.is_set():
                    self._stopped.wait(5)
                    continue
                self.commands.append(words)
                stream.write(self.answer(words) + "\n")

    def answer(self, words: list[str]) -> str:
        verb, _, name, *rest = words
        if name != str(self.file):
            return "Unknown map identifier. Please use #<id> or <file>."
        if verb == "show":
            return "".join(f"0x{n} {key} {value}\n" for n, (key, value) in enumerate(self.map))
        if verb == "get":
            return "type=str, case=sensitive, found=no"
        known = [key for key, _ in self.map]
        if verb == "add":
            self.map.append((rest[0], rest[1]))
            return ""
        if rest[0] not in known:
            return "entry not found."
        self.map = [(key, value) for key, value in self.map if key != rest[0]]
        if verb == "set":
            self.map.append((rest[0], rest[1]))
        return ""


@dataclass
class World:
    """A daemon's parts, wired, with what they touch replaced by doubles."""

    config: Config
    engine: FakeEngine
    haproxy: FakeHaproxy
    ledger: Ledger
    health: Health
    gateway: Gateway
    sandboxes: Sandboxes
    pool: Pool
    reconciler: Reconciler
    now: list[float]
    dead: set[str]
    commands: list[list[str]]
    exit_codes: dict[str, int]  # of the commands in network namespaces, by the verb that they contain

    def leftovers(self) -> list[str]:
        """Slot directories that are still there."""
        root = self.config.state_dir / "sandboxes"
        return sorted(path.name for path in root.iterdir()) if root.exists() else []


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short: the path of a Unix socket may have about 100 characters, and tmp_path is longer under xdist.

    In memory where there is such a place: a ledger waits for the disk at every commit, hundreds of times here.
    """
    memory = "/dev/shm"
    path = Path(tempfile.mkdtemp(prefix="sbx", dir=memory if os.access(memory, os.W_OK) else None))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def config(directory: Path) -> Config:
    templates = {
        "base": Template("base", "base:1", 2048, 2.0, 1024),
        "large": Template("large", "large:1", 8192, 4.0, 2048),
    }
    state = directory / "state"
    state.mkdir()
    return Config(
        project="acme",
        domain="example.com",
        state_dir=state,
        secrets_dir=directory,
        socket=directory / "sandboxd.sock",
        socket_group=OWN_GROUP,
        listen=("127.0.0.1", 0),
        default_template="base",
        default_port=8000,
        create_parallelism=2,
        pool_size=2,
        gateway=GatewayConfig(("127.0.0.1", 8081), directory / "admin.sock", state / "routes.map"),
        templates=templates,
    )


@pytest.fixture
def world(config: Config) -> Iterator[World]:
    made = make_world(config)
    yield made
    made.pool.stop()
    made.reconciler.stop()
    made.sandboxes.settle()
    made.ledger.close()
    made.haproxy.stop()


def make_world(config: Config, engine: FakeEngine | None = None, haproxy: FakeHaproxy | None = None) -> World:
    """The parts of a daemon; with an engine and a gateway of an earlier one, a daemon that was restarted."""
    now, dead, commands, exit_codes = [START], set[str](), list[list[str]](), {"-C": 1, "-A": 0}

    def run(command: list[str]) -> int:
        commands.append(command)
        return next(code for verb, code in exit_codes.items() if verb in command)

    engine = engine or FakeEngine(lambda: now[0])
    haproxy = haproxy or FakeHaproxy(config.gateway.admin_socket, config.gateway.routes_map)
    ledger, health = Ledger(config.ledger), Health()
    gateway = Gateway(config.gateway.admin_socket, config.gateway.routes_map, ledger.routes)
    host = Host(
        nofile=1024,
        netns_run=run,
        alive=lambda address: address not in dead,
        now=lambda: now[0],
        ready_deadline_s=0.05,
    )
    sandboxes = Sandboxes(config, KEY, ledger, engine, gateway, host)
    pool = Pool(sandboxes, health)
    reconciler = Reconciler(sandboxes, pool, health)
    return World(
        config, engine, haproxy, ledger, health, gateway, sandboxes, pool, reconciler, now, dead, commands, exit_codes
    )


def until(good: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 5
    while not good():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def down() -> EngineDown:
    return EngineDown("Docker does not answer.")


def refusal() -> EngineError:
    return EngineError("Docker refuses.")
