"""What a fleet may be: its managers, its addresses, and what all its hosts must have the same."""

from __future__ import annotations

from typing import Any

import pytest

from deploys import fleetrules
from deploys.loading import load
from deploys.settings import FleetNode
from tests.unit.deploys.conftest import refusal

NODES = {
    "a": {"role": "manager", "address": "192.0.2.11"},
    "b": {"role": "worker", "address": "192.0.2.12"},
}
MANAGER = {"fleet_role": "manager", "fleet_address": "192.0.2.11", "fleet_nodes": NODES}
WORKER = {"fleet_role": "worker", "fleet_address": "192.0.2.12", "fleet_nodes": NODES}


def managers(count: int) -> dict[str, dict[str, str]]:
    return {f"m{number}": {"role": "manager", "address": f"192.0.2.{11 + number}"} for number in range(count)}


def test_a_single_host_is_in_no_fleet(data: dict[str, Any]) -> None:
    settings = load(data)
    assert (settings.fleet_role, settings.fleet_nodes, settings.fleet_managers, settings.fleet_node) == ("", {}, (), "")


def test_a_host_knows_its_fleet_and_itself(data: dict[str, Any]) -> None:
    one, two = load(data | MANAGER), load(data | WORKER)
    assert (one.fleet_node, two.fleet_node) == ("a", "b")
    assert one.fleet_managers == two.fleet_managers == (FleetNode("a", "manager", "192.0.2.11"),)


@pytest.mark.parametrize("count", [1, 3])
def test_one_manager_or_three(count: int, data: dict[str, Any]) -> None:
    assert len(load(data | MANAGER | {"fleet_nodes": managers(count)}).fleet_managers) == count


@pytest.mark.parametrize("count", [0, 2, 4])
def test_no_other_number_of_managers(count: int, data: dict[str, Any]) -> None:
    nodes = managers(count) | {"w": {"role": "worker", "address": "192.0.2.99"}}
    assert "a fleet has 1 or 3 managers" in refusal(data | WORKER | {"fleet_nodes": nodes})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"fleet_role": "leader"}, ["fleet_role = 'leader'", "manager, worker", "'' for a single host"]),
        ({"fleet_role": "worker"}, ["fleet_address = '192.0.2.11'", "is that of no worker among a, b"]),
        ({"fleet_address": "192.0.2.19"}, ["fleet_address = '192.0.2.19'", "is that of no manager among a, b"]),
        ({"fleet_role": ""}, ["fleet_address = '192.0.2.11'", "[managers.*]", "MANAGERS="]),
        ({"fleet_role": "", "fleet_address": ""}, ["fleet_nodes = ['a', 'b']", "a single host has none"]),
        ({"fleet_port": 0}, ["fleet_port = 0", "8443"]),
        ({"fleet_port": 2377}, ["fleet_port = 2377", "no other part of a host"]),
        ({"fleet_port": 65536}, ["fleet_port = 65536"]),
        ({"docker_network_pool": "192.0.0.0/16"}, ["fleet_nodes['a'] = '192.0.2.11'", "is in docker_network_pool"]),
        ({"docker_bridge": "192.0.2.1/24"}, ["fleet_nodes['a'] = '192.0.2.11'", "is in docker_bridge"]),
    ],
    ids=str,
)
def test_refused(changes: dict[str, Any], says: list[str], data: dict[str, Any]) -> None:
    message = refusal(data | MANAGER | changes)
    assert [words for words in says if words not in message] == [], message


@pytest.mark.parametrize(
    ("name", "node", "says"),
    [
        ("B", {"role": "worker", "address": "192.0.2.12"}, "fleet_nodes = 'B': name a host of a fleet with lower-case"),
        ("b_", {"role": "worker", "address": "192.0.2.12"}, "fleet_nodes = 'b_': name a host"),
        ("b/c", {"role": "worker", "address": "192.0.2.12"}, "fleet_nodes = 'b/c': name a host"),
        ("b", {"role": "helper", "address": "192.0.2.12"}, "fleet_nodes['b'] = 'helper': choose one of"),
        ("b", {"role": "worker", "address": "b.example"}, "fleet_nodes['b'] = 'b.example': is no IPv4 address"),
        ("b", {"role": "worker", "address": "2001:db8::7"}, "is no IPv4 address: give the one that the other hosts"),
        ("b", {"role": "worker", "address": "127.0.0.1"}, "no other host reaches that"),
        ("b", {"role": "worker", "address": "192.0.2.11"}, "two hosts of the fleet have it"),
        ("b", {"role": "worker"}, "the inventory makes it"),
        ("b", {"role": "worker", "address": 7}, "the inventory makes it"),
        ("b", "192.0.2.12", "the inventory makes it"),
    ],
)
def test_nodes_refused(name: str, node: Any, says: str, data: dict[str, Any]) -> None:
    assert says in refusal(data | MANAGER | {"fleet_nodes": {"a": NODES["a"], name: node}})


def test_all_hosts_agree_on_what_sandboxes_are(data: dict[str, Any]) -> None:
    one, two = load(data | MANAGER), load(data | WORKER)
    assert fleetrules.disagreements({}) == fleetrules.disagreements({"a": one, "b": two}) == []
    other = load(data | WORKER | {"domain": "other.example", "templates": {"base": {}}, "pool_size": 1})
    assert fleetrules.disagreements({"a": one, "b": other}) == [
        "domain is not the same on a and b: 'sandbox.example.com' and 'other.example'. "
        "All hosts of a fleet need the same",
        "templates is not the same on a and b. All hosts of a fleet need the same",
    ]
