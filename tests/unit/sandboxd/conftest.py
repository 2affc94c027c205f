"""Doubles of what the daemon touches: a container engine in memory, HAProxy's admin socket, the host."""

import grp
import ipaddress
import itertools
import json
import os
import queue
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sandboxd import routes
from sandboxd.api import Services
from sandboxd.config import Config, Template
from sandboxd.config import Gateway as GatewayConfig
from sandboxd.description import Description
from sandboxd.engine import Container, Found
from sandboxd.errors import EngineDown, EngineError, HostError
from sandboxd.gateway import Gateway
from sandboxd.health import Health
from sandboxd.keys import Keys
from sandboxd.ledger import Ledger
from sandboxd.objects import Host
from sandboxd.pool import Pool
from sandboxd.reconcile import Reconciler
from sandboxd.sandboxes import Sandboxes
from sandboxd.templates import Templates
from sandboxd.transitions import Transitions
from sandboxd.watchdog import Watchdog

KEY = b"k" * 32
START = 1_800_000_000.0
OWN_GROUP = grp.getgrgid(os.getgid()).gr_name


DESCRIPTION = Description(
    version="26.1.5",
    api_version="1.45",
    root_dir="/var/lib/docker/100000.100000",
    runtime="crun",
    userns_uid=100000,
    live_restore=True,
    apparmor=True,
    pools=((ipaddress.IPv4Network("10.200.0.0/16"), 28),),
    limits=frozenset({"memory", "swap", "cpu", "pids"}),
)


@dataclass
class FakeLog:
    """What a container wrote: (Unix seconds, text). At the end of each boot, readings that follow it end."""

    lines: list[tuple[float, str]] = field(default_factory=list)
    boot: int = 1
    changed: threading.Condition = field(default_factory=threading.Condition)

    def write(self, at: float, text: str) -> None:
        with self.changed:
            self.lines.append((at, text))
            self.changed.notify_all()

    def end(self) -> None:
        with self.changed:
            self.boot += 1
            self.changed.notify_all()


class FakeFrames:
    """Docker's answer to one reading of a log."""

    def __init__(self, log: FakeLog, lines: int | None, since: float, follow: bool) -> None:
        self._log, self._since, self._follow, self._boot = log, since, follow, log.boot
        self._seen = 0 if lines is None else max(0, len(log.lines) - lines)
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        while True:
            with self._log.changed:
                if self._seen == len(self._log.lines):
                    if not self._follow or self._log.boot != self._boot or self.closed:
                        return
                    self._log.changed.wait(5)
                    continue
                at, text = self._log.lines[self._seen]
                self._seen += 1
            if at >= self._since:
                stamp = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
                yield f"{stamp} {text}\n".encode()

    def close(self) -> None:
        with self._log.changed:
            self.closed = True
            self._log.changed.notify_all()


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
    layer_limits: bool = False
    layers: dict[str, int] = field(default_factory=dict)
    events: "queue.Queue[str | Exception]" = field(default_factory=queue.Queue)
    logged: dict[str, "FakeLog"] = field(default_factory=dict)
    description: Description = field(default_factory=lambda: DESCRIPTION)

    def _enter(self, method: str) -> None:
        if error := self.fail.pop(method, None):
            raise error

    def version(self) -> str:
        self._enter("version")
        return "1"

    def limits_layers(self) -> bool:
        self._enter("limits_layers")
        return self.layer_limits

    def layer_bytes(self, container: str) -> int:
        self._enter("layer_bytes")
        return self.layers.get(container, 0)

    def userns_uid(self) -> int:
        self._enter("userns_uid")
        return os.getuid()

    def data_root(self) -> Path:
        self._enter("data_root")
        return Path("/var/lib/docker")

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
            self.containers[found] = Container(found, name, image_id, False, False, 0, "", "", "", "exit code 0")
            self.slots[found] = payload["Labels"]["sandbox.slot"]
            self.payloads.append(payload)
            return found

    def start(self, container: str) -> None:
        self._enter("start")
        with self.lock:
            number, boot = int(container, 16), next(self.numbers)
            self.containers[container] = replace(
                self.containers[container],
                running=True,
                paused=False,
                pid=1000 + number,
                address=f"10.200.0.{number}",
                gateway="10.200.0.1",
                booted=f"2027-01-15T07:59:59.{boot:09d}Z",  # a second before START
            )

    def stop(self, container: str) -> None:
        self._enter("stop")
        self._set(container, running=False, paused=False, exit="exit code 1")

    def pause(self, container: str) -> None:
        self._enter("pause")
        self._set(container, paused=True)

    def unpause(self, container: str) -> None:
        self._enter("unpause")
        self._set(container, paused=False)

    def _set(self, container: str, **changes: Any) -> None:
        with self.lock:
            self.containers[container] = replace(self.containers[container], **changes)

    def container(self, container: str) -> Container | None:
        self._enter("container")
        return self.containers.get(container)

    def rename(self, container: str, name: str) -> None:
        self._enter("rename")
        self._set(container, name=name)

    def commit(self, container: str, image: str) -> None:
        self._enter("commit")
        assert self.containers[container].paused or not self.containers[container].running
        self.images[image] = f"sha256:{next(self.numbers)}"

    def remove_image(self, image: str) -> None:
        self._enter("remove_image")
        self.images.pop(image, None)

    def build(
        self, context: Path, image: str, arguments: dict[str, str], cgroup: str, trouble: Callable[[], str]
    ) -> Iterator[bytes]:
        yield f"building from {arguments['BASE']}: {context.read_text()}\n".encode()
        self._enter("build")
        if reason := trouble():
            raise EngineError(f"the build of {image} was ended: {reason}")
        self.images[image] = f"sha256:{next(self.numbers)}"

    def logs(self, container: str, lines: int) -> str:
        return "the last line"

    def log(self, container: str, lines: int | None, since: float, follow: bool) -> "FakeFrames":
        self._enter("log")
        return FakeFrames(self.logged.setdefault(container, FakeLog()), lines, since, follow)

    def remove_container(self, container: str) -> None:
        self._enter("remove_container")
        with self.lock:
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
                Found("container", key, self.slots[key], self.clock(), state_of(value))
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

    def describe(self) -> Description:
        self._enter("describe")
        return self.description

    def subnets(self) -> list[str]:
        self._enter("subnets")
        return ["10.200.0.0/28"] * len(self.networks)

    def empty(self) -> bool:
        """Whether nothing at all is left."""
        return not (self.containers or self.networks or self.volumes)


def state_of(container: Container) -> str:
    """Docker's word for it."""
    return "paused" if container.paused else "running" if container.running else "exited"


class FakeMounts:
    """The host's mounts: a mount or unmount changes the file that lists them. `fail[command]` is as in FakeEngine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.commands: list[list[str]] = []
        self.fail: dict[str, Exception] = {}
        self._mountinfo = root / "proc/1/mountinfo"
        self._mountinfo.parent.mkdir(parents=True, exist_ok=True)
        if not self._mountinfo.exists():  # else another daemon on the same host
            self._mountinfo.write_text("1 0 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n")
        self._lock = threading.Lock()

    def run(self, command: list[str]) -> str:
        self.commands.append(command)
        words = command[command.index("--") + 1 :] if "--" in command else command
        if error := self.fail.pop(words[0], None):
            raise error
        with self._lock:
            lines = self._mountinfo.read_text().splitlines()
            if words[0] == "mount":
                lines.append(f"{len(lines) + 9} 1 7:0 / {words[-1]} rw shared:2 - ext4 /dev/loop{len(lines)} rw")
            elif words[0] == "cp":
                source, target = Path(words[-2]), Path(words[-1])
                with (
                    source.open("rb") as opened,
                    target.open("wb") as made,
                ):  # the rest is empty
                    made.write(opened.read(4096))
                    made.truncate(source.stat().st_size)
            elif words[0] == "umount":
                lines = [line for line in lines if line.split()[4] != words[-1]]
            self._mountinfo.write_text("\n".join(lines) + "\n")
        return ""

    def mounted(self) -> list[str]:
        """The slots whose disks are mounted."""
        return [Path(line.split()[4]).name for line in self._mountinfo.read_text().splitlines()[1:]]

    def reboot(self) -> None:
        """Nothing is mounted any more."""
        self._mountinfo.write_text(self._mountinfo.read_text().splitlines()[0] + "\n")


class FakeNft:
    """The host's packet rules, as nft's scripts change them. `fail` is raised instead of the next command."""

    def __init__(self) -> None:
        self.chains: dict[str, list[str]] = {}
        self.maps: dict[str, dict[str, str]] = {}
        self.fail: Exception | None = None
        self.scripts: list[str] = []
        self._lock = threading.Lock()

    def run(self, command: list[str], text: str) -> str:
        with self._lock:
            if error := self.fail:
                self.fail = None
                raise error
            if command == ["nft", "-f", "-"]:
                self.scripts.append(text)
                for line in text.splitlines():
                    self._do(line.split())
                return ""
            assert command[:4] == ["nft", "-j", "list", "table"], command
            if not self.chains:
                raise HostError("nft: No such file or directory")
            return json.dumps({"nftables": list(self._listing())})

    def flush(self) -> None:
        """Somebody removed all rules of the host."""
        with self._lock:
            self.chains, self.maps = {}, {}

    def rules(self, slot: str) -> list[str]:
        """Those of what a sandbox sends, without their marks; none if no packet is led to them."""
        if self.maps.get("from", {}).get(f'"sb-{slot}"') != f"from-{slot}":
            return []
        return [rule.partition(" comment ")[0] for rule in self.chains[f"from-{slot}"]]

    def slots(self) -> set[str]:
        return {name.partition("-")[2] for name in self.chains if "-" in name}

    def _do(self, words: list[str]) -> None:
        match words:
            case ["add", "table", "inet", "acme-policies"]:
                pass
            case ["add", "map", "inet", _, name, *_]:
                self.maps.setdefault(name, {})
            case ["add", "chain", "inet", _, name, *_]:
                self.chains.setdefault(name, [])
            case ["flush", "chain", "inet", _, name]:
                self.chains[name].clear()
            case ["delete", "chain", "inet", _, name]:
                assert not self.chains.pop(name) and all(name not in led.values() for led in self.maps.values())
            case ["add", "rule", "inet", _, name, *rule]:
                self.chains[name].append(" ".join(rule))
            case ["add", "element", "inet", _, name, "{", bridge, ":", "jump", chain, "}"]:
                assert chain in self.chains
                self.maps[name][bridge] = chain
            case ["delete", "element", "inet", _, name, "{", bridge, ":", "jump", _, "}"]:
                del self.maps[name][bridge]
            case _:
                raise AssertionError(f"no line of nft that is expected: {' '.join(words)}")

    def _listing(self) -> Iterator[dict[str, Any]]:
        for name, rules in self.chains.items():
            yield {"chain": {"name": name}}
            for rule in rules:
                comment = rule.partition(" comment ")[2].strip('"')
                yield {"rule": {"chain": name, **({"comment": comment} if comment else {})}}
        for name, led in self.maps.items():
            elements = [[bridge.strip('"'), {"jump": {"target": chain}}] for bridge, chain in led.items()]
            yield {"map": {"name": name, **({"elem": elements} if elements else {})}}


# What HAProxy 2.6 answers, cut to the columns that are of interest, with one that is empty.
STATISTICS = """\
# pxname,svname,scur,stot,bin,bout,econ,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,hrsp_other,type,
gateway,FRONTEND,3,120,4000,90000,,1,100,2,10,7,0,0,
sandboxes,BACKEND,2,110,3000,80000,4,1,95,2,9,3,0,1,
"""


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
        if words[:2] == ["show", "stat"]:
            return STATISTICS
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
    transitions: Transitions
    reconciler: Reconciler
    watchdog: Watchdog
    mounts: FakeMounts
    nft: FakeNft
    now: list[float]
    dead: set[str]
    commands: list[list[str]]
    memory_mb: list[int]  # one figure: what is available on the host
    disk_mb: dict[str, int]  # what is free, by the last name of a path; plenty where it is not said
    exit_codes: dict[str, int]  # of the commands in network namespaces, by the verb that they contain
    templates: Templates

    def leftovers(self) -> list[str]:
        """Slot directories, disks and mounts that are still there."""
        found = {
            path.stem for name in ("sandboxes", "disks", "mounts") for path in (self.config.state_dir / name).glob("*")
        }
        return sorted(found | set(self.mounts.mounted()))


@contextmanager
def short_directory() -> Iterator[Path]:
    """Short: the path of a Unix socket may have about 100 characters, and tmp_path is longer under xdist.

    In memory where there is such a place: a ledger waits for the disk at every commit, hundreds of times here.
    """
    memory = "/dev/shm"
    path = Path(tempfile.mkdtemp(prefix="sbx", dir=memory if os.access(memory, os.W_OK) else None))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as path:
        yield path


@pytest.fixture
def config(directory: Path) -> Config:
    return config_in(directory)


def config_in(directory: Path) -> Config:
    templates = {
        "base": Template("base", "base:1", 2048, 2.0, 1024, 10240, 10240, pool=2),
        "large": Template("large", "large:1", 8192, 4.0, 2048, 20480, 10240),
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
        metrics_listen=None,
        audit_log=directory / "log" / "audit.log",
        default_template="base",
        default_port=8000,
        create_parallelism=2,
        max_sandboxes=100,
        memory_reserve_mb=1024,
        disk_reserve_mb=2048,
        build_timeout_s=60,
        wake_on_visit=True,
        idle_pause_s=None,
        gateway=GatewayConfig(
            ("127.0.0.1", 8081),
            directory / "admin.sock",
            state / "routes.map",
            directory / "gateway.sock",
            OWN_GROUP,
        ),
        templates=templates,
    )


@pytest.fixture
def world(config: Config) -> Iterator[World]:
    with living(config) as made:
        yield made


@contextmanager
def living(config: Config) -> Iterator[World]:
    """A world whose threads end with the block."""
    made = make_world(config)
    yield made
    made.pool.stop()
    made.reconciler.stop()
    made.sandboxes.settle()
    made.ledger.close()
    made.haproxy.stop()


def make_world(
    config: Config,
    engine: FakeEngine | None = None,
    haproxy: FakeHaproxy | None = None,
    mounts: FakeMounts | None = None,
    nft: FakeNft | None = None,
) -> World:
    """The parts of a daemon; with an engine and a gateway of an earlier one, a daemon that was restarted."""
    now, dead, commands, exit_codes = [START], set[str](), list[list[str]](), {"-C": 1, "-A": 0, "-D": 0}

    memory_mb, disk_mb = [8192], dict[str, int]()

    def run(command: list[str]) -> int:
        commands.append(command)
        return next(code for verb, code in exit_codes.items() if verb in command)

    engine = engine or FakeEngine(lambda: now[0])
    haproxy = haproxy or FakeHaproxy(config.gateway.admin_socket, config.gateway.routes_map)
    mounts = mounts or FakeMounts(config.state_dir.parent / "root")
    nft = nft or FakeNft()
    ledger, health = Ledger(config.ledger), Health()
    edge = config.gateway
    gateway = Gateway(edge.admin_socket, edge.routes_map, lambda: routes.table(ledger.routes(), KEY))
    host = Host(
        nofile=1024,
        netns_run=run,
        nft_run=nft.run,
        disks_run=mounts.run,
        root=mounts.root,
        alive=lambda address: address not in dead,
        available_memory_mb=lambda: memory_mb[0],
        free_disk_mb=lambda path: disk_mb.get(path.name, 100_000),
        now=lambda: now[0],
        ready_deadline_s=0.05,
        confined=False,
    )
    sandboxes = Sandboxes(config, KEY, ledger, engine, gateway, host)
    pool, transitions, templates = Pool(sandboxes, health), Transitions(sandboxes), Templates(sandboxes)
    reconciler = Reconciler(sandboxes, transitions, pool, templates, health)
    return World(
        config,
        engine,
        haproxy,
        ledger,
        health,
        gateway,
        sandboxes,
        pool,
        transitions,
        reconciler,
        Watchdog(sandboxes, transitions, health),
        mounts,
        nft,
        now,
        dead,
        commands,
        memory_mb,
        disk_mb,
        exit_codes,
        templates,
    )


def services_of(world: World) -> Services:
    return Services(
        world.sandboxes,
        Keys(world.ledger),
        world.transitions,
        world.templates,
        world.pool,
        world.reconciler,
        world.watchdog,
        world.health,
    )


def until(good: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 15  # for a machine that others use, too
    while not good():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def nothing_is_left(world: World) -> None:
    assert world.engine.empty() and world.leftovers() == []
    assert world.ledger.rows() == [] and world.haproxy.map == []
    file = world.config.gateway.routes_map
    assert not file.exists() or file.read_text() == ""


def member(world: World) -> str:
    """A new pool member, a second younger than the one before."""
    world.now[0] += 1
    assert world.sandboxes.create_member(world.config.templates["base"], lambda: True)
    return world.ledger.rows("warm")[-1].id


def down() -> EngineDown:
    return EngineDown("Docker does not answer.")


def refusal() -> EngineError:
    return EngineError("Docker refuses.")
