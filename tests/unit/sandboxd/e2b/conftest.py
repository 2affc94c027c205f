"""Requests by TCP with a key, as E2B's clients make them."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from sandboxd.front import Front
from sandboxd.keys import Keys
from tests.unit.sandboxd.conftest import World, services_of


class Public:
    """The public API, as the name of one key sees it."""

    def __init__(self, world: World, name: str = "team", max_sandboxes: int = 0) -> None:
        self.world = world
        _, self.key = Keys(world.ledger).create(name, max_sandboxes, world.now[0])
        self.front = Front(services_of(world))
        self.http = TestClient(self.front, raise_server_exceptions=False, headers={"X-API-KEY": self.key})

    def create(self, headers: dict[str, str] | None = None, **body: Any) -> dict[str, Any]:
        answer = self.http.post("/v2/sandboxes", json={"templateID": "base", **body}, headers=headers)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def refused(self, method: str, path: str, status: int, **options: Any) -> str:
        """The message of a refusal, which has E2B's form."""
        answer = self.http.request(method, path, **options)
        assert answer.status_code == status, answer.text
        body = answer.json()
        assert body["code"] == status
        return str(body["message"])


@pytest.fixture
def public(world: World) -> Public:
    return Public(world)
