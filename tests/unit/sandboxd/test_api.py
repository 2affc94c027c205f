"""The HTTP API: translation of requests, rows and errors; and who is trusted."""

import asyncio
import json
import math
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from sandboxd import api
from sandboxd.__main__ import open_tcp, open_unix
from sandboxd.admission import Admission
from sandboxd.api.sandboxes import ENVD_VERSION
from sandboxd.bodies import MAX_BODY_BYTES
from sandboxd.config import Config
from sandboxd.disks import Usage
from sandboxd.doctor.effects import Effects
from sandboxd.engine import Found
from sandboxd.front import Front
from sandboxd.peers import PeerProtocol
from sandboxd.tokens import agent_token
from tests.unit.sandboxd.conftest import KEY, World, living, services_of, until
from tests.unit.sandboxd.fake_engine import down

REAL = Effects()


def services(world: World, effects: Effects) -> api.Services:
    return replace(services_of(world), effects=effects)


class Server(uvicorn.Server):
    """Ends when it is told to: uvicorn looks every 0.1 s for that, and then gives its connections as long again."""

    def __init__(self, options: uvicorn.Config) -> None:
        super().__init__(options)
        self._end = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self._end.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if not self.force_exit:
            await super().shutdown(sockets)
            return
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self.lifespan.shutdown()

    def end(self) -> None:
        """From another thread."""
        self._loop.call_soon_threadsafe(self._end.set)


class Client:
    """Requests over the daemon's real Unix socket, served by uvicorn as in the daemon."""

    def __init__(self, world: World, effects: Effects = REAL) -> None:
        self.world = world
        self.app = Front(services(world, effects))
        self.sockets = [open_unix(world.config.socket, world.config.socket_group), open_tcp(world.config.listen)]
        options = uvicorn.Config(self.app, http=PeerProtocol, log_config=None, access_log=False, server_header=False)
        self.server = Server(options)
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve(self.sockets)))
        self.thread.start()
        deadline = time.monotonic() + 5
        while not self.server.started:
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.002)
        self.unix = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(world.config.socket)),
            base_url="http://sandboxd",
            trust_env=False,
            timeout=30,
        )
        port = self.sockets[1].getsockname()[1]
        self.tcp = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30)

    def close(self) -> None:
        self.unix.close()
        self.tcp.close()
        self.server.end()
        self.thread.join(10)

    def create(self, **body: Any) -> dict[str, Any]:
        answer = self.unix.post("/v2/sandboxes", json=body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())


@pytest.fixture
def served(world: World) -> Iterator[Client]:
    made = Client(world)
    yield made
    made.close()


class Direct:
    """Requests straight into the app, as if they had come by the Unix socket, or by TCP."""

    def __init__(self, world: World, effects: Effects = REAL) -> None:
        self.world = world
        app = Front(services(world, effects))

        def by_unix(path: str) -> TestClient:
            async def front(scope: Scope, receive: Receive, send: Send) -> None:
                await app({**scope, "server": (path, None)}, receive, send)

            return TestClient(front, raise_server_exceptions=False)

        self.unix, self.elsewhere = by_unix(str(world.config.socket)), by_unix("/run/elsewhere.sock")
        self.tcp = TestClient(app, raise_server_exceptions=False)

    def create(self, **body: Any) -> dict[str, Any]:
        answer = self.unix.post("/v2/sandboxes", json=body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())


@pytest.fixture
def client(world: World) -> Direct:
    return Direct(world)


def test_create_answers_in_e2bs_words(client: Direct) -> None:
    answer = client.unix.post("/v2/sandboxes", json={"templateID": "base", "unknown": "ignored"})
    assert (answer.status_code, answer.headers["x-sandbox-origin"]) == (201, "cold")
    body = answer.json()
    found = body["sandboxID"]
    assert body == {
        "templateID": "base",
        "sandboxID": found,
        "clientID": "local",
        "envdVersion": ENVD_VERSION,
        "url": f"https://qa-{found}.example.com",
        "envdAccessToken": agent_token(KEY, found),
        "trafficAccessToken": None,
        "domain": "example.com",
    }


def test_a_socket_that_is_none_of_ours_is_trusted_with_nothing(client: Direct) -> None:
    assert client.unix.get("/v2/sandboxes").status_code == 200
    assert client.elsewhere.get("/v2/sandboxes").status_code == 401


def test_list_and_detail(client: Direct) -> None:
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
    assert detail["envdAccessToken"] == agent_token(KEY, found) and detail["address"].startswith("10.200.")


def test_a_prefix_that_fits_two_is_a_conflict_that_names_both(client: Direct) -> None:
    ids = [client.create()["sandboxID"] for _ in range(2)]
    answer = client.unix.get("/sandboxes/0000")
    assert answer.status_code == 409 and all(one in answer.json()["message"] for one in ids)


def test_remove_once(client: Direct, world: World) -> None:
    found = client.create()["sandboxID"]
    assert client.unix.delete(f"/sandboxes/{found}").status_code == 204
    again = client.unix.delete(f"/sandboxes/{found}")
    assert (again.status_code, again.json()["code"]) == (404, 404)
    message = again.json()["message"]
    assert message.startswith(f"sandbox '{found}' not found: it ended on 2027-01-15 08:00:00 UTC: removed by request")
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
def test_bad_fields_are_named_with_their_value(client: Direct, body: Any, status: int, words: list[str]) -> None:
    answer = client.unix.post("/v2/sandboxes", json=body)
    assert answer.status_code == status
    assert answer.json()["code"] == status and all(word in answer.json()["message"] for word in words), answer.text
    assert client.world.engine.empty()


def test_broken_json_unknown_paths_and_methods_have_the_same_form(client: Direct) -> None:
    broken = client.unix.post("/v2/sandboxes", content=b"{", headers={"Content-Type": "application/json"})
    assert broken.status_code == 400 and broken.json()["code"] == 400
    assert broken.json()["message"].startswith("the body is not valid JSON: Expecting property name")
    assert client.unix.get("/nothing").json() == {"code": 404, "message": "Not Found"}
    assert client.unix.put("/pool").json()["code"] == 405


def test_docker_being_down_says_when_to_try_again(client: Direct, world: World) -> None:
    world.engine.fail["image_id"] = down()
    answer = client.unix.post("/v2/sandboxes", json={})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_an_error_of_ours_is_not_shown_but_can_be_found(
    client: Direct, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.engine.fail["create_network"] = RuntimeError("a secret detail")
    answer = client.unix.post("/v2/sandboxes", json={})
    assert answer.status_code == 500 and "secret" not in answer.text
    reference = answer.json()["message"].rsplit(" ", 1)[1]
    assert reference in caplog.text and "a secret detail" in caplog.text


def calls_of(app: FastAPI) -> set[tuple[str, str]]:
    paths = app.openapi()["paths"]
    return {(method.upper(), path) for path, methods in paths.items() for method in methods} - {("GET", "/health")}


def test_every_route_but_health_is_refused_by_tcp_without_a_key(served: Client) -> None:
    """Over real sockets: what uvicorn says of its own end of the connection is what decides."""
    trusted, public = calls_of(served.app.trusted), calls_of(served.app.public)
    assert len(trusted) >= 25 and len(public) >= 12
    for method, path in sorted(trusted | public):
        body = {"templateID": "base", "timeout": 1}
        for headers in ({}, {"X-API-KEY": "guess"}, {"Authorization": "Bearer e2b_" + "0" * 40}):
            answer = served.tcp.request(method, path, json=body, headers=headers)
            wanted = [401] if (method, path) in public else [401, 404, 405]
            assert answer.status_code in wanted and answer.json()["code"] == answer.status_code, (method, path)
    for method, path in sorted(trusted):
        for_a_key = path.startswith("/warm/e2b/")  # a manager of a fleet asks on behalf of one
        assert (served.unix.request(method, path, json={}).status_code == 401) == for_a_key, path
    assert served.tcp.get("/health").text == "ok\n"


def test_health_is_for_everyone_but_names_troubles_to_the_trusted_only(client: Direct, world: World) -> None:
    assert client.tcp.get("/health").text == client.unix.get("/health").text == "ok\n"
    world.health.report("sandbox 4f1c0a9be2d7", "its last log lines")
    assert client.unix.get("/health").text == "sandbox 4f1c0a9be2d7: its last log lines\n"
    public = client.tcp.get("/health")
    assert public.status_code == 200 and public.text.startswith("1 troubles") and "4f1c" not in public.text


def test_a_body_that_is_too_large_is_refused_before_it_is_kept(client: Direct) -> None:
    """Also from strangers by TCP: bodies are read before keys are checked."""
    body = b'{"name": "' + b"x" * MAX_BODY_BYTES + b'"}'
    for side in (client.unix, client.tcp):
        answer = side.post("/v2/sandboxes", content=body, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (413, 413)
        assert str(MAX_BODY_BYTES) in answer.json()["message"]
    large = client.unix.post("/v2/sandboxes", json={"metadata": {"a": "x" * (MAX_BODY_BYTES // 2)}})
    assert large.status_code == 201


@pytest.mark.parametrize("key", ["templateID", "name"])
def test_half_a_surrogate_pair_is_refused(client: Direct, key: str) -> None:
    """It is valid JSON, but no answer that names it could be encoded: the list would fail from then on."""
    status, message = create_ascii(client, {key: "\ud800"})
    assert status == 400 and key in message and "\\ud800" in message


@pytest.mark.parametrize("key", ["metadata", "envVars"])
@pytest.mark.parametrize("pair", [{"a": "\udfff"}, {"\udfff": "a"}])
def test_neither_in_keys_nor_in_values(client: Direct, key: str, pair: dict[str, str]) -> None:
    status, message = create_ascii(client, {key: pair})
    assert status == 400 and key in message and "surrogate" in message
    assert client.unix.get("/v2/sandboxes").json() == []


@pytest.mark.parametrize("number", [math.nan, math.inf, 1e10, 0, -0.0])
def test_a_timeout_that_is_no_time_is_refused(client: Direct, number: float) -> None:
    status, message = create_ascii(client, {"timeout": number})
    assert status == 400 and f"got {number!r}" in message


def test_a_full_host_says_when_to_try_again(client: Direct, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.sandboxes, "admission", Admission(0, max_waiting=0))
    answer = client.unix.post("/v2/sandboxes", json={})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "Try again" in answer.json()["message"]


@pytest.mark.parametrize("path", ["/v2/sandboxes", "/sandboxes/{}/start"])
def test_a_host_without_memory_says_so(client: Direct, world: World, path: str) -> None:
    found = client.create()["sandboxID"]
    assert client.unix.post(f"/sandboxes/{found}/stop").status_code == 204
    world.memory_mb[0] = 1000
    answer = client.unix.post(path.format(found), json={})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    assert answer.json()["message"].startswith("this host is full: 1000 MB of memory are available")


def test_fifty_at_once_all_get_an_answer(config: Config) -> None:
    """Each is made, or refused with a time to try again; what was made is there, and nothing else."""
    with living(replace(config, max_sandboxes=30)) as world:
        served = Client(world)
        world.pool.start()
        world.pool.enable()
        together = threading.Barrier(50)

        def create(number: int) -> httpx.Response:
            together.wait(30)
            return served.unix.post("/v2/sandboxes", json={"name": f"number {number}"}, timeout=60)

        try:
            with ThreadPoolExecutor(50) as several:
                answers = list(several.map(create, range(50)))
            refused = [answer for answer in answers if answer.status_code != 201]
            assert {(answer.status_code, answer.headers["retry-after"]) for answer in refused} == {(503, "30")}
            made = {answer.json()["sandboxID"] for answer in answers if answer.status_code == 201}
            assert len(made) + len(refused) == 50 and 28 <= len(made) <= 30
            assert {row["sandboxID"] for row in served.unix.get("/v2/sandboxes").json()} == made
            names = {row["name"] for row in served.unix.get("/v2/sandboxes").json()}
            assert names == {f"number {number}" for number, one in enumerate(answers) if one.status_code == 201}
        finally:
            served.close()


def test_an_agent_that_never_answers_is_not_worth_a_repetition(client: Direct, world: World) -> None:
    world.dead.add("10.200.0.1")
    answer = client.unix.post("/v2/sandboxes", json={})
    assert answer.status_code == 500 and "the last line" in answer.json()["message"]
    assert "retry-after" not in answer.headers and answer.headers["should-retry"] == "false"


def test_without_a_timeout_it_is_unlimited(client: Direct, world: World) -> None:
    for body in ({}, {"timeout": None}):
        client.create(**body)
    rows = client.unix.get("/v2/sandboxes").json()
    assert [(row["unlimited"], row["endAt"] > "2036") for row in rows] == [(True, True)] * 2
    assert world.ledger.next_end() is None


def test_objects_that_nobody_knows_are_swept_on_request(client: Direct, world: World) -> None:
    world.engine.networks["acme-net-x"] = Found("network", "acme-net-x", "x", world.now[0])
    assert client.unix.post("/cleanup", json={"olderThan": 60}).status_code == 200
    assert not world.engine.empty()
    assert client.unix.post("/cleanup", json={"olderThan": 60, "unknown": True}).status_code == 200
    assert world.engine.empty()


def create_ascii(client: Direct, body: dict[str, Any]) -> tuple[int, str]:
    """Status and message; the body is spelled with escapes and NaN, which httpx refuses to send."""
    headers = {"Content-Type": "application/json"}
    answer = client.unix.post("/v2/sandboxes", content=json.dumps(body).encode(), headers=headers)
    return answer.status_code, str(answer.json()["message"])


def test_the_pool(client: Direct, world: World) -> None:
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


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"size": 1, "template": "huge"}, 404),
        ({"size": -1}, 400),
        ({"size": 1001}, 400),
        ({"size": 1.5}, 400),
        ({}, 400),
        ({"size": 1, "enabled": True}, 400),
        ({"size": 100}, 400),
    ],
)
def test_a_size_that_cannot_be(client: Direct, body: dict[str, Any], status: int) -> None:
    answer = client.unix.post("/pool/resize", json=body)
    assert answer.status_code == status and answer.json()["code"] == status, answer.text
    assert client.unix.get("/pool").json()["size"] == 2


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


def test_pause_and_resume(client: Direct, world: World) -> None:
    found = client.create(timeout=60)["sandboxID"]
    assert client.unix.post(f"/sandboxes/{found[:6]}/pause").status_code == 204
    paused = client.unix.get(f"/sandboxes/{found}").json()
    assert (paused["state"], paused["unlimited"]) == ("paused", True)
    assert client.unix.post(f"/sandboxes/{found}/pause").status_code == 204, "one that is paused stays so"
    world.now[0] += 600
    resumed = client.unix.post(f"/sandboxes/{found}/resume", json={})
    assert resumed.status_code == 200 and resumed.json()["state"] == "running"
    assert resumed.json()["endAt"] == "2027-01-15T08:11:00.000Z" and "envdAccessToken" not in resumed.json()


def test_stop_and_start(client: Direct) -> None:
    found = client.create()["sandboxID"]
    assert client.unix.post(f"/sandboxes/{found}/stop").status_code == 204
    (row,) = client.unix.get("/v2/sandboxes").json()
    assert (row["state"], row["reason"]) == ("stopped", "stopped by request")
    assert client.unix.post(f"/sandboxes/{found}/start", json={"timeout": 30}).json()["unlimited"] is False
    client.unix.post(f"/sandboxes/{found}/stop")
    assert client.unix.post(f"/sandboxes/{found}/start", json={"timeout": None}).json()["unlimited"] is True


def test_a_new_end(client: Direct) -> None:
    found = client.create()["sandboxID"]
    assert (
        client.unix.post(f"/sandboxes/{found}/timeout", json={"timeout": 60}).json()["endAt"].endswith("08:01:00.000Z")
    )
    assert client.unix.post(f"/sandboxes/{found}/timeout", json={"timeout": None}).json()["unlimited"] is True


def test_a_larger_disk(client: Direct) -> None:
    found = client.create(diskMB=100, volume="data")["sandboxID"]
    assert client.unix.post(f"/sandboxes/{found}/disk", json={"diskMB": 200}).json()["diskSizeMB"] == 200
    (volume,) = client.unix.get("/volumes").json()
    assert volume["sizeMB"] == 200


@pytest.mark.parametrize(
    ("before", "action", "body", "words"),
    [
        ("stop", "pause", None, "docker-sandbox start"),
        ("", "disk", {"diskMB": 64}, "disks only grow"),
        ("pause", "disk", {"diskMB": 64}, "disks only grow"),
    ],
)
def test_what_does_not_fit_the_state_is_a_conflict(
    client: Direct, before: str, action: str, body: Any, words: str
) -> None:
    found = client.create()["sandboxID"]
    if before:
        client.unix.post(f"/sandboxes/{found}/{before}")
    answer = client.unix.post(f"/sandboxes/{found}/{action}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, 409) and words in answer.json()["message"]


ACTIONS = {"pause": None, "stop": None, "resume": {}, "start": {}, "timeout": {"timeout": 5}, "disk": {"diskMB": 99999}}


@pytest.mark.parametrize("action", ACTIONS)
def test_an_unknown_sandbox_is_not_found_and_one_that_is_gone_says_why(client: Direct, action: str) -> None:
    answer = client.unix.post(f"/sandboxes/ffffffffffff/{action}", json=ACTIONS[action])
    assert answer.status_code == 404 and "'ffffffffffff' not found" in answer.json()["message"]
    found = client.create()["sandboxID"]
    client.unix.delete(f"/sandboxes/{found}")
    again = client.unix.post(f"/sandboxes/{found}/{action}", json=ACTIONS[action])
    assert again.status_code == 404 and "removed by request" in again.json()["message"]


@pytest.mark.parametrize(
    ("action", "body", "named"),
    [
        ("resume", {"timeout": -1}, "timeout"),
        ("resume", {"timeout": "long"}, "timeout"),
        ("start", {"timeout": 0}, "timeout"),
        ("timeout", {"timeout": 1e12}, "timeout"),
        ("timeout", {}, "timeout: is missing"),
        ("disk", {}, "diskMB"),
        ("disk", {"diskMB": 1}, "diskMB"),
        ("disk", {"diskMB": 1 << 40}, "diskMB"),
        ("disk", {"diskMB": "20g"}, "diskMB"),
        ("disk", {"diskMB": 20480, "shrink": True}, "shrink"),
    ],
)
def test_bad_bodies_change_nothing(client: Direct, action: str, body: Any, named: str) -> None:
    found = client.create(timeout=60)["sandboxID"]
    before = client.unix.get(f"/sandboxes/{found}").json()
    answer = client.unix.post(f"/sandboxes/{found}/{action}", json=body)
    assert answer.status_code == 400 and named in answer.json()["message"], answer.text
    assert client.unix.get(f"/sandboxes/{found}").json() == before


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
