"""E2B's Python client against a fleet: its sandboxes are on other hosts than the one that it asks, too."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator

import pytest

from tests.host.api import with_key
from tests.host.fleet.labs import Fleet
from tests.host.test_e2b import PYTHON, Clients, bring_programs, bring_python, names_as_before
from tools.e2b_table import features

pytestmark = pytest.mark.disruptive
CLIENT = f"python_sync {PYTHON[-1]}"
FEATURES = features("python_sync")
MOST = 30
AUDIT = "docker-sandbox audit --actor {key} --action create --action claim --since all --json"


@pytest.fixture(scope="module")
def key_name() -> str:
    """Of no earlier run, whose sandboxes the hosts remember."""
    return f"fleet-clients-{secrets.token_hex(4)}"


@pytest.fixture(scope="module")
def clients(fleet: Fleet, key_name: str) -> Iterator[Clients]:
    """The client on the manager, over TLS and Traefik, as from anywhere else."""
    machine, before = fleet.manager, set(fleet.listed())
    bring_programs(machine)
    bring_python(machine, PYTHON[-1])
    with with_key(machine, key_name) as api:
        try:
            burden(fleet)
            yield Clients(machine, api.key)
        finally:
            names_as_before(machine)
            if left := set(fleet.listed()) - before:
                machine.run(f"docker-sandbox kill {' '.join(left)}")


def burden(fleet: Fleet) -> None:
    """The manager gets more sandboxes than another host has: to that the next ones come."""
    manager = fleet.managers[0]
    for _ in range(MOST):
        fleet.wait_for_full_pools()
        counts = {name: row["sandboxes"] for name, row in fleet.nodes().items()}
        if counts[manager] > min(counts.values()):
            return
        fleet.init()
    raise AssertionError(f"{manager} has not got more than another host: {counts}")


@pytest.mark.parametrize("feature", FEATURES)
def test_feature(clients: Clients, feature: str) -> None:
    assert clients.error(CLIENT, feature) == ""


def test_its_sandboxes_were_on_other_hosts_too(clients: Clients, fleet: Fleet, key_name: str) -> None:
    """By what each of those has noted of whom it made or gave out one for."""
    assert clients.error(CLIENT, FEATURES[0]) == ""  # it has run
    made = {name: fleet.members[name].out(AUDIT.format(key=key_name)).splitlines() for name in fleet.workers}
    assert any(json.loads(line)["outcome"] == "ok" for lines in made.values() for line in lines), made
