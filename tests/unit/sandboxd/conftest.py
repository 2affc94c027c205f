"""The daemon's parts, put together on doubles of what it touches."""

import grp
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest

from sandboxd import recovery, routes
from sandboxd.api import Services
from sandboxd.config import Config, Proxy, Template
from sandboxd.config import Gateway as GatewayConfig
from sandboxd.gateway import Gateway
from sandboxd.health import Health
from sandboxd.keys import Keys
from sandboxd.ledger import Ledger
from sandboxd.objects import Host
from sandboxd.pool import Pool
from sandboxd.reconcile import Reconciler
from sandboxd.sandboxes import Sandboxes
from sandboxd.templates import Templates
from sandboxd.tokens import TokenKey
from sandboxd.transitions import Transitions
from sandboxd.watchdog import Watchdog
from tests.unit.sandboxd.fake_engine import START, FakeEngine
from tests.unit.sandboxd.fake_haproxy import FakeHaproxy
from tests.unit.sandboxd.fake_host import FakeMounts, FakeNft

KEY = b"k" * 32
OWN_GROUP = grp.getgrgid(os.getgid()).gr_name


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
        proxy=Proxy(directory / "egress.sock", state / "names.map"),
        templates=templates,
    )


@pytest.fixture
def world(config: Config) -> Iterator[World]:
    with living(config) as made:
        yield made


@contextmanager
def living(config: Config) -> Iterator[World]:
    """A world whose threads end with the block."""
    with patch("sandboxd.gateway.TIMEOUT_S", 60.0):  # HAProxy's double answers when its thread has its turn
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
    key: bytes = KEY,
) -> World:
    """The parts of a daemon; with an engine and a gateway of an earlier one, a daemon that was restarted."""
    now, dead, commands, exit_codes = [START], set[str](), list[list[str]](), {"-C": 1, "-A": 0, "-D": 0, "--write": 0}

    memory_mb, disk_mb = [8192], dict[str, int]()

    def run(command: list[str]) -> int:
        commands.append(command)
        return next(code for verb, code in exit_codes.items() if verb in command)

    engine = engine or FakeEngine(lambda: now[0])
    haproxy = haproxy or FakeHaproxy(config.gateway.admin_socket, config.gateway.routes_map)
    mounts = mounts or FakeMounts(config.state_dir.parent / "root")
    nft = nft or FakeNft()
    accounts = mounts.root / "etc/passwd"
    accounts.parent.mkdir(exist_ok=True)
    accounts.write_text("root:x:0:0:root:/root:/bin/bash\nacme-egress:x:998:998::/nonexistent:/usr/sbin/nologin\n")
    ledger, health = recovery.opened(config.ledger, now[0]), Health()
    edge = config.gateway
    key = TokenKey(key)
    gateway = Gateway(edge.admin_socket, edge.routes_map, lambda: routes.table(ledger.routes(), key))
    host = Host(
        nofile=1024,
        netns_run=run,
        nft_run=nft.run,
        nft_changes=nft.changes,
        disks_run=mounts.run,
        root=mounts.root,
        alive=lambda address: address not in dead,
        available_memory_mb=lambda: memory_mb[0],
        free_disk_mb=lambda path: disk_mb.get(path.name, 100_000),
        reclaim=lambda pid: None,  # here may be a process of that number, and its memory is not ours
        now=lambda: now[0],
        ready_deadline_s=0.05,
        confined=False,
    )
    sandboxes = Sandboxes(config, key, ledger, engine, gateway, host)
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
    deadline = time.monotonic() + 25  # for a machine that others use, too; what looks by itself does so every 30 s
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
