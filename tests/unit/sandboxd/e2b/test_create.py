"""POST /v2/sandboxes and /sandboxes."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from sandboxd.e2b.create import OLD_TIMEOUT_S, TIMEOUT_S
from sandboxd.errors import LedgerError
from sandboxd.tokens import agent_token
from tests.unit.sandboxd.conftest import KEY, World
from tests.unit.sandboxd.e2b.conftest import Public


def test_the_answer_is_e2bs(public: Public, world: World) -> None:
    made = public.create(metadata={"a": "b"}, envVars={"X": "1"})
    found = made["sandboxID"]
    assert made == {
        "templateID": "base",
        "sandboxID": found,
        "clientID": "local",
        "envdVersion": "0.6.13",
        "envdAccessToken": agent_token(KEY, found),
        "trafficAccessToken": None,
        "domain": "example.com",
    }
    (row,) = world.ledger.find(found)
    assert (row.owner, row.metadata, row.envs, row.timeout_s, row.on_timeout) == (
        "team",
        {"a": "b"},
        {"X": "1"},
        TIMEOUT_S,
        "kill",
    )


@pytest.mark.parametrize("warm", [False, True])
def test_relative_paths_begin_at_home(public: Public, world: World, warm: bool) -> None:
    if warm:
        world.sandboxes.create_member(world.config.templates["base"], lambda: True)
        world.pool.enable()
    (row,) = world.ledger.find(public.create()["sandboxID"])
    assert row.origin == ("pool" if warm else "cold")
    assert json.loads(world.sandboxes.dirs.read(row.slot))["workdir"] == ""


def test_the_older_form(public: Public, world: World) -> None:
    body = {"templateID": "base", "secure": False, "autoPause": False, "allow_internet_access": True}
    answer = public.http.post("/sandboxes", json=body)
    assert answer.status_code == 201 and answer.json()["envdAccessToken"], "ours are always secured"
    (row,) = world.ledger.find(answer.json()["sandboxID"])
    assert row.timeout_s == OLD_TIMEOUT_S


@pytest.mark.parametrize("name", ["base", "team/base", "base:latest", "team/base:default"])
def test_names_of_templates(public: Public, name: str) -> None:
    assert public.create(templateID=name)["templateID"] == "base"


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({}, 400, "templateID"),
        ({"templateID": 1}, 400, "templateID"),
        ({"templateID": "nothing"}, 404, "template 'nothing' not found"),
        ({"templateID": "base:v2"}, 404, "template 'base:v2' not found"),
        ({"templateID": "base", "timeout": 0}, 400, "timeout"),
        ({"templateID": "base", "timeout": -5}, 400, "timeout"),
        ({"templateID": "base", "timeout": "5"}, 400, "timeout"),
        ({"templateID": "base", "metadata": {"a": 1}}, 400, "metadata"),
        ({"templateID": "base", "envVars": {"A=": "1"}}, 400, "envVars"),
        ({"templateID": "base", "network": {"maskRequestHost": "a b"}}, 400, "network.maskRequestHost: 'a b'"),
        ({"templateID": "base", "network": {"maskRequestHost": "a|b"}}, 400, "network.maskRequestHost: 'a|b'"),
        ({"templateID": "base", "network": {"maskRequestHost": "a*"}}, 400, "network.maskRequestHost: 'a*'"),
        ({"templateID": "base", "network": {"maskRequestHost": "a" * 256}}, 400, "network.maskRequestHost"),
        ({"templateID": "base", "network": {"allowPublicTraffic": "no"}}, 400, "allowPublicTraffic"),
        ({"templateID": "base", "autoResume": {"enabled": "yes"}}, 400, "autoResume"),
        ({"templateID": "base", "allow_internet_access": "no"}, 400, "allow_internet_access"),
        ({"templateID": "base", "network": {"denyOut": ["10.0.0.0/33"]}}, 400, "network.denyOut: '10.0.0.0/33' is no"),
        ({"templateID": "base", "network": {"allowOut": ["example.com"]}}, 400, "'example.com' is a name"),
        ({"templateID": "base", "network": {"allowOut": ["::1"]}}, 400, "network.allowOut: '::1' cannot be allowed"),
        ({"templateID": "base", "network": {"denyOut": "10.0.0.0/8"}}, 400, "network.denyOut: '10.0.0.0/8' is no list"),
        ({"templateID": "base", "network": {"denyOut": [1]}}, 400, "network.denyOut: [1] is no list"),
        ({"templateID": "base", "network": {"dnsServers": ["1.1.1.1"]}}, 400, "network.dnsServers"),
        ({"templateID": "base", "network": {"egressProxy": {"address": "a:1"}}}, 400, "network.egressProxy"),
        ({"templateID": "base", "network": {"denyOut": ["::/0"], "rules": {"a.com": [{}]}}}, 400, "network.rules"),
        ({"templateID": "base", "mcp": {"x": 1}}, 400, "mcp"),
        ({"templateID": "base", "volumeMounts": [{"name": "a", "path": "/x"}]}, 404, "volume 'a' not found"),
    ],
)
def test_what_is_refused(public: Public, world: World, body: dict[str, Any], status: int, said: str) -> None:
    for path in ("/v2/sandboxes", "/sandboxes"):
        assert said in public.refused("POST", path, status, json=body)
    assert world.engine.empty()


@pytest.mark.parametrize(
    "network", [None, {}, {"allowPublicTraffic": True, "denyOut": [], "allowOut": None, "maskRequestHost": ""}]
)
def test_network_options_that_ask_for_nothing(public: Public, network: dict[str, Any] | None) -> None:
    public.create(network=network, allow_internet_access=True, mcp=None, iam=None, autoResume={"enabled": False})


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"', b"\xff", b'{"templateID": "\\ud800"}'])
def test_malformed_bodies(public: Public, content: bytes) -> None:
    public.refused("POST", "/v2/sandboxes", 400, content=content, headers={"Content-Type": "application/json"})


def test_a_repeated_request_makes_one_sandbox(public: Public, world: World) -> None:
    once = {"Idempotency-Key": "job-1"}
    with ThreadPoolExecutor(4) as several:
        made = list(several.map(lambda _: public.create(once, timeout=60)["sandboxID"], range(8)))
    assert len(set(made)) == 1 and len(world.engine.containers) == 1
    assert public.create({"Idempotency-Key": "job-10"})["sandboxID"] != made[0]
    assert Public(world, "other").create(once)["sandboxID"] != made[0]
    said = public.refused("POST", "/v2/sandboxes", 409, json={"templateID": "base", "timeout": 61}, headers=once)
    assert "another body" in said
    public.http.delete(f"/sandboxes/{made[0]}")
    said = public.refused("POST", "/v2/sandboxes", 404, json={"templateID": "base", "timeout": 60}, headers=once)
    assert "has ended: removed by request" in said


@pytest.mark.parametrize("warm", [False, True])
def test_a_request_that_failed_may_come_again(public: Public, world: World, warm: bool) -> None:
    """Nobody was given the sandbox that it began to make."""
    once = {"Idempotency-Key": "job-1"}
    if warm:
        world.sandboxes.create_member(world.sandboxes.template("base"), lambda: True)
    world.haproxy.refuses = True
    public.refused("POST", "/v2/sandboxes", 503, json={"templateID": "base", "timeout": 60}, headers=once)
    world.haproxy.refuses = False
    made = public.create(once, timeout=60)["sandboxID"]
    assert public.create(once, timeout=60)["sandboxID"] == made


@pytest.mark.parametrize("warm", [False, True])
def test_one_that_failed_is_gone_even_when_its_request_cannot_be_forgotten(
    public: Public, world: World, monkeypatch: pytest.MonkeyPatch, warm: bool
) -> None:
    def full(_: str) -> None:
        raise LedgerError("the disk is full")

    monkeypatch.setattr(world.ledger, "forget_request", full)
    if warm:
        world.sandboxes.create_member(world.sandboxes.template("base"), lambda: True)
    world.haproxy.refuses = True
    body = {"templateID": "base", "timeout": 60}
    assert public.http.post("/v2/sandboxes", json=body, headers={"Idempotency-Key": "job-1"}).status_code >= 500
    assert world.ledger.rows("creating", "running") == []


def test_a_request_whose_member_was_dead_may_come_again(public: Public, world: World) -> None:
    once = {"Idempotency-Key": "job-1"}
    for _ in range(2):
        world.sandboxes.create_member(world.sandboxes.template("base"), lambda: True)
    answers = iter([False, True])
    world.sandboxes.host = replace(world.sandboxes.host, alive=lambda _: next(answers))
    made = public.create(once, timeout=60)["sandboxID"]
    assert public.create(once, timeout=60)["sandboxID"] == made


def test_a_key_of_a_request_has_a_form(public: Public) -> None:
    headers = {"Idempotency-Key": "a b"}
    assert "dempotency" in public.refused("POST", "/v2/sandboxes", 400, json={"templateID": "base"}, headers=headers)


def test_a_key_has_its_limit(world: World) -> None:
    small, other = Public(world, "small", max_sandboxes=2), Public(world, "other")
    first = small.create()["sandboxID"]
    small.create()
    answer = small.http.post("/v2/sandboxes", json={"templateID": "base"})
    assert answer.status_code == 429 and answer.headers["retry-after"] and "may have 2 sandboxes" in answer.text
    other.create()
    small.http.delete(f"/sandboxes/{first}")
    small.create()


def test_a_host_that_is_full_says_when_to_come_again(public: Public, world: World) -> None:
    world.memory_mb[0] = 0
    answer = public.http.post("/v2/sandboxes", json={"templateID": "base"})
    assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0


def test_a_private_one_tells_its_token_and_nobody_else_s_gate_opens(public: Public, world: World) -> None:
    open_one, private = public.create(), public.create(network={"allowPublicTraffic": False})
    assert open_one["trafficAccessToken"] is None
    token = private["trafficAccessToken"]
    digest = hashlib.sha256(token.encode()).hexdigest()
    routed = dict(world.haproxy.map)
    assert routed[private["sandboxID"]].split("|")[1] == digest and "|" not in routed[open_one["sandboxID"]]
    again = public.http.post(f"/v2/sandboxes/{private['sandboxID']}/connect", json={"timeout": 60}).json()
    assert again["trafficAccessToken"] == token
    details = public.http.get(f"/sandboxes/{private['sandboxID']}").json()
    assert details["network"]["allowPublicTraffic"] is False


def test_the_host_name_that_servers_see(public: Public, world: World) -> None:
    made = public.create(network={"allowPublicTraffic": True, "maskRequestHost": "localhost:${PORT}"})
    assert dict(world.haproxy.map)[made["sandboxID"]].endswith("||localhost:*")
    details = public.http.get(f"/sandboxes/{made['sandboxID']}").json()
    assert details["network"]["maskRequestHost"] == "localhost:${PORT}"


@pytest.mark.parametrize("enabled", [True, False])
def test_one_that_a_request_resumes_keeps_a_route(public: Public, world: World, enabled: bool) -> None:
    made = public.create(autoPause=True, autoResume={"enabled": enabled})["sandboxID"]
    assert public.http.post(f"/sandboxes/{made}/pause").status_code == 204
    assert dict(world.haproxy.map).get(made) == ("asleep" if enabled else None)
    details = public.http.get(f"/sandboxes/{made}").json()
    assert details["lifecycle"] == {"onTimeout": "pause", "autoResume": enabled}
