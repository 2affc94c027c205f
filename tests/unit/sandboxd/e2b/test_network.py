"""Network options of a create, PUT /sandboxes/{id}/network, and what a sandbox is said to have."""

from typing import Any

import pytest

from sandboxd import nftables
from sandboxd.errors import HostError
from sandboxd.policy import Policy, parse
from tests.unit.sandboxd.conftest import World
from tests.unit.sandboxd.e2b.conftest import Public

CLOSED = parse([], [], internet=False)


def told(public: Public, sandbox_id: str) -> tuple[bool, list[str], list[str]]:
    detail = public.http.get(f"/sandboxes/{sandbox_id}").json()
    return detail["allowInternetAccess"], detail["network"]["allowOut"], detail["network"]["denyOut"]


def held(world: World, sandbox_id: str, policy: Policy) -> bool:
    (row,) = world.ledger.find(sandbox_id)
    return row.policy == policy and world.nft.rules(row.slot) == nftables.chains(policy).get("from", [])


@pytest.mark.parametrize(
    ("options", "policy"),
    [
        ({}, Policy()),
        ({"allow_internet_access": True, "network": {"allowPublicTraffic": True}}, Policy()),
        ({"allow_internet_access": False}, CLOSED),
        ({"network": {"denyOut": ["0.0.0.0/0"]}}, CLOSED),
        ({"allow_internet_access": False, "network": {"allowOut": ["192.0.2.7"]}}, Policy(("192.0.2.7",), CLOSED.deny)),
        (
            {"network": {"allowOut": ["1.1.0.0/16"], "denyOut": ["1.0.0.0/8", "::/0"]}},
            Policy(("1.1.0.0/16",), ("1.0.0.0/8", "::/0")),
        ),
    ],
)
@pytest.mark.parametrize("warm", [False, True])
def test_what_is_asked_for_is_held_and_told(
    public: Public, world: World, options: dict[str, Any], policy: Policy, warm: bool
) -> None:
    if warm:
        world.sandboxes.create_member(world.config.templates["base"], lambda: True)
        world.pool.enable()
    found = public.create(**options)["sandboxID"]
    assert held(world, found, policy)
    assert told(public, found) == (not policy.closed, list(policy.allow), list(policy.deny))


@pytest.mark.parametrize(
    ("body", "policy"),
    [
        ({"denyOut": ["1.0.0.0/8"], "allowOut": ["1.1.0.0/16"]}, Policy(("1.1.0.0/16",), ("1.0.0.0/8",))),
        ({"allow_internet_access": False}, CLOSED),
        ({"allow_internet_access": True, "denyOut": None, "rules": {}, "dnsServers": []}, Policy()),
        ({"mode": "none"}, CLOSED),
        ({}, Policy()),
    ],
)
def test_put_replaces_all_that_was_said(public: Public, world: World, body: dict[str, Any], policy: Policy) -> None:
    found = public.create(network={"denyOut": ["192.0.2.0/24"], "allowOut": ["192.0.2.7"]})["sandboxID"]
    answer = public.http.put(f"/sandboxes/{found}/network", json=body)
    assert (answer.status_code, answer.content) == (204, b"")
    assert held(world, found, policy)
    assert told(public, found) == (not policy.closed, list(policy.allow), list(policy.deny))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"denyOut": ["nonsense/8"]}, "network.denyOut: 'nonsense/8'"),
        ({"allowOut": ["example.com"]}, "'example.com' is a name, which does nothing unless all else is denied"),
        ({"denyOut": ["example.com"]}, "'example.com' is a name, and names can only be allowed"),
        ({"allowOut": ["nonsense"], "denyOut": ["0.0.0.0/0"]}, "'nonsense' has no dot"),
        ({"allowOut": ["169.254.169.254"]}, "'169.254.169.254/32' is in a private or reserved network"),
        ({"mode": 1}, "network.mode: 1 is no text"),
        ({"mode": "wide"}, "network.mode: 'wide' is none of"),
        ({"denyOut": "10.0.0.0/8"}, "is no list of texts"),
        ({"allow_internet_access": "no"}, "allow_internet_access: 'no' is neither true nor false"),
        ({"allow_internet_access": 0}, "allow_internet_access: 0 is neither"),
        ({"rules": {"a.com": []}, "dnsServers": ["1.1.1.1"]}, "rules, dnsServers: this host cannot do that yet"),
        ({"denyOut": ["10.0.0.0/8"], "whatever": 1}, "whatever: this host cannot do that yet"),
        ([], "dictionary"),
    ],
)
def test_a_put_that_is_refused_changes_nothing(public: Public, world: World, body: Any, said: str) -> None:
    found = public.create(allow_internet_access=False)["sandboxID"]
    assert said in public.refused("PUT", f"/sandboxes/{found}/network", 400, json=body)
    assert held(world, found, CLOSED)


def test_whose_network_it_is_and_whether_it_runs(public: Public, world: World) -> None:
    found = public.create()["sandboxID"]
    body = {"allow_internet_access": False}
    assert "not found" in public.refused("PUT", "/sandboxes/ffffffffffff/network", 404, json=body)
    assert "not found" in Public(world, "other").refused("PUT", f"/sandboxes/{found}/network", 404, json=body)
    public.http.post(f"/sandboxes/{found}/pause")
    assert "is paused" in public.refused("PUT", f"/sandboxes/{found}/network", 409, json=body)
    assert held(world, found, Policy())
    public.http.delete(f"/sandboxes/{found}")
    public.refused("PUT", f"/sandboxes/{found}/network", 404, json=body)


def test_a_host_that_refuses_is_tried_again_by_the_client(public: Public, world: World) -> None:
    found = public.create()["sandboxID"]
    world.nft.fail = HostError("nft refuses")
    answer = public.http.put(f"/sandboxes/{found}/network", json={"allow_internet_access": False})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    world.reconciler.tick()
    assert held(world, found, CLOSED), "what was asked for comes about by itself, too"


def test_a_key_gets_no_open_network_unless_the_host_says_so(public: Public, world: World) -> None:
    found = public.create()["sandboxID"]
    assert "not for API keys" in public.refused("PUT", f"/sandboxes/{found}/network", 403, json={"mode": "open"})
    body = {"templateID": "base", "network": {"mode": "open"}}
    assert "api_open_network" in public.refused("POST", "/v2/sandboxes", 403, json=body)
    assert held(world, found, Policy()) and len(world.ledger.rows("running")) == 1
