"""A real agent on the loopback, a control plane that knows one sandbox, and the command line that uses both."""

import os
import pwd
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.envd.client import TOKEN, Running
from tests.unit.sandboxd.cli.doubles import ID, Cli, ControlPlane, Relay

MYSELF = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture(scope="session")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("agent")
    workdir = directory / "work"
    workdir.mkdir()
    running = Running(
        directory,
        sandboxID=ID,
        templateID="base",
        accessToken=TOKEN,
        envs={"FROM_SANDBOX": "yes"},
        user=MYSELF,
        workdir=str(workdir),
    )
    yield running
    running.stop()


@pytest.fixture
def remote(agent: Running, tmp_path: Path) -> Path:
    """A directory of the sandbox that is this test's own."""
    path = tmp_path / "remote"
    path.mkdir()
    return path


@pytest.fixture
def here(tmp_path: Path) -> Path:
    path = tmp_path / "here"
    path.mkdir()
    return path


@pytest.fixture
def directory() -> Iterator[Path]:
    """Short: the path of a Unix socket may have about 100 characters."""
    path = Path(tempfile.mkdtemp(prefix="cli"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def control(directory: Path, sandbox: dict[str, Any]) -> Iterator[ControlPlane]:
    made = ControlPlane(directory / "sandboxd.sock")
    made.answer(f"GET /sandboxes/{ID}", 200, sandbox)
    yield made
    made.stop()


@pytest.fixture
def sandbox() -> dict[str, Any]:
    """What the API says of one sandbox."""
    return {
        "templateID": "base",
        "sandboxID": ID,
        "clientID": "local",
        "envdVersion": "0.6.13",
        "url": f"https://qa-{ID}.example.com",
        "startedAt": "2026-01-31T12:00:00.000Z",
        "endAt": "2036-01-29T12:00:00.000Z",
        "state": "running",
        "cpuCount": 2,
        "memoryMB": 2048,
        "diskSizeMB": 10240,
        "metadata": {"ticket": "42"},
        "name": "demo",
        "keep": False,
        "origin": "pool",
        "unlimited": True,
        "envdAccessToken": TOKEN,
        "domain": "example.com",
        "address": "172.20.0.2",
        "container": "acme-qa-20260131-120000",
    }


@pytest.fixture
def gateway() -> Iterator[tuple[str, int]]:
    """An address on which nobody listens: for verbs that need no agent."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address: tuple[str, int] = taken.getsockname()
    yield address


@pytest.fixture
def cli(directory: Path, control: ControlPlane, gateway: tuple[str, int]) -> Cli:
    """Without an agent."""
    return Cli(directory, control, gateway)


@pytest.fixture
def box(directory: Path, control: ControlPlane, agent: Running) -> Cli:
    """With the real agent."""
    return Cli(directory, control, ("127.0.0.1", agent.port))


@pytest.fixture
def relay(box: Cli, agent: Running) -> Iterator[Relay]:
    """Stands between the two from now on."""
    made = Relay(agent.port)
    box.gateway = made.address
    yield made
    made.stop()
