"""Requests that make, list and remove sandboxes: their fields, limits and answers."""

import json
import math
from typing import Any

import pytest

from sandboxd.admission import Admission
from sandboxd.api.sandboxes import ENVD_VERSION
from sandboxd.tokens import agent_token
from tests.unit.sandboxd.clients import Direct
from tests.unit.sandboxd.conftest import KEY, World


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


def create_ascii(client: Direct, body: dict[str, Any]) -> tuple[int, str]:
    """Status and message; the body is spelled with escapes and NaN, which httpx refuses to send."""
    headers = {"Content-Type": "application/json"}
    answer = client.unix.post("/v2/sandboxes", content=json.dumps(body).encode(), headers=headers)
    return answer.status_code, str(answer.json()["message"])


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
