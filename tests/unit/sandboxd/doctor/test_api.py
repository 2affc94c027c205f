"""POST /doctor: findings as lines."""

import json
from dataclasses import replace
from typing import Any

import pytest

from sandboxd.doctor.checks import LOOKS
from sandboxd.doctor.effects import Effects
from tests.unit.ports import nobody
from tests.unit.sandboxd.clients import Direct
from tests.unit.sandboxd.conftest import World


@pytest.fixture
def client(world: World, effects: Effects) -> Direct:
    return Direct(world, effects)


def examine(client: Direct, **body: Any) -> list[dict[str, str]]:
    answer = client.unix.post("/doctor", json=body)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def test_without_a_probe(client: Direct, world: World) -> None:
    findings = examine(client, probe=False)
    assert [one["name"] for one in findings] == [check.name for check in LOOKS]
    assert findings[0] == {"name": "unit-docker", "level": "ok", "seen": "active (running)", "remedy": ""}
    assert not world.ledger.rows("running", "gone")


def test_with_a_probe_of_which_nothing_is_left(client: Direct, world: World) -> None:
    """No gateway listens, so that its command fails."""
    with nobody() as address:
        world.sandboxes.config = replace(world.config, gateway=replace(world.config.gateway, address=address))
        found = {one["name"]: one for one in examine(client)}
    assert found["probe-made"]["level"] == found["probe-removed"]["level"] == "ok"
    assert found["probe-command"]["level"] == "fail" and found["probe-url"]["level"] == "blocked"
    assert not world.ledger.rows("running") and world.ledger.rows("gone")[0].name == "doctor"


@pytest.mark.parametrize("body", [{"probe": "yes"}, {"fix": True}])
def test_wishes_that_it_does_not_know(client: Direct, body: dict[str, Any]) -> None:
    assert client.unix.post("/doctor", json=body).status_code == 400


def test_strangers_are_refused(client: Direct) -> None:
    assert client.tcp.post("/doctor", json={}).status_code == 404, "what answers by TCP has no such thing"
