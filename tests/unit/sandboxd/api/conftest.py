"""The API, served on its sockets and asked directly."""

from collections.abc import Iterator

import pytest

from tests.unit.sandboxd.clients import Client, Direct
from tests.unit.sandboxd.conftest import World


@pytest.fixture
def served(world: World) -> Iterator[Client]:
    made = Client(world)
    yield made
    made.close()


@pytest.fixture
def client(world: World) -> Direct:
    return Direct(world)
