"""A real agent on the loopback, and the command line, which finds it through one of two control planes.

`cli` and `used` (which has made the sandbox ID) talk to the daemon's own API over doubles of engine and gateway; `lone`
and `box` (which has the agent) to one that answers what a test wants.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandboxd.cli.agent import Agent
from sandboxd.tokens import agent_token
from tests.unit.envd.client import Running, running_agent
from tests.unit.ports import nobody
from tests.unit.sandboxd.cli.doubles import ID, Apart, Cli, ControlPlane, Relay, Run, write_place
from tests.unit.sandboxd.clients import Client
from tests.unit.sandboxd.conftest import KEY, World

TOKEN = agent_token(KEY, ID)


@pytest.fixture(scope="session")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("agent")
    envs = {"FROM_SANDBOX": "yes", "HOME": str(directory / "work")}  # the login shell must not read our own profile
    with running_agent(directory, sandboxID=ID, accessToken=TOKEN, envs=envs) as running:
        yield running


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
        "volume": "",
        "reason": "",
        "metadata": {"ticket": "42"},
        "name": "demo",
        "keep": False,
        "origin": "pool",
        "owner": "",
        "unlimited": True,
        "allowInternetAccess": True,
        "network": {"mode": "public", "allowOut": [], "denyOut": []},
        "access": "public",
        "wakeOnVisit": True,
        "idlePause": None,
        "envdAccessToken": TOKEN,
        "domain": "example.com",
        "address": "172.20.0.2",
        "container": "acme-qa-20260131-120000",
    }


@pytest.fixture
def gateway() -> Iterator[tuple[str, int]]:
    """An address on which nobody listens: for verbs that need no agent."""
    with nobody() as address:
        yield address


@pytest.fixture
def service(world: World) -> Iterator[Client]:
    """The daemon's API on its socket."""
    made = Client(world)
    yield made
    made.server.force_exit = True  # nobody is being answered
    made.close()


@pytest.fixture
def cli(service: Client, directory: Path, agent: Running) -> Cli:
    config = write_place(directory / "config.toml", service.world.config.socket, ("127.0.0.1", agent.port))
    return Cli(config, agent.file.parent / "work")


@pytest.fixture
def used(cli: Cli) -> Cli:
    assert cli.out("init") == f"{ID}\n"
    return cli


@pytest.fixture
def lone(directory: Path, control: ControlPlane, gateway: tuple[str, int]) -> Cli:
    return Cli(write_place(directory / "config.toml", control.path, gateway), directory)


@pytest.fixture
def box(directory: Path, control: ControlPlane, agent: Running) -> Apart:
    config = write_place(directory / "config.toml", control.path, ("127.0.0.1", agent.port))
    return Apart(config, agent.file.parent / "work")


@pytest.fixture
def relay(box: Cli, control: ControlPlane, agent: Running) -> Iterator[Relay]:
    """Stands between `box` and the agent."""
    made = Relay(agent.port)
    write_place(box.config, control.path, made.address)
    yield made
    made.stop()


@pytest.fixture
def client(agent: Running, sandbox: dict[str, Any]) -> Agent:
    return Agent(("127.0.0.1", agent.port), sandbox)


@pytest.fixture
def relayed(relay: Relay, sandbox: dict[str, Any]) -> Agent:
    """A client whose connections break off when the relay's do."""
    return Agent(relay.address, sandbox)


@pytest.fixture
def run(lone: Cli, capsys: pytest.CaptureFixture[str]) -> Run:
    """Within this process, against a control plane that answers what the test wants."""

    def call(*arguments: str) -> tuple[int, str, str]:
        code = lone.call(*arguments)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call
