"""The console's real application, in front of a real sandboxd API on its Unix socket, and of a real agent."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from console.app import Patience, build
from console.config import Config
from console.sessions import COOKIE
from sandboxd.keys import Keys
from sandboxd.records import ApiKey
from sandboxd.tokens import agent_token
from tests.unit.envd.client import Running, running_agent
from tests.unit.sandboxd.clients import Client as Service
from tests.unit.sandboxd.conftest import KEY, World, config_in, living, short_directory

ID = "000000000001"  # what the double of the engine calls its first container
ORIGIN = "https://console.example.com"
TOKEN = re.compile(r'name="token" value="([0-9a-f]{64})"')


@pytest.fixture
def world() -> Iterator[World]:
    with short_directory() as directory, living(config_in(directory)) as made:
        yield made


@pytest.fixture
def service(world: World) -> Iterator[Service]:
    """The daemon's API on its socket."""
    made = Service(world)
    yield made
    made.server.force_exit = True  # nobody is being answered
    made.close()


@pytest.fixture(scope="session")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("agent")
    with running_agent(directory, sandboxID=ID, accessToken=agent_token(KEY, ID), envs={}) as running:
        yield running


@dataclass
class Console:
    """`client` is a browser that nobody has signed in with. `now` is the console's clock."""

    world: World
    service: Service
    config: Config
    client: TestClient
    start: Callable[[], TestClient]
    now: list[float] = field(default_factory=list)

    def key(self, name: str = "ada", host: bool = False, most: int = 0) -> tuple[ApiKey, str]:
        return Keys(self.world.ledger).create(name, most, 0.0, host)

    def browser(self, name: str = "ada", host: bool = False, most: int = 0) -> "Browser":
        """Signed in with a new key."""
        made, text = self.key(name, host, most)
        browser = Browser(self.start(), made)
        answer = browser.client.post("/sign-in", data={"key": text})
        assert answer.status_code == 303, answer.text
        return browser

    def sandbox(self, owner: str = "", **body: Any) -> str:
        """A sandbox in use, of the key of that name."""
        if owner:
            body["keyID"] = self.key(owner)[0].id
        return str(self.service.create(**body)["sandboxID"])


@dataclass
class Browser:
    """A client with a session, which sends forms as the pages do."""

    client: TestClient
    key: ApiKey

    def get(self, path: str, status: int = 200, **headers: str) -> str:
        answer = self.client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        assert answer.status_code == status, answer.text
        return str(answer.text)

    def part(self, path: str, status: int = 200) -> str:
        """What htmx gets."""
        return self.get(path, status, hx_request="true")

    def token(self) -> str:
        found = TOKEN.search(self.get("/"))
        assert found is not None
        return found[1]

    def send(self, path: str, part: bool = False, **fields: str) -> Any:
        headers = {"HX-Request": "true"} if part else {}
        return self.client.post(path, data={"token": self.token(), **fields}, headers=headers)

    def cookie(self) -> str:
        return str(self.client.cookies[COOKIE])


@pytest.fixture
def console(world: World, service: Service, agent: Running) -> Iterator[Console]:
    with console_before(world, service, ("127.0.0.1", agent.port)) as made:
        yield made


@contextmanager
def console_before(world: World, service: Service, gateway: tuple[str, int]) -> Iterator[Console]:
    state = world.config.state_dir / "console"
    state.mkdir()
    config = Config("example.com", str(world.config.socket), gateway, "base", b"s" * 64, Path(state))
    now = [1_800_000_000.0]
    patience = Patience(late_s=0.01, check_s=0.05, beat_s=0.05, now=lambda: now[0])
    clients = []

    def start() -> TestClient:
        """Another browser; each has a console of its own, as after a restart: what holds must not be in memory."""
        app = build(config, patience)
        headers = {"Origin": ORIGIN, "X-Forwarded-For": "203.0.113.7"}
        client = TestClient(app, ORIGIN, headers=headers, follow_redirects=False, raise_server_exceptions=False)
        clients.append(client.__enter__())
        return client

    try:
        yield Console(world, service, config, start(), start, now)
    finally:
        for client in clients:
            client.__exit__(None, None, None)
