"""E2B's Python client against a fleet: the sandboxes that it makes are on all hosts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.host.api import with_key
from tests.host.fleet.labs import Fleet
from tests.host.test_e2b import PYTHON, Clients, bring_programs, bring_python, names_as_before
from tools.e2b_table import features

pytestmark = pytest.mark.disruptive


@pytest.fixture(scope="module")
def clients(fleet: Fleet) -> Iterator[Clients]:
    """The client on the manager, over TLS and Traefik, as from anywhere else."""
    machine, before = fleet.manager, set(fleet.listed())
    bring_programs(machine)
    bring_python(machine, PYTHON[-1])
    with with_key(machine, "fleet-clients") as api:
        try:
            yield Clients(machine, api.key)
        finally:
            names_as_before(machine)
            if left := set(fleet.listed()) - before:
                machine.run(f"docker-sandbox kill {' '.join(left)}")


@pytest.mark.parametrize("feature", features("python_sync"))
def test_feature(clients: Clients, feature: str) -> None:
    assert clients.error(f"python_sync {PYTHON[-1]}", feature) == ""
