"""Requests about the host: its pool, cleanup and routes."""

from sandboxd.engine import Found
from tests.unit.sandboxd.clients import Direct
from tests.unit.sandboxd.conftest import World, until


def test_objects_that_nobody_knows_are_swept_on_request(client: Direct, world: World) -> None:
    world.engine.networks["acme-net-x"] = Found("network", "acme-net-x", "x", world.now[0])
    assert client.unix.post("/cleanup", json={"olderThan": 60}).status_code == 200
    assert not world.engine.empty()
    assert client.unix.post("/cleanup", json={"olderThan": 60, "unknown": True}).status_code == 200
    assert world.engine.empty()


def test_the_pool(client: Direct, world: World) -> None:
    world.pool.start()
    assert client.unix.get("/pool").json()["enabled"] is False
    assert client.unix.post("/pool", json={"enabled": True}).json()["enabled"] is True
    until(lambda: client.unix.get("/pool").json()["warm"] == 2, "a full pool")
    assert client.unix.post("/v2/sandboxes", json={}).headers["x-sandbox-origin"] == "pool"
    drained = client.unix.post("/pool", json={"enabled": False}).json()
    assert (drained["enabled"], drained["warm"], drained["hits"]) == (False, 0, 1)
    assert client.unix.post("/pool", json={"enabled": "maybe"}).status_code == 400


def test_the_pool_of_one_template(client: Direct, world: World) -> None:
    world.pool.start()
    assert client.unix.post("/pool/resize", json={"size": 1, "template": "large"}).json()["size"] == 3
    assert client.unix.post("/pool/resize", json={"size": 0}).json()["size"] == 1, "that of the default template"
    client.unix.post("/pool", json={"enabled": True, "template": "large"})
    until(lambda: client.unix.get("/pool").json()["warm"] == 1, "a full pool")
    (pool,) = client.unix.get("/pool").json()["pools"]
    assert pool | {"starting": 0} == {
        "template": "large",
        "enabled": True,
        "size": 1,
        "configured": 0,
        "warm": 1,
        "starting": 0,
        "hits": 0,
        "misses": 0,
        "p50_ms": None,
        "p95_ms": None,
        "trouble": "",
        "limit": "",
    }
    made = client.unix.post("/v2/sandboxes", json={"templateID": "large"})
    assert made.headers["x-sandbox-origin"] == "pool"
    assert client.unix.post("/pool", json={"enabled": False, "template": "large"}).json()["warm"] == 0


def test_cleanup_and_routes(client: Direct, world: World) -> None:
    kept, old = client.create(keep=True)["sandboxID"], client.create()["sandboxID"]
    world.now[0] += 10
    assert client.unix.post("/cleanup", json={"olderThan": 5}).json() == {"removed": [old], "kept": [kept]}
    world.haproxy.map = []
    assert client.unix.get("/routes").json()["missing"] == [kept]
    assert client.unix.post("/routes/sync").json()["in_step"] is True
    assert client.unix.post("/cleanup", json={"olderThan": -5}).status_code == 400
    refused = client.unix.post("/cleanup", json={"olderThan": 5, "dryRun": True})
    assert refused.status_code == 400 and "dryRun" in refused.json()["message"]
