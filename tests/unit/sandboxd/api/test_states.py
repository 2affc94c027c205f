"""Requests that change a sandbox: its state, its end, its disk."""

from typing import Any

import pytest

from tests.unit.sandboxd.clients import Direct
from tests.unit.sandboxd.conftest import World


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
