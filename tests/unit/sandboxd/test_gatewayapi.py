"""What the gateway asks: as HAProxy's Lua does, one request for a connection."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from envd.auth import file_signature
from sandboxd import AGENT_PORT, gatewayapi
from sandboxd.config import Fleet
from sandboxd.errors import EngineError, GatewayError
from sandboxd.gatewayapi import LEAST_S, Signature
from sandboxd.records import TOKEN, Claim, Sandbox
from sandboxd.tokens import agent_token
from tests.unit.sandboxd.conftest import KEY, OWN_GROUP, World, services_of, until

PAUSED = Callable[..., Sandbox]


@pytest.fixture
def gateway(world: World) -> Iterator[TestClient]:
    with TestClient(gatewayapi.build(services_of(world))) as client:  # with: all requests in one loop, as in the daemon
        yield client


@pytest.fixture
def paused(world: World) -> PAUSED:
    def make(auto_resume: bool = True, timeout_s: float | None = 300.0) -> Sandbox:
        claim = Claim(timeout_s, auto_resume=auto_resume)
        row = world.sandboxes.create(world.sandboxes.template("base"), claim)
        return world.transitions.pause(row)

    return make


def state(world: World, row: Sandbox) -> str:
    found = world.ledger.get(row.slot)
    return found.state if found else "none"


def awake(world: World, row: Sandbox) -> bool:
    """It runs, and whoever has woken it is done with it: the ledger says so first of all."""
    return state(world, row) == "running" and not world.sandboxes.locks.held(row.slot)


def test_a_paused_one_is_resumed_and_its_address_told(world: World, gateway: TestClient, paused: PAUSED) -> None:
    row = paused()
    assert dict(world.haproxy.map)[row.id] == "asleep"
    answer = gateway.get(f"/resume/{row.id}")
    assert (answer.status_code, answer.text) == (200, row.address)
    assert state(world, row) == "running" and dict(world.haproxy.map)[row.id] == row.address


def test_a_new_worker_gets_the_routes_that_went_to_the_old_one(world: World, gateway: TestClient) -> None:
    row = world.sandboxes.create(world.sandboxes.template("base"), Claim())
    world.haproxy.map.clear()
    assert gateway.get("/started").status_code == 204
    assert dict(world.haproxy.map) == {row.id: row.address}


def test_one_that_hangs_up_gets_them_later(world: World, gateway: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise GatewayError("away")

    monkeypatch.setattr(world.sandboxes.gateway, "sync", away)
    assert gateway.get("/started").status_code == 204


def test_a_stopped_one_too(world: World, gateway: TestClient, paused: PAUSED) -> None:
    row = world.transitions.stop(paused(), "for the test")
    assert dict(world.haproxy.map)[row.id] == "asleep"
    assert gateway.get(f"/resume/{row.id}").status_code == 200 and state(world, row) == "running"


@pytest.mark.parametrize(("timeout_s", "after_s"), [(5.0, LEAST_S), (300.0, 300.0), (None, None)])
def test_it_ends_as_late_as_was_asked_for_at_first_but_not_at_once(
    world: World, gateway: TestClient, paused: PAUSED, timeout_s: float | None, after_s: float | None
) -> None:
    row = paused(timeout_s=timeout_s)
    world.now[0] += 1000
    gateway.get(f"/resume/{row.id}")
    found = world.ledger.get(row.slot)
    assert found is not None and found.ends_at == (None if after_s is None else world.now[0] + after_s)


def test_one_that_did_not_ask_for_it_sleeps_on(world: World, gateway: TestClient, paused: PAUSED) -> None:
    row = paused(auto_resume=False)
    assert row.id not in dict(world.haproxy.map)
    assert gateway.get(f"/resume/{row.id}").status_code == 404 and state(world, row) == "paused"


def test_one_that_is_gone(world: World, gateway: TestClient, paused: PAUSED) -> None:
    row = paused()
    world.sandboxes.remove(row, "for the test")
    assert row.id not in dict(world.haproxy.map)
    for wanted in (row.id, row.id[:5], "000000000000"):
        assert gateway.get(f"/resume/{wanted}").status_code == 404


def test_many_at_once_resume_it_once(
    world: World, gateway: TestClient, paused: PAUSED, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = paused()
    begun, go, calls = threading.Event(), threading.Event(), list[str]()
    unpause = world.engine.unpause

    def slow(container: str) -> None:
        calls.append(container)
        begun.set()
        assert go.wait(120)
        unpause(container)

    monkeypatch.setattr(world.engine, "unpause", slow)
    with ThreadPoolExecutor(10) as several:
        answers = [several.submit(gateway.get, f"/resume/{row.id}") for _ in range(10)]
        assert begun.wait(30)
        go.set()
        assert {answer.result(30).text for answer in answers} == {row.address}
    assert calls == [row.id]


def test_a_failure_says_why_and_can_be_tried_again(world: World, gateway: TestClient, paused: PAUSED) -> None:
    row = paused()
    world.engine.fail["unpause"] = EngineError("Docker refuses.")
    answer = gateway.get(f"/resume/{row.id}")
    assert (answer.status_code, answer.json()) == (
        503,
        {"sandboxId": row.id, "message": "The sandbox could not be resumed: Docker refuses.", "code": 503},
    )
    assert dict(world.haproxy.map)[row.id] == "asleep"
    assert gateway.get(f"/resume/{row.id}").text == row.address


def test_strangers_see_no_log_of_a_sandbox(world: World, gateway: TestClient, paused: PAUSED) -> None:
    row = paused()
    world.engine.fail["unpause"] = EngineError("It does not answer.\nIts last log lines:\nsecret")
    assert "secret" not in gateway.get(f"/resume/{row.id}").text


def test_a_sandbox_is_found_by_its_token(world: World, gateway: TestClient, paused: PAUSED) -> None:
    rows = [paused(), world.sandboxes.create(world.sandboxes.template("base"), Claim())]
    for row in rows:
        assert gateway.get("/find", headers={"X-Access-Token": agent_token(KEY, row.id)}).text == row.id
    for token in ("", "wrong", agent_token(KEY, "000000000000")):
        assert gateway.get("/find", headers={"X-Access-Token": token}).status_code == 404


def test_while_the_fleet_service_is_away_nobody_is_told_that_there_is_none(
    world: World, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandboxd.fleetservice.ANSWER_S", 0.3)
    fleet = Fleet(directory / "node.sock", OWN_GROUP, manages=True)
    world.sandboxes.config = replace(world.config, fleet=fleet)
    with TestClient(gatewayapi.build(services_of(world))) as gateway:
        assert gateway.get("/find", headers={"X-Access-Token": "of another host"}).status_code == 503


@pytest.mark.parametrize("verb", ["wake", "resume"])
def test_the_agent_of_a_private_one_is_woken_by_its_token(
    world: World, gateway: TestClient, paused: PAUSED, verb: str
) -> None:
    """The gateway has closed the other ports, and not that one."""
    row = world.transitions.open_to(paused(), TOKEN)
    agents = {"X-Port": str(AGENT_PORT), "X-Method": "GET", "X-Target": "/health"}
    for headers in (agents, agents | {"X-Access-Token": "wrong"}, agents | {"X-Target": "/files?signature=v1_x"}):
        assert gateway.get(f"/{verb}/{row.id}", headers=headers).status_code == 401
    assert world.ledger.find(row.id)[0].state == "paused"
    right = agents | {"X-Access-Token": agent_token(KEY, row.id)}
    assert gateway.get(f"/{verb}/{row.id}", headers=right).status_code in (200, 202)
    until(lambda: awake(world, row), "it runs")


@pytest.mark.parametrize("port", ["8000", ""])
def test_who_comes_to_another_port_was_let_in_by_the_gateway(
    world: World, gateway: TestClient, paused: PAUSED, port: str
) -> None:
    row = world.transitions.open_to(paused(), TOKEN)
    assert gateway.get(f"/resume/{row.id}", headers={"X-Port": port} if port else {}).status_code == 200


@pytest.mark.parametrize("target", ["/files?signature=x" + "&a" * 7000, "//[/files?signature=x"])
def test_what_strangers_sign_costs_little(world: World, gateway: TestClient, paused: PAUSED, target: str) -> None:
    paused()
    assert gateway.get("/find", headers={"X-Method": "GET", "X-Target": target}).status_code == 404
    assert Signature.of("GET", target) is None


@pytest.mark.parametrize("query", ["", "&username=root", "&signature_expiration=2000000000"])
def test_a_sandbox_is_found_by_the_signature_of_a_url(world: World, gateway: TestClient, query: str) -> None:
    row = world.sandboxes.create(world.sandboxes.template("base"), Claim())
    user = "root" if "username" in query else ""
    expiration = "2000000000" if "expiration" in query else None
    signed = file_signature("/home/user/a b.txt", "read", user, agent_token(KEY, row.id), expiration)
    target = f"/files?path=%2Fhome%2Fuser%2Fa+b.txt{query}&signature={signed.replace('+', '%2B')}"
    assert gateway.get("/find", headers={"X-Method": "GET", "X-Target": target}).text == row.id
    for method, other in (
        ("POST", target),
        ("PATCH", target),
        ("GET", target.replace("a+b", "c")),
        ("GET", target.replace("/files", "/file")),
        ("GET", target[:-1]),
        ("GET", "/files"),
    ):
        assert gateway.get("/find", headers={"X-Method": method, "X-Target": other}).status_code == 404


def test_a_wake_is_begun_and_not_waited_for(
    world: World, gateway: TestClient, paused: PAUSED, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many pages ask, and who waits for it waits for the same."""
    row = paused()
    go, calls = threading.Event(), list[str]()
    unpause = world.engine.unpause

    def slow(container: str) -> None:
        calls.append(container)
        assert go.wait(120)
        unpause(container)

    monkeypatch.setattr(world.engine, "unpause", slow)
    with ThreadPoolExecutor(10) as several:
        assert {answer.status_code for answer in several.map(gateway.get, [f"/wake/{row.id}"] * 10)} == {202}
        waits = several.submit(gateway.get, f"/resume/{row.id}")
        go.set()
        assert waits.result(30).text == row.address
    assert calls == [row.id] and state(world, row) == "running"


def test_a_wake_that_failed_long_ago_is_nobodys_answer(
    world: World, gateway: TestClient, paused: PAUSED, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when its page was closed: the sandbox may have been resumed, and paused again, since."""
    monkeypatch.setattr(gatewayapi, "FAILED_S", 0.0)
    row = paused()
    world.engine.fail["unpause"] = EngineError("Docker refuses.")
    assert gateway.get(f"/wake/{row.id}").status_code == 202

    def resumed() -> bool:
        assert gateway.get(f"/wake/{row.id}").status_code == 202
        return awake(world, row)

    until(resumed, "it is not tried again")


def test_a_wake_that_failed_is_told_once_in_html(world: World, gateway: TestClient, paused: PAUSED) -> None:
    row = paused()
    world.engine.fail["unpause"] = EngineError("Docker says <no>.")
    assert gateway.get(f"/wake/{row.id}").status_code == 202
    until(lambda: "unpause" not in world.engine.fail and not world.sandboxes.locks.held(row.slot), "a failure")

    def told() -> bool:
        answer = gateway.get(f"/wake/{row.id}")
        assert (answer.status_code, answer.text) in ((202, ""), (503, "Docker says &lt;no&gt;."))
        return bool(answer.status_code == 503)

    until(told, "word of it")
    assert gateway.get(f"/wake/{row.id}").status_code == 202
    until(lambda: awake(world, row), "a wake")


def test_who_sleeps_on_is_not_woken(world: World, gateway: TestClient, paused: PAUSED) -> None:
    row = paused(auto_resume=False)
    for wanted in (row.id, row.id[:5], "000000000000"):
        assert gateway.get(f"/wake/{wanted}").status_code == 404
    assert state(world, row) == "paused"


def test_one_that_runs_since_the_gateway_looked_is_not_woken_again(
    world: World, gateway: TestClient, paused: PAUSED, caplog: pytest.LogCaptureFixture
) -> None:
    row = world.transitions.resume(paused())
    with caplog.at_level("INFO"):
        assert gateway.get(f"/wake/{row.id}").status_code == 202
        assert gateway.get(f"/resume/{row.id}").text == row.address
    assert "is resumed" not in caplog.text
