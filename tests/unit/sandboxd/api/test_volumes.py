"""Requests about disks and volumes."""

from typing import Any

import pytest

from sandboxd.disks import Usage
from tests.unit.sandboxd.clients import Direct
from tests.unit.sandboxd.conftest import World


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"diskMB": 3}, "diskMB"),
        ({"diskMB": -1}, "diskMB"),
        ({"volume": "../ledger"}, "volume"),
        ({"volume": "Data"}, "volume"),
        ({"volume": "data\n"}, "volume"),
        ({"volume": "-data"}, "volume"),
        ({"volume": "x" * 64}, "volume"),
    ],
)
def test_disks_and_names_of_volumes_are_checked(client: Direct, body: Any, named: str) -> None:
    answer = client.unix.post("/v2/sandboxes", json=body)
    assert answer.status_code == 400 and named in answer.json()["message"]
    assert client.world.engine.empty() and client.unix.get("/volumes").json() == []


def test_volumes(client: Direct, world: World) -> None:
    found = client.create(volume="data", diskMB=100)["sandboxID"]
    assert client.unix.get("/volumes").json() == [
        {
            "name": "data",
            "sizeMB": 100,
            "usedBytes": None,
            "sandboxID": found,
            "createdAt": "2027-01-15T08:00:00.000Z",
            "owner": "",
            "title": "",
            "shared": False,
        }
    ]
    taken = client.unix.post("/v2/sandboxes", json={"volume": "data"})
    assert taken.status_code == 409 and found in taken.json()["message"]
    refused = client.unix.delete("/volumes/data")
    assert refused.status_code == 409 and found in refused.json()["message"]
    client.unix.delete(f"/sandboxes/{found}")
    assert client.unix.get("/volumes").json()[0]["sandboxID"] == ""
    assert client.unix.delete("/volumes/data").status_code == 204
    assert client.unix.get("/volumes").json() == [] and world.sandboxes.disks.size_mb("data") is None
    assert client.unix.delete("/volumes/data").status_code == 404


def test_the_space_that_a_mounted_volume_takes(client: Direct, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    client.create(volume="data")
    monkeypatch.setattr(world.sandboxes.disks, "usage", lambda slot: Usage(7, 9))
    assert client.unix.get("/volumes").json()[0]["usedBytes"] == 7


@pytest.mark.parametrize("name", ["..%2Fledger", "Data", "data.img", "-x"])
def test_a_name_that_no_volume_can_have_is_refused(client: Direct, name: str) -> None:
    assert client.unix.delete(f"/volumes/{name}").status_code in (400, 404)
