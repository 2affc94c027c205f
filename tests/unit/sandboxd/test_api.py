"""The HTTP API: translation of requests, rows and errors; and who is trusted."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import uvicorn

from sandboxd import api
from sandboxd.__main__ import open_tcp, open_unix
from sandboxd.slotdir import access_token
from tests.unit.sandboxd.conftest import KEY, World, down


class Client:
    """Requests over the daemon's real Unix socket, served by uvicorn as in the daemon."""

    def __init__(self, world: World) -> None:
        self.world = world
        services = api.Services(world.sandboxes, world.pool, world.reconciler, world.health)
        self.sockets = [open_unix(world.config.socket, "root"), open_tcp(world.config.listen)]
        options = uvicorn.Config(api.build(services), log_config=None, access_log=False, server_header=False)
        self.server = uvicorn.Server(options)
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve(self.sockets)))
        self.thread.start()
        deadline = time.monotonic() + 5
        while not self.server.started:
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.002)
        self.unix = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(world.config.socket)), base_url="http://sandboxd", trust_env=False
        )
        port = self.sockets[1].getsockname()[1]
        self.tcp = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False)

    def close(self) -> None:
        self.unix.close()
        self.tcp.close()
        self.server.should_exit = True
        self.thread.join(10)

    def create(self, **body: Any) -> dict[str, Any]:
        answer = self.unix.post("/v2/sandboxes", json=body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    made = Client(world)
    yield made
    made.close()


def test_create_answers_in_e2bs_words(client: Client) -> None:
    answer = client.unix.post("/v2/sandboxes", json={"templateID": "base", "unknown": "ignored"})
    assert (answer.status_code, answer.headers["x-sandbox-origin"]) == (201, "cold")
    body = answer.json()
    found = body["sandboxID"]
    assert body == {
        "templateID": "base",
        "sandboxID": found,
        "clientID": "local",
        "envdVersion": api.ENVD_VERSION,
        "url": f"https://qa-{found}.example.com",
        "envdAccessToken": access_token(KEY, found),
        "trafficAccessToken": None,
        "domain": "example.com",
    }


def test_list_and_detail(client: Client) -> None:
    found = client.create(timeout=60, metadata={"task": "x"}, name="demo", keep=True)["sandboxID"]
    (listed,) = client.unix.get("/v2/sandboxes").json()
    assert (listed["sandboxID"], listed["metadata"], listed["name"], listed["keep"]) == (
        found,
        {"task": "x"},
        "demo",
        True,
    )
    assert (listed["cpuCount"], listed["memoryMB"], listed["state"], listed["unlimited"]) == (2, 2048, "running", False)
    assert listed["startedAt"] == "2027-01-15T08:00:00.000Z" and listed["endAt"] == "2027-01-15T08:01:00.000Z"
    assert "envdAccessToken" not in listed
    detail = client.unix.get(f"/sandboxes/{found[:12]}").json()
    assert detail["envdAccessToken"] == access_token(KEY, found) and detail["address"].startswith("10.200.")


def test_a_prefix_that_fits_two_is_a_conflict_that_names_both(client: Client) -> None:
    ids = [client.create()["sandboxID"] for _ in range(2)]
    answer = client.unix.get("/sandboxes/0000")
    assert answer.status_code == 409 and all(one in answer.json()["message"] for one in ids)


def test_remove_once(client: Client, world: World) -> None:
    found = client.create()["sandboxID"]
    assert client.unix.delete(f"/sandboxes/{found}").status_code == 204
    again = client.unix.delete(f"/sandboxes/{found}")
    assert (again.status_code, again.json()) == (404, {"code": 404, "message": f"sandbox '{found}' not found"})
    assert world.engine.empty()


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"templateID": "huge"}, 404, ["huge", "base, large"]),
        ({"timeout": -1}, 400, ["timeout", "-1"]),
        ({"timeout": "long"}, 400, ["timeout", "long"]),
        ({"metadata": {"a": 1}}, 400, ["metadata.a", "1"]),
        ({"envVars": {"A=B": "x"}}, 400, ["envVars", "A=B"]),
        ({"keep": "yes"}, 400, ["keep", "yes"]),
        ({"name": "x" * 200}, 400, ["name"]),
        (["no", "object"], 400, ["the body"]),
    ],
)
def test_bad_fields_are_named_with_their_value(client: Client, body: Any, status: int, words: list[str]) -> None:
    answer = client.unix.post("/v2/sandboxes", json=body)
    assert answer.status_code == status
    assert answer.json()["code"] == status and all(word in answer.json()["message"] for word in words), answer.text
    assert client.world.engine.empty()


def test_broken_json_unknown_paths_and_methods_have_the_same_form(client: Client) -> None:
    broken = client.unix.post("/v2/sandboxes", content=b"{", headers={"Content-Type": "application/json"})
    assert broken.status_code == 400 and broken.json()["code"] == 400
    assert client.unix.get("/nothing").json() == {"code": 404, "message": "Not Found"}
    assert client.unix.put("/pool").json()["code"] == 405


def test_docker_being_down_says_when_to_try_again(client: Client, world: World) -> None:
    world.engine.fail["image_id"] = down()
    answer = client.unix.post("/v2/sandboxes", json={})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_an_error_of_ours_is_not_shown_but_can_be_found(
    client: Client, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.engine.fail["create_network"] = RuntimeError("a secret detail")
    answer = client.unix.post("/v2/sandboxes", json={})
    assert answer.status_code == 500 and "secret" not in answer.text
    reference = answer.json()["message"].rsplit(" ", 1)[1]
    assert reference in caplog.text and "a secret detail" in caplog.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/sandboxes"),
        ("POST", "/v2/sandboxes"),
        ("GET", "/sandboxes/x"),
        ("DELETE", "/sandboxes/x"),
        ("GET", "/pool"),
        ("POST", "/pool"),
        ("POST", "/cleanup"),
        ("GET", "/routes"),
        ("POST", "/routes/sync"),
    ],
)
def test_tcp_is_refused_without_a_key(client: Client, method: str, path: str) -> None:
    answer = client.tcp.request(method, path, json={}, headers={"X-API-KEY": "guess"})
    assert (answer.status_code, answer.json()) == (401, {"code": 401, "message": "Invalid API key"})


def test_health_is_for_everyone_and_tells_troubles(client: Client, world: World) -> None:
    assert client.tcp.get("/health").text == "ok\n"
    world.health.report("pool", "no image")
    assert client.tcp.get("/health").text == "pool: no image\n"


def test_the_pool(client: Client, world: World) -> None:
    world.pool.start()
    assert client.unix.get("/pool").json()["enabled"] is False
    assert client.unix.post("/pool", json={"enabled": True}).json()["enabled"] is True
    deadline = time.monotonic() + 5
    while client.unix.get("/pool").json()["warm"] < 2:
        assert time.monotonic() < deadline
    assert client.unix.post("/v2/sandboxes", json={}).headers["x-sandbox-origin"] == "pool"
    drained = client.unix.post("/pool", json={"enabled": False}).json()
    assert (drained["enabled"], drained["warm"], drained["hits"]) == (False, 0, 1)
    assert client.unix.post("/pool", json={"enabled": "maybe"}).status_code == 400


def test_cleanup_and_routes(client: Client, world: World) -> None:
    kept, old = client.create(keep=True)["sandboxID"], client.create()["sandboxID"]
    world.now[0] += 10
    assert client.unix.post("/cleanup", json={"olderThan": 5}).json() == {"removed": [old], "kept": [kept]}
    world.haproxy.map = []
    assert client.unix.get("/routes").json()["missing"] == [kept]
    assert client.unix.post("/routes/sync").json()["in_step"] is True
    assert client.unix.post("/cleanup", json={"olderThan": -5}).status_code == 400


def test_the_socket_is_for_root_and_the_group(client: Client, world: World) -> None:
    assert world.config.socket.stat().st_mode & 0o777 == 0o660


def test_bodies_are_json(client: Client) -> None:
    assert json.loads(client.unix.get("/v2/sandboxes").text) == []
