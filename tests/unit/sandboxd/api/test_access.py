"""Who is trusted with what."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from fastapi import FastAPI

from tests.unit.sandboxd.clients import NOBODY, Client, Direct
from tests.unit.sandboxd.conftest import World


def test_a_socket_that_is_none_of_ours_is_trusted_with_nothing(client: Direct) -> None:
    assert client.unix.get("/v2/sandboxes").status_code == 200
    assert client.elsewhere.get("/v2/sandboxes").status_code == 401


def calls_of(app: FastAPI) -> set[tuple[str, str]]:
    paths = app.openapi()["paths"]
    return {(method.upper(), path) for path, methods in paths.items() for method in methods} - {("GET", "/health")}


@pytest.fixture
def alone(world: World) -> Iterator[Client]:
    """Served, on a host that tells an examination nothing."""
    with closing(Client(world, NOBODY)) as made:
        yield made


def test_every_route_but_health_is_refused_by_tcp_without_a_key(alone: Client) -> None:
    """Over real sockets: what uvicorn says of its own end of the connection is what decides."""
    trusted, public = calls_of(alone.app.trusted), calls_of(alone.app.public)
    assert len(trusted) >= 25 and len(public) >= 12
    for method, path in sorted(trusted | public):
        body = {"templateID": "base", "timeout": 1}
        for headers in ({}, {"X-API-KEY": "guess"}, {"Authorization": "Bearer e2b_" + "0" * 40}):
            answer = alone.tcp.request(method, path, json=body, headers=headers)
            wanted = [401] if (method, path) in public else [401, 404, 405]
            assert answer.status_code in wanted and answer.json()["code"] == answer.status_code, (method, path)
    for method, path in sorted(trusted):
        for_a_key = path.startswith("/warm/e2b/")  # a manager of a fleet asks on behalf of one
        assert (alone.unix.request(method, path, json={}).status_code == 401) == for_a_key, path
    assert alone.tcp.get("/health").text == "ok\n"


def test_health_is_for_everyone_but_names_troubles_to_the_trusted_only(client: Direct, world: World) -> None:
    assert client.tcp.get("/health").text == client.unix.get("/health").text == "ok\n"
    world.health.report("sandbox 4f1c0a9be2d7", "its last log lines")
    assert client.unix.get("/health").text == "sandbox 4f1c0a9be2d7: its last log lines\n"
    public = client.tcp.get("/health")
    assert public.status_code == 200 and public.text.startswith("1 troubles") and "4f1c" not in public.text


def test_whose_key_it_is(served: Client) -> None:
    made = served.unix.post("/keys", json={"name": "ada", "host": True}).json()
    shown = {name: value for name, value in made.items() if name != "key"}
    assert shown["host"] is True
    assert served.unix.post("/keys/find", json={"key": made["key"]}).json() == shown
    assert served.unix.get(f"/keys/{made['keyID']}").json() == shown
    for text in ("", "e2b_", made["key"][:-1], "\x00", "x" * 10_000):
        answer = served.unix.post("/keys/find", json={"key": text})
        assert (answer.status_code, answer.json()["message"]) == (401, "Invalid API key")
    served.unix.delete(f"/keys/{made['keyID']}")
    assert served.unix.get(f"/keys/{made['keyID']}").status_code == 404
    assert served.unix.post("/keys/find", json={"key": made["key"]}).status_code == 401
    assert served.tcp.get(f"/keys/{made['keyID']}").status_code in (401, 404), "only the Unix socket's"


def test_a_sandbox_that_is_made_for_a_key(served: Client) -> None:
    """As that key itself would make it: of its name, and within its limit."""
    key = served.unix.post("/keys", json={"name": "ada", "maxSandboxes": 1}).json()
    made = served.create(keyID=key["keyID"])
    assert served.unix.get(f"/sandboxes/{made['sandboxID']}").json()["owner"] == "ada"
    refused = served.unix.post("/v2/sandboxes", json={"keyID": key["keyID"]})
    assert refused.status_code == 429 and "may have 1 sandboxes" in refused.json()["message"]
    by_itself = served.tcp.post("/v2/sandboxes", json={"templateID": "base"}, headers={"X-API-Key": key["key"]})
    assert by_itself.status_code == 429, "one limit for both ways"
    assert served.unix.post("/v2/sandboxes", json={"keyID": "nothing"}).status_code == 404
    assert served.create()["sandboxID"], "nobody's limit"
