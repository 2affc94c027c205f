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
ROLES: dict[str, dict[str, Any]] = {"single": {}, "manager": MANAGER, "worker": WORKER}


def managers(count: int) -> dict[str, dict[str, str]]:
    return {f"m{number}": {"role": "manager", "address": f"192.0.2.{11 + number}"} for number in range(count)}


def test_a_single_host_is_in_no_fleet(data: dict[str, Any]) -> None:
    settings = load(data)
    assert (settings.fleet_role, settings.fleet_nodes, settings.fleet_managers, settings.fleet_node) == ("", {}, (), "")


def test_a_host_knows_its_fleet_and_itself(data: dict[str, Any]) -> None:
    one, two = load(data | MANAGER), load(data | WORKER)
    assert (one.fleet_node, two.fleet_node) == ("a", "b")
    assert one.fleet_managers == two.fleet_managers == (FleetNode("a", "manager", "192.0.2.11"),)


def test_only_managers_order_a_certificate(data: dict[str, Any]) -> None:
    """A fleet of six hosts would have had the five of a week at its first deploy."""
    acme = {"tls_mode": "acme", "acme_email": "ops@example.com", "acme_dns_provider": "cloudflare"}
    wanted = data | acme | {"acme_credentials": ["CLOUDFLARE_DNS_API_TOKEN"]}
    modes = {role: load(wanted | part).on("trixie").tls_mode for role, part in ROLES.items()}
    assert modes == {"single": "acme", "manager": "acme", "worker": "internal"}


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
    changes = {"domain": "other.example", "templates": {"base": {}}, "pool_size": 1, "fleet_memory_share": 1}
    other = load(data | WORKER | changes)
    assert fleetrules.disagreements({"a": one, "b": other}) == [
        "domain is not the same on a and b: 'sandbox.example.com' and 'other.example'. "
        "All hosts of a fleet need the same",
        "templates is not the same on a and b. All hosts of a fleet need the same",
        "fleet_memory_share is not the same on a and b: 0.5 and 1.0. All hosts of a fleet need the same",
    ]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"shared_storage": "volumes"}, "use the absolute path of a directory"),
        ({"shared_storage": "/srv/a b"}, "use the absolute path of a directory"),
        ({"shared_storage": "/srv/v", "fence_command": "fence -x"}, "use the absolute path of a program"),
        ({"fence_command": "/usr/local/sbin/fence"}, "without shared_storage nothing follows"),
        ({"fence_after_s": 1}, "use 5 to 86400 seconds"),
    ],
)
def test_settings_of_shared_storage_that_are_refused(data: dict[str, Any], values: dict[str, Any], said: str) -> None:
    assert said in refusal(data | MANAGER | values)


def test_shared_storage_is_a_fleets(data: dict[str, Any]) -> None:
    assert "only the hosts of a fleet" in refusal(data | {"shared_storage": "/srv/volumes"})
    here = load(data | MANAGER | {"shared_storage": "/srv/volumes", "fence_command": "/usr/local/sbin/fence"})
    there = load(data | WORKER | {"shared_storage": "/srv/other"})
    assert here.fence_after_s == 60
    assert any("shared_storage is not the same" in line for line in fleetrules.disagreements({"a": here, "b": there}))
