"""What the service of a fleet reads of a host, and keys that are replaced by newer ones."""

from typing import Any

import pytest

from sandboxd.catalog import KEY_CHANGES
from sandboxd.keys import Keys, digest, fingerprint
from tests.unit.sandboxd.conftest import World, member
from tests.unit.sandboxd.test_api import Direct


@pytest.fixture
def client(world: World) -> Direct:
    return Direct(world)


def test_the_inventory(client: Direct) -> None:
    world = client.world
    warm = member(world)
    made = client.create(cold=True, volume="work")["sandboxID"]
    assert client.unix.post(f"/sandboxes/{made}/snapshots", json={"name": "saved"}).status_code == 201
    found = client.unix.get("/inventory").json()
    (listed,) = client.unix.get("/v2/sandboxes").json()
    assert found["sandboxes"] == [{**listed, "cpus": 2.0}] and listed["sandboxID"] == made
    assert found["warm"] == [{"sandboxID": warm, "templateID": "base", "memoryMB": 2048, "cpus": 2.0}]
    assert found["volumes"] == [{"name": "work", "owner": "", "title": ""}] and found["pools"] is False
    assert {"name": "saved", "memoryMB": 2048, "cpus": 2.0} in found["templates"]
    assert found["keys"] == {"version": 0, "fingerprint": fingerprint({})}


def test_it_is_not_for_strangers(client: Direct) -> None:
    for path in ("/inventory", "/keys/digests", "/nodes"):
        assert client.tcp.get(path).status_code == 404


def test_a_host_alone_has_no_nodes(client: Direct) -> None:
    answer = client.unix.get("/nodes")
    assert answer.status_code == 404 and answer.json()["message"] == "this host is not part of a fleet"


def digests(client: Direct) -> dict[str, Any]:
    return dict(client.unix.get("/keys/digests").json())


def test_keys_are_taken_over_and_counted_from_then_on(client: Direct) -> None:
    keys = Keys(client.world.ledger)
    made, text = keys.create("ci", 3, 1.5, host=True)
    found = digests(client)
    assert found["version"] == 0 and client.world.ledger.counter(KEY_CHANGES) == 0
    (only,) = found["keys"]
    assert only == {
        "digest": digest(text),
        "id": made.id,
        "name": "ci",
        "max_sandboxes": 3,
        "created_at": 1.5,
        "host": True,
    }
    other = {**only, "digest": "0" * 64, "name": "else"}
    assert client.unix.put("/keys", json={"version": 4, "keys": [other]}).status_code == 204
    assert digests(client) == {"version": 4, "keys": [other]} and keys.find(text) is None
    keys.create("more", 0, 1.0)
    keys.revoke(only["id"])
    assert digests(client)["version"] == 6
    assert client.unix.put("/keys", json=found | {"version": 9}).status_code == 204
    assert keys.find(text) == made


def test_older_and_wrong_ones_are_refused(client: Direct) -> None:
    keys = Keys(client.world.ledger)
    _, text = keys.create("ci", 0, 1.0)
    assert client.unix.put("/keys", json=digests(client) | {"version": 1}).status_code == 204
    answer = client.unix.put("/keys", json={"version": 1, "keys": []})
    assert answer.status_code == 409 and "version 1" in answer.json()["message"]
    for body in ({"version": 2}, {"version": 2, "keys": [{"digest": "x"}]}, {"version": 0, "keys": []}):
        assert client.unix.put("/keys", json=body).status_code == 400
    assert keys.find(text) is not None


def test_a_fingerprint_is_that_of_all_there_is(world: World) -> None:
    keys = Keys(world.ledger)
    seen = {fingerprint({})}
    made, _ = keys.create("ci", 0, 1.0)
    seen.add(fingerprint(keys.digests()[1]))
    keys.create("ci", 0, 2.0)
    seen.add(fingerprint(keys.digests()[1]))
    keys.revoke(made.id)
    assert len(seen | {fingerprint(keys.digests()[1])}) == 4
