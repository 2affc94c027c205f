"""Requests about where a sandbox may connect to."""

from typing import Any

import pytest

from tests.unit.sandboxd.clients import Direct


def test_where_a_sandbox_may_connect_to(client: Direct) -> None:
    lists = {"allowOut": ["192.0.2.7"], "denyOut": ["192.0.2.0/24"]}
    found = client.create(network=lists)["sandboxID"]
    detail = client.unix.get(f"/sandboxes/{found}").json()
    assert (detail["allowInternetAccess"], detail["network"]) == (True, {"mode": "public", **lists})
    answer = client.unix.put(f"/sandboxes/{found}/network", json={"allow_internet_access": False})
    assert (answer.status_code, answer.json()["network"]["denyOut"]) == (200, ["0.0.0.0/0"])
    assert client.unix.get("/v2/sandboxes").json()[0]["allowInternetAccess"] is False
    wide = client.unix.put(f"/sandboxes/{found}/network", json={"mode": "open", "allowOut": ["10.1.2.3"]}).json()
    assert (wide["allowInternetAccess"], wide["network"]["mode"]) == (True, "open")
    closed = client.create(allow_internet_access=False)["sandboxID"]
    assert client.unix.get(f"/sandboxes/{closed}").json()["allowInternetAccess"] is False


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"denyOut": ["nowhere"]}, "network.denyOut: 'nowhere' is a name"),
        ({"denyOut": "192.0.2.0/24"}, "denyOut"),
        ({"deny": []}, "deny"),
        ({"mode": "wide"}, "network.mode: 'wide' is none of open, public, none"),
        ({"allowOut": ["169.254.169.254"]}, "in a private or reserved network"),
        ({"allow_internet_access": 1}, "allow_internet_access"),
    ],
)
def test_a_policy_that_is_none(client: Direct, body: dict[str, Any], said: str) -> None:
    found = client.create()["sandboxID"]
    answer = client.unix.put(f"/sandboxes/{found}/network", json=body)
    assert answer.status_code == 400 and said in answer.json()["message"]
    assert client.unix.put("/sandboxes/ffffffffffff/network", json={}).status_code == 404
