"""What the service of a fleet asks a host: what there is, a member of a pool or nothing, keys to be replaced."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sandboxd.catalog import KEY_CHANGES
from sandboxd.config import Fleet
from sandboxd.keys import Keys, digest, fingerprint
from tests.unit.sandboxd.clients import Direct
from tests.unit.sandboxd.conftest import World, member


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
    assert found["sandboxes"] == [{**listed, "cpus": 2.0, "generation": 0}] and listed["sandboxID"] == made
    assert found["warm"] == [{"sandboxID": warm, "templateID": "base", "memoryMB": 2048, "cpus": 2.0}]
    assert found["volumes"] == [{"name": "work", "owner": "", "title": ""}] and found["pools"] is False
    assert {"name": "saved", "memoryMB": 2048, "cpus": 2.0} in found["templates"]
    assert found["keys"] == {"version": 0, "fingerprint": fingerprint({})}


def test_it_is_not_for_strangers(client: Direct) -> None:
    for path in ("/inventory", "/keys/digests", "/nodes", "/fleet/look/b", "/find"):
        assert client.tcp.get(path).status_code == 404


def test_only_a_manager_looks_at_other_hosts(client: Direct, tmp_path: Path) -> None:
    assert "manages no fleet" in client.unix.get("/fleet/look/b").json()["message"]
    sandboxes = client.world.sandboxes
    for manages, status, message in ((False, 404, "manages no fleet"), (True, 503, "fleet service of this host")):
        fleet = Fleet(tmp_path / "node.sock", "haproxy", manages)
        sandboxes.config = replace(sandboxes.config, fleet=fleet, socket=tmp_path / "none.sock")
        answer = client.unix.get("/fleet/look/b")
        assert (answer.status_code, message in answer.json()["message"]) == (status, True)
    assert client.unix.get("/fleet/look/b%20HTTP").status_code == 400


def of_pool(client: Direct, path: str, key: str) -> Any:
    return client.unix.post(path, json={"templateID": "base"}, headers={"X-API-KEY": key})


@pytest.mark.parametrize("path", ["/warm/v2/sandboxes", "/warm/e2b/v2/sandboxes", "/warm/e2b/sandboxes"])
def test_a_member_of_a_pool_or_nothing(client: Direct, path: str) -> None:
    world = client.world
    _, key = Keys(world.ledger).create("ada", 0, 1.5)
    world.pool._settings.turn(True)
    refused = of_pool(client, path, key)
    assert (refused.status_code, refused.json()["code"]) == (410, 410) and "'base' has no warm" in refused.json()[
        "message"
    ]
    assert world.engine.empty() and world.ledger.rows() == [] and world.pool.status().misses == 0
    warm = member(world)
    made = of_pool(client, path, key)
    assert (made.status_code, made.json()["sandboxID"], made.headers["x-sandbox-origin"]) == (201, warm, "pool")
    assert of_pool(client, path, key).status_code == 410
    (row,) = world.ledger.rows("running")
    assert row.owner == ("ada" if "e2b" in path else "") and world.pool.status().hits == 1
    assert client.tcp.post(path, json={"templateID": "base"}, headers={"X-API-KEY": key}).status_code == 404


def test_a_member_of_a_pool_has_no_other_disk_and_a_pool_that_is_off_gives_none(client: Direct) -> None:
    member(client.world)
    assert client.unix.post("/warm/v2/sandboxes", json={}).status_code == 410
    client.world.pool._settings.turn(True)
    assert client.unix.post("/warm/v2/sandboxes", json={"diskMB": 512}).status_code == 410
    assert client.unix.post("/warm/v2/sandboxes", json={}).status_code == 201


def test_the_key_is_looked_at(client: Direct) -> None:
    member(client.world)
    client.world.pool._settings.turn(True)
    assert of_pool(client, "/warm/e2b/v2/sandboxes", "e2b_" + "0" * 40).status_code == 401
    _, key = Keys(client.world.ledger).create("ada", 0, 1.5)
    once = {"X-API-KEY": key, "Idempotency-Key": "once"}
    made = client.unix.post("/warm/e2b/v2/sandboxes", json={"templateID": "base"}, headers=once).json()
    again = client.unix.post("/warm/e2b/v2/sandboxes", json={"templateID": "base"}, headers=once)
    assert again.status_code == 201 and again.json()["sandboxID"] == made["sandboxID"], "though none is warm any more"


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


def test_known_ones_get_another_version_while_they_are_the_same(client: Direct) -> None:
    """What was read before one was made would take it away."""
    keys = Keys(client.world.ledger)
    keys.create("ci", 0, 1.5)
    read = digests(client) | {"known": True}
    assert client.unix.put("/keys", json=read | {"version": 1}).status_code == 204
    made, text = keys.create("more", 0, 2.5)
    answer = client.unix.put("/keys", json=read | {"version": 9})
    assert answer.status_code == 409 and "changed since they were read" in answer.json()["message"]
    assert keys.find(text) == made and digests(client)["version"] == 2


def test_a_fingerprint_is_that_of_all_there_is(world: World) -> None:
    keys = Keys(world.ledger)
    seen = {fingerprint({})}
    made, _ = keys.create("ci", 0, 1.0)
    seen.add(fingerprint(keys.digests()[1]))
    keys.create("ci", 0, 2.0)
    seen.add(fingerprint(keys.digests()[1]))
    keys.revoke(made.id)
    assert len(seen | {fingerprint(keys.digests()[1])}) == 4
