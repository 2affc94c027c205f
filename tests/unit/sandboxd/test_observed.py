"""What requests leave behind: every one that may change something a record, with the right actor and no secret."""

import json
import os
import pwd
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from sandboxd.actions import ACTIONS, SAFE, action_of
from sandboxd.audit import OFTEN
from sandboxd.config import Config, Fleet
from sandboxd.front import Front
from sandboxd.keys import Keys
from sandboxd.tokens import volume_token
from tests.unit.sandboxd.clients import NOBODY, Client, services
from tests.unit.sandboxd.conftest import (
    KEY,
    OWN_GROUP,
    World,
    config_in,
    living,
    services_of,
    short_directory,
    until,
)
from tests.unit.sandboxd.e2b.conftest import Public
from tests.unit.sandboxd.fake_engine import down

ID = "0123456789ab"
# All that the gateway asks; a wake is recorded as such.
LOOKS = {"/resume/{sandbox_id}", "/wake/{sandbox_id}", "/find", "/started"}


def records(world: World) -> list[dict[str, Any]]:
    file = world.config.audit_log
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def told(world: World) -> list[tuple[str, str, str]]:
    """Action, sandbox and outcome of each record, without those of pools that are filled meanwhile."""
    return [(one["action"], one["sandbox"], one["outcome"]) for one in records(world) if one["action"] != "fill"]


def routes(app: FastAPI) -> list[tuple[str, str]]:
    """The method and path of every route, of included routers too."""
    found = list[tuple[str, str]]()
    for route in app.routes:
        contexts: list[Any] = (
            list(route.effective_route_contexts()) if hasattr(route, "effective_route_contexts") else [route]
        )
        for one in contexts:
            found += [(method, one.path) for method in one.methods or ()]
    return sorted(found)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Front]]:
    with short_directory() as directory, living(config_in(directory)) as world:
        yield world, Front(services(world, NOBODY))


def changing(front: Front) -> list[tuple[str, str, str]]:
    apps = {"cli": front.trusted, "e2b": front.public}
    return [(name, *route) for name, app in apps.items() for route in routes(app) if route[0] not in SAFE]


def test_every_request_that_may_change_something_leaves_a_record(front: tuple[World, Front]) -> None:
    """Whatever comes of it, here a refusal mostly. A new route needs a name in `actions`."""
    world, app = front
    key = Keys(world.ledger).create("team", 0, world.now[0])[1]
    found = changing(app)
    assert len(found) > 40, "the routes are found"
    token = volume_token(KEY, "v")
    for name, method, path in found:
        world.now[0] += 61  # those who are refused often are summed up
        before = len(records(world))
        target = path
        for parameter in ("sandbox_id", "name", "volume_id", "volume", "key_id", "digest", "build_id", "name:path"):
            target = target.replace(f"{{{parameter}}}", ID)
        target = target.replace(f"/volumecontent/{ID}", "/volumecontent/v")
        client = TestClient(app, raise_server_exceptions=False)
        headers = {"X-API-KEY": key, "Authorization": f"Bearer {token}"}
        if name == "cli":
            client = TestClient(Trusted(app, str(world.config.socket)), raise_server_exceptions=False)
        client.request(method, target, json={}, headers=headers)
        made = records(world)[before:]
        assert made, f"{method} {path} of {name} leaves no record"
        assert made[-1]["action"] == ACTIONS.get(f"{method} {path}"), f"{method} {path} has no name in sandboxd.actions"
        assert (
            made[-1]["actor"]["kind"] == ("user" if name == "cli" and "/e2b/" not in path else "key")
            or "volumecontent" in path
            or (made[-1]["status"] == 401)
        )


def test_no_name_is_of_a_route_that_is_no_more(front: tuple[World, Front]) -> None:
    present = {f"{method} {path}" for _, method, path in changing(front[1])}
    assert sorted(ACTIONS.keys() - present) == []


def test_what_the_gateway_asks_is_known(front: tuple[World, Front]) -> None:
    assert {path for _, path in routes(front[1].gateway)} == LOOKS


class Trusted:
    """As if requests came by a Unix socket, for those that are not worth a server."""

    def __init__(self, app: Front, path: str) -> None:
        self._app, self._path = app, path

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app({**scope, "server": (self._path, None)} if scope["type"] == "http" else scope, receive, send)


def test_a_request_without_a_name_is_recorded_all_the_same() -> None:
    assert action_of("POST", "/new/{thing}") == "POST /new/{thing}"
    assert action_of("POST", "") == "request"


@pytest.fixture
def public(world: World) -> Public:
    return Public(world)


@pytest.fixture
def served(world: World) -> Iterator[Client]:
    made = Client(world)
    yield made
    made.close()


def test_the_whole_life_of_a_sandbox_by_the_command_line(served: Client, world: World) -> None:
    made = served.create(metadata={"a": "secret-1"}, envVars={"B": "secret-2"})
    path = f"/sandboxes/{made['sandboxID'][:6]}"
    served.unix.post(f"{path}/pause")
    served.unix.post(f"{path}/resume", json={})
    served.unix.post(f"{path}/stop")
    served.unix.post(f"{path}/start", json={})
    served.unix.post(f"{path}/timeout", json={"timeout": 60})
    served.unix.put(f"{path}/network", json={"allow_internet_access": False})
    served.unix.get(path)
    served.unix.post(f"{path}/snapshots", json={"name": "copy"})
    served.unix.delete(path)
    names = ("create", "pause", "resume", "stop", "start", "extend", "network", "snapshot", "kill")
    assert told(world) == [(name, made["sandboxID"], "ok") for name in names]
    uid = os.getuid()
    for one in records(world):
        assert one["actor"] == {"kind": "user", "id": str(uid), "name": pwd.getpwuid(uid).pw_name}
        assert one["template"] == "base" and one["ms"] > 0 and one["address"] == ""
    assert "secret" not in world.config.audit_log.read_text()


def test_the_console_says_for_whom(served: Client, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nobody else is believed."""
    headers = {"X-On-Behalf-Of": "1a2b3c4d team", "X-Forwarded-For": "203.0.113.7"}
    served.unix.post("/v2/sandboxes", json={}, headers=headers)
    monkeypatch.setattr("sandboxd.behalf.user_name", lambda uid: f"{world.config.project}-console")
    served.unix.post("/v2/sandboxes", json={}, headers=headers)
    served.unix.post("/keys/find", json={"key": "wrong"}, headers={"X-Forwarded-For": "203.0.113.8"})
    user, key, signing = records(world)
    assert (user["actor"]["kind"], user["address"]) == ("user", "")
    assert (key["actor"], key["address"]) == ({"kind": "key", "id": "1a2b3c4d", "name": "team"}, "203.0.113.7")
    assert (signing["actor"]["kind"], signing["action"], signing["status"]) == ("user", "sign-in", 401)
    assert signing["address"] == "203.0.113.8"


def test_a_manager_of_a_fleet_says_for_whom(config: Config) -> None:
    """On the socket that is for managers, and on no other."""
    socket = config.socket.with_name("node.sock")
    with living(replace(config, fleet=Fleet(socket, OWN_GROUP, manages=False))) as world:
        front = Front(services_of(world))
        headers = {"X-On-Behalf-Of": "user 1000 ada", "X-Forwarded-For": "203.0.113.7"}
        for path in (socket, config.socket):
            made = TestClient(Trusted(front, str(path))).post("/v2/sandboxes", json={}, headers=headers)
            assert made.status_code == 201
        fleet = TestClient(Trusted(front, str(socket)))
        fleet.post("/pool", json={"enabled": True, "template": ""})
        fleet.post("/v2/sandboxes", json={}, headers={"X-On-Behalf-Of": "key 1a2b3c4d team"})
        fleet.post("/warm/e2b/v2/sandboxes", json={}, headers={**headers, "X-On-Behalf-Of": "nobody"})
        lines = [one for one in records(world) if one["action"] != "fill"]
    assert [(one["actor"], one["address"]) for one in lines] == [
        ({"kind": "user", "id": "1000", "name": "ada"}, "203.0.113.7"),
        ({"kind": "user", "id": "", "name": ""}, ""),
        ({"kind": "fleet", "id": "", "name": ""}, ""),
        ({"kind": "key", "id": "1a2b3c4d", "name": "team"}, ""),
        ({"kind": "nobody", "id": "", "name": ""}, "203.0.113.7"),
    ]


def test_a_claim_is_told_from_a_create(served: Client, world: World) -> None:
    world.pool.enable()
    assert world.sandboxes.create_member(world.config.templates["base"], lambda: True)
    for _ in range(2):
        served.create()
    assert [action for action, _, _ in told(world)] == ["claim", "create"]


def test_a_key_with_its_name_and_its_client(public: Public, world: World) -> None:
    address = {"X-Forwarded-For": "203.0.113.9"}
    made = public.create(headers=address)["sandboxID"]
    for path in ("pause", "connect", "timeout"):
        public.http.post(f"/sandboxes/{made}/{path}", json={"timeout": 60}, headers=address)
    public.http.post(f"/sandboxes/{made}/fork", json={"count": 2}, headers=address)
    public.http.delete(f"/sandboxes/{made}", headers=address)
    lines = records(world)
    (key,) = world.ledger.keys()
    assert {json.dumps(one["actor"]) for one in lines} == {json.dumps({"kind": "key", "id": key.id, "name": "team"})}
    assert {one["address"] for one in lines} == {"203.0.113.9"}
    actions = [action for action, _, _ in told(world)]
    assert actions == ["create", "pause", "connect", "extend", "create", "create", "fork", "kill"]
    assert public.key not in world.config.audit_log.read_text()


def test_refusals_say_why_but_not_what_was_sent(public: Public, world: World) -> None:
    public.http.post("/v2/sandboxes", json={"templateID": "base", "envVars": {"A": ["hunter2"]}})
    public.http.post("/v2/sandboxes", json={"templateID": "base", "envVars": {"PASSWORD=hunter2": "x"}})
    public.http.post("/v2/sandboxes", json={"templateID": "none"})
    public.http.delete(f"/sandboxes/{ID}")
    public.http.post("/v2/sandboxes", json={"templateID": "base"}, headers={"X-API-KEY": "e2b_hunter2"})
    public.http.post("/nowhere")
    world.engine.fail["create_network"] = down()
    public.http.post("/v2/sandboxes", json={"templateID": "base"})
    lines = records(world)
    assert [(one["action"], one["status"]) for one in lines] == [
        ("create", 400),
        ("create", 400),
        ("create", 404),
        ("kill", 404),
        ("create", 401),
        ("request", 404),
        ("create", 503),
    ]
    assert lines[0]["error"].startswith("envVars.A: ") and lines[1]["error"] == "envVars"
    assert lines[2]["error"].startswith("template 'none' not found") and lines[3]["sandbox"] == ID
    assert [one["actor"]["kind"] for one in lines[4:6]] == ["nobody", "nobody"]
    assert "hunter2" not in world.config.audit_log.read_text()


def test_strangers_cannot_fill_the_disk(public: Public, world: World) -> None:
    for _ in range(OFTEN * 3):
        assert public.http.post("/v2/sandboxes", json={}, headers={"X-API-KEY": "e2b_0"}).status_code == 401
    assert len(records(world)) == OFTEN
    world.now[0] += 61
    world.sandboxes.audit.settle()
    assert records(world)[-1]["detail"].startswith(f"{OFTEN * 2} more within 60 s")


def test_an_answer_that_goes_on_is_recorded_by_its_end(served: Client, world: World) -> None:
    """A build answers 200 before it begins."""
    world.engine.fail["build"] = down()
    answer = served.unix.post("/templates/mine/build", content=b"FROM x")
    assert answer.status_code == 200 and "error" in answer.text
    assert told(world) == [("template-build", "", "error")]
    assert served.unix.post("/templates/mine/build", content=b"FROM x").status_code == 200
    assert [action for action, _, outcome in told(world)[1:]] == ["create", "remove", "template-build"]


def test_a_build_in_the_background_is_recorded_when_it_ends(public: Public, world: World) -> None:
    build = public.http.post("/v3/templates", json={"name": "mine"}).json()
    public.http.post(f"/v2/templates/mine/builds/{build['buildID']}", json={"fromTemplate": "base", "steps": []})
    status = f"/templates/mine/builds/{build['buildID']}/status"
    until(lambda: public.http.get(status).json()["status"] == "ready", "the build ends")
    begun = [one for one in records(world) if one["action"] == "template-build"]
    assert [one["actor"]["name"] for one in begun] == ["team"] * 3
    assert {one["template"] for one in begun} == {"mine"}


def test_what_the_host_does_for_many_is_recorded_one_by_one(served: Client, world: World) -> None:
    ids = [served.create()["sandboxID"] for _ in range(2)]
    world.now[0] += 100
    served.unix.post("/cleanup", json={"olderThan": 10})
    found = [(one["actor"]["kind"], one["action"], one["sandbox"]) for one in records(world)[2:]]
    assert sorted(found[:2]) == [("cleanup", "remove", one) for one in sorted(ids)]
    assert found[2:] == [("user", "cleanup", "")]
    assert records(world)[2]["actor"]["id"] == str(os.getuid()), "who asked for it"
    assert world.sandboxes.create_member(world.config.templates["base"], lambda: True)
    served.unix.post("/pool", json={"enabled": False})
    assert [(one["action"], one["actor"]["kind"]) for one in records(world)[-2:]] == [
        ("remove", "user"),
        ("pool", "user"),
    ]


def test_a_request_that_wakes_a_sandbox_is_the_gateways(public: Public, world: World) -> None:
    made = public.create(autoPause=True, autoResume={"enabled": True})["sandboxID"]
    public.http.post(f"/sandboxes/{made}/pause")
    gateway = TestClient(Trusted(public.front, str(world.config.gateway.socket)))
    assert gateway.get(f"/resume/{made}").status_code == 200
    assert (records(world)[-1]["actor"]["kind"], told(world)[-1]) == ("gateway", ("wake", made, "ok"))


def test_expiry_and_pause_by_timeout(public: Public, world: World) -> None:
    first, second = public.create(timeout=10)["sandboxID"], public.create(timeout=20, autoPause=True)["sandboxID"]
    world.now[0] += 30
    world.reconciler._try_expire()
    found = [(one["actor"]["kind"], one["action"], one["sandbox"], one["detail"]) for one in records(world)[2:]]
    assert sorted(found) == [
        ("expiry", "pause", second, "timeout reached"),
        ("expiry", "remove", first, "timeout reached"),
    ]


def test_a_client_that_leaves_is_recorded(served: Client, world: World) -> None:
    """The work goes on, and so does its record."""
    gate, create = threading.Event(), world.engine.create_network

    def slow(payload: dict[str, Any]) -> None:
        gate.wait(15)
        create(payload)

    world.engine.create_network = slow  # type: ignore[method-assign]
    with pytest.raises(httpx.ReadTimeout):
        served.unix.post("/v2/sandboxes", json={}, timeout=0.2)
    gate.set()
    until(lambda: len(told(world)) == 1, "it is recorded")
    assert told(world)[0][0] == "create"


def test_there_are_no_websockets(public: Public) -> None:
    with pytest.raises(WebSocketDisconnect), public.http.websocket_connect("/v2/sandboxes"):
        pass


def test_every_action_is_explained() -> None:
    page = (Path(__file__).parents[3] / "docs/observe.md").read_text()
    plain = {name for name in ACTIONS.values() if not name.startswith(("template-", "volume-"))}
    assert sorted(name for name in plain if f"`{name}`" not in page) == []


def test_requests_are_counted_by_route_and_never_by_path(served: Client, world: World) -> None:
    served.unix.get(f"/sandboxes/{ID}")
    served.unix.get("/health")
    served.unix.request("BREW", "/coffee")
    served.tcp.get("/v2/sandboxes")
    name = "sandboxd_http_request_duration_seconds_count"
    samples = {
        tuple(sample.labels.values()): sample.value
        for family in world.sandboxes.figures.registry.collect()
        for sample in family.samples
        if sample.name == name
    }
    assert samples == {
        ("cli", "GET", "/sandboxes/{sandbox_id}", "4xx"): 1,
        ("cli", "GET", "/health", "2xx"): 1,
        ("cli", "other", "other", "4xx"): 1,
        ("e2b", "GET", "/v2/sandboxes", "4xx"): 1,
    }
