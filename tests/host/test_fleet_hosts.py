"""A fleet as `make verify` sees it, by each of its managers: all hosts are there, and what is made there is reached."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.host.api import Api, with_key
from tests.host.machine import Machine, Sandbox

MADE = 3


@pytest.fixture
def manager(machine: Machine) -> Iterator[Machine]:
    """Its `docker-sandbox` means the whole fleet."""
    with Machine(machine.target, machine.lab) as made:
        yield made


def inventory(manager: Machine) -> dict[str, str]:
    """Name -> role of all hosts, as the inventory says."""
    nodes: dict[str, Any] = manager.target.settings["fleet_nodes"]
    return {name: node["role"] for name, node in nodes.items()}


def test_all_hosts_are_there(manager: Machine) -> None:
    rows = json.loads(manager.out("docker-sandbox node ls --json"))
    assert {row["name"]: row["role"] for row in rows} == inventory(manager)
    assert [(row["name"], row["state"]) for row in rows if row["state"] in ("lost", "unknown")] == []
    assert len([row for row in rows if row["leader"]]) == 1


def test_no_host_finds_anything_that_fails(manager: Machine) -> None:
    found = manager.findings()
    assert {name.partition(": ")[0] for name in found} == set(inventory(manager))
    assert {name: one for name, one in found.items() if one["level"] in ("fail", "blocked")} == {}


def test_what_its_api_makes_is_reached_wherever_it_is(manager: Machine) -> None:
    with with_key(manager, "test-fleet-hosts") as api:
        made = [Sandbox(manager, api.create()["sandboxID"]) for _ in range(MADE)]
        listed = {row["sandboxID"]: row for row in manager.listed()}
        for sandbox in made:
            assert listed[sandbox.id]["node"] in inventory(manager)
            assert sandbox.out("echo $((6 * 7))") == "42"
            sandbox.run("echo found >/code/index.html")
            sandbox.serve("python3 -m http.server 8000 --directory /code")
            answer = manager.request("GET", f"{sandbox.url(8000)}/")
            assert (answer.status_code, answer.text) == (200, "found\n")
        assert deleted(api, made) == [204] * MADE


def deleted(api: Api, sandboxes: list[Sandbox]) -> list[int]:
    return [api.request("DELETE", f"/sandboxes/{one.id}").status_code for one in sandboxes]
