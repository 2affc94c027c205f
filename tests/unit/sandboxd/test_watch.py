"""GET /logs and GET /stats, as the command line and scripts see them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandboxd import logs
from sandboxd.doctor.effects import Effects
from tests.unit.sandboxd import kernel
from tests.unit.sandboxd.clients import Client, Direct
from tests.unit.sandboxd.conftest import World
from tests.unit.sandboxd.fake_engine import START, FakeLog


@pytest.fixture
def client(world: World, tmp_path: Path) -> Direct:
    return Direct(world, Effects(root=tmp_path))


@pytest.fixture
def served(world: World) -> Iterator[Client]:
    made = Client(world)
    yield made
    made.close()


def written(world: World, sandbox_id: str, *lines: str) -> FakeLog:
    log = world.engine.logged.setdefault(sandbox_id, FakeLog())
    for number, line in enumerate(lines):
        log.write(START + number, line)
    return log


def read(client: Direct, target: str) -> list[dict[str, Any]]:
    answer = client.unix.get(target)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def test_a_log(client: Direct, world: World) -> None:
    found = client.create(name="demo")["sandboxID"]
    written(world, found, "first", "second")
    second = {"at": "2027-01-15T08:00:01.000Z", "kind": "line", "text": "second"}
    assert read(client, f"/logs/{found}?lines=1") == [second]
    assert [line["text"] for line in read(client, f"/logs/{found[:12]}")] == ["first", "second"]
    kinds = [line["kind"] for line in read(client, f"/logs/{found}?events=true")]
    assert sorted(kinds) == ["claimed", "created", "line", "line"]


def test_of_one_that_is_gone_it_is_said_when_and_why(client: Direct, world: World) -> None:
    found = client.create()["sandboxID"]
    client.unix.delete(f"/sandboxes/{found}")
    answer = client.unix.get(f"/logs/{found}")
    assert answer.status_code == 404
    assert answer.json()["message"] == f"sandbox '{found}' ended at 2027-01-15T08:00:00.000Z: removed by request"
    assert [line["kind"] for line in read(client, f"/logs/{found}?events=true")] == ["created", "claimed", "ended"]
    assert "there was none" in client.unix.get("/logs/ffff").json()["message"]


@pytest.mark.parametrize("query", ["lines=-1", "lines=x", "follow=perhaps"])
def test_wishes_that_make_no_sense(client: Direct, query: str) -> None:
    assert client.unix.get(f"/logs/{client.create()['sandboxID']}?{query}").status_code == 400


def test_a_log_is_followed_until_the_client_goes(served: Client, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "POLL_S", 0.005)
    found = served.create()["sandboxID"]
    log = written(world, found, "before")
    with served.unix.stream("GET", f"/logs/{found}?follow=true") as answer:
        lines = answer.iter_lines()
        assert json.loads(next(lines))["text"] == "before"
        log.write(START + 9, "later")
        assert json.loads(next(lines))["text"] == "later"


def test_a_followed_log_ends_with_its_sandbox(served: Client, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "POLL_S", 0.005)
    found = served.create()["sandboxID"]
    log = written(world, found, "before")
    with served.unix.stream("GET", f"/logs/{found}?follow=true") as answer:
        lines = answer.iter_lines()
        next(lines)
        assert served.unix.delete(f"/sandboxes/{found}").status_code == 204
        log.end()
        (last,) = [json.loads(line) for line in lines]
    assert (last["kind"], last["text"]) == ("ended", "removed by request")


def test_figures_of_all_and_of_some(client: Direct, world: World, tmp_path: Path) -> None:
    kernel.write(tmp_path, {"proc/self/mountinfo": kernel.MOUNTS_V2})
    assert client.unix.get("/stats").json()["sandboxes"] == []
    first, second = (client.create(name=name)["sandboxID"] for name in ("a", "b"))
    kernel.v2(tmp_path, first + "0" * 52, world.engine.containers[first].pid)
    answer = client.unix.get("/stats").json()
    assert answer["clock"] > 0 and answer["at"] > 1.7e9
    figures = {one["sandboxID"]: one for one in answer["sandboxes"]}
    assert figures[first] == {
        "sandboxID": first,
        "name": "a",
        "templateID": "base",
        "state": "running",
        "startedAt": "2027-01-15T08:00:00.000Z",
        "usage": {
            "cpu_ns": 82_595_000,
            "cpu_limit": 2.0,
            "memory_bytes": 11_587_584,
            "memory_limit_bytes": 2_147_483_648,
            "pids": 2,
            "pids_limit": 1024,
            "oom_kills": 3,
        },
        "network": {"received_bytes": 2388, "sent_bytes": 1998},
        "disk": None,
    }
    assert (figures[second]["state"], figures[second]["usage"]) == ("stopped", None)
    some = client.unix.get("/stats", params={"id": second}).json()["sandboxes"]
    assert [one["sandboxID"] for one in some] == [second]
    assert client.unix.get("/stats?id=ffff").status_code == 404
    assert client.unix.get("/stats?id=0000").status_code == 409


@pytest.mark.parametrize("target", ["/logs/0000", "/stats"])
def test_strangers_are_refused(client: Direct, target: str) -> None:
    assert client.tcp.get(target).status_code == 404, "what answers by TCP has no such thing"
