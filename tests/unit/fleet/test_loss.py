"""A host that goes away and comes back: what is said meanwhile, and that all is as it was."""

import asyncio
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from starlette.types import Receive, Scope, Send

from fleet.index import Index
from fleet.nodes import Node, Nodes
from fleet.services import Services
from tests.unit.fleet.fleets import WHOLE, Fleet
from tests.unit.sandboxd.conftest import until

TEXT = re.compile(r"lost: node b unreachable since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def on_both(fleet: Fleet, **body: object) -> tuple[str, str]:
    """A sandbox on each host."""
    made = [fleet.create(**body)["sandboxID"] for _ in range(2)]
    made.sort(key=lambda one: fleet.where(one).name)
    assert [fleet.where(one).name for one in made] == ["a", "b"]
    until(lambda: all(row for one in fleet.services.index.contents.values() for row in one.sandboxes.values()), "rows")
    return made[0], made[1]


def test_a_lost_host_is_said_and_found_again(fleet: Fleet) -> None:
    here, there = on_both(fleet, name="demo")
    before = fleet.unix.get("/v2/sandboxes").json()
    fleet.lose("b")
    rows = {row["sandboxID"]: row for row in fleet.unix.get("/v2/sandboxes").json()}
    assert (rows[here]["state"], rows[here]["node"]) == ("running", "a")
    assert rows[there]["state"] == "lost" and TEXT.fullmatch(rows[there]["reason"]) and rows[there]["name"] == "demo"
    assert rows.keys() == {here, there} and rows[there].keys() == rows[here].keys()
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/pause"), ("GET", "/access")):
        answer = fleet.unix.request(method, f"/sandboxes/{there}{path}")
        assert answer.status_code == 503 and TEXT.fullmatch(answer.json()["message"]), answer.text
        assert answer.headers["retry-after"] == "5"
    assert TEXT.fullmatch(fleet.unix.get(f"/logs/{there}").json()["message"])
    assert TEXT.search(fleet.unix.get("/health").text)
    assert fleet.unix.get(f"/sandboxes/{here}").status_code == 200
    fleet.find_again("b")
    assert fleet.unix.get(f"/sandboxes/{there}").json()["state"] == "running"
    assert sorted(fleet.unix.get("/v2/sandboxes").json(), key=str) == sorted(before, key=str)
    assert fleet.unix.get("/health").text == "ok\n"


def test_e2bs_lists_keep_the_sandboxes_of_a_lost_host(fleet: Fleet) -> None:
    headers, stranger = fleet.key("ada"), fleet.key("bob")
    made = []
    for number in range(4):
        for world in fleet.worlds:
            world.now[0] += 1
        body = {"templateID": "base", "metadata": {"number": str(number)}}
        made.append(fleet.tcp.post("/v2/sandboxes", json=body, headers=headers).json()["sandboxID"])
    until(lambda: all(row for one in fleet.services.index.contents.values() for row in one.sandboxes.values()), "rows")
    there = [one for one in made if fleet.where(one).name == "b"]
    whole = fleet.tcp.get("/v2/sandboxes", headers=headers)
    fleet.lose("b")
    answer = fleet.tcp.get("/v2/sandboxes", headers=headers)
    assert [row["sandboxID"] for row in answer.json()] == made[::-1]
    assert answer.headers["x-total-running"] == "4"
    for row, before in zip(answer.json(), whole.json(), strict=True):
        if row["sandboxID"] in there:
            assert TEXT.fullmatch(row.pop("reason"))
        assert row == before  # E2B's clients know no other state
    query = {"limit": "3", "order": "asc"}
    first = fleet.tcp.get("/v2/sandboxes", params=query, headers=headers)
    query["nextToken"] = first.headers["x-next-token"]
    second = fleet.tcp.get("/v2/sandboxes", params=query, headers=headers)
    assert [row["sandboxID"] for row in first.json() + second.json()] == made
    one = fleet.tcp.get("/v2/sandboxes", params={"metadata": "number=1"}, headers=headers).json()
    assert [row["sandboxID"] for row in one] == made[1:2]
    for query in ({"state": "paused"}, {"template": "large"}, {"startedAfter": "2999-01-01T00:00:00Z"}):
        assert fleet.tcp.get("/v2/sandboxes", params=query, headers=headers).json() == []
    assert len(fleet.tcp.get("/sandboxes", headers=headers).json()) == 4
    assert fleet.tcp.get("/v2/sandboxes", headers=stranger).json() == []
    answer = fleet.tcp.get(f"/sandboxes/{there[0]}", headers=headers)
    assert answer.status_code == 503 and TEXT.fullmatch(answer.json()["message"])


def test_new_sandboxes_go_to_those_that_answer(fleet: Fleet) -> None:
    fleet.lose("b")
    fleet.leases.make_available("b", "pause")  # as Swarm does by itself
    for _ in range(3):
        fleet.create()
    assert len(fleet.nodes["a"].ids()) == 3


def test_an_end_that_came_meanwhile_is_known_when_it_returns(fleet: Fleet) -> None:
    _, there = on_both(fleet)
    fleet.lose("b")
    world = fleet.nodes["b"].world
    world.sandboxes.remove(world.sandboxes.find(there), "its time is over")
    assert there in {row["sandboxID"] for row in fleet.unix.get("/v2/sandboxes").json()}
    fleet.find_again("b")
    until(lambda: len(fleet.unix.get("/v2/sandboxes").json()) == 1, "it is still listed")
    answer = fleet.unix.get(f"/sandboxes/{there}")
    assert answer.status_code == 404 and "its time is over" in answer.json()["message"]


def test_a_host_that_was_never_heard_may_have_it(fleet: Fleet) -> None:
    fleet.lose("b")
    contents = fleet.services.index.contents["b"]
    contents.known = False
    answer = fleet.unix.get("/sandboxes/ffffffffffff")
    assert answer.status_code == 503 and "is on no host that answers" in answer.json()["message"]
    assert TEXT.search(answer.json()["message"])


def test_what_a_host_may_have_that_was_never_heard_is_made_on_no_other(fleet: Fleet) -> None:
    """As after a restart of the service: a volume would be there twice, the second one empty."""
    headers = fleet.key("ada")
    here = fleet.tcp.post("/v2/sandboxes", json={"templateID": "base"}, headers=headers).json()["sandboxID"]
    assert fleet.where(here).name == "a"
    fleet.lose("b")
    fleet.services.index.contents["b"].known = False
    answers = {
        "volume 'work'": fleet.unix.post("/v2/sandboxes", json={"volume": "work"}),
        "a volume of the key 'ada'": fleet.tcp.post("/volumes", json={"name": "data"}, headers=headers),
        "template 'tools'": fleet.tcp.post("/v3/templates", json={"name": "tools"}, headers=headers),
        "template 'built'": fleet.unix.post("/templates/built/build", content=b""),
        "template 'saved'": fleet.unix.post(f"/sandboxes/{here}/snapshots", json={"name": "saved"}),
        "template 'ours'": fleet.tcp.post(f"/sandboxes/{here}/snapshots", json={"name": "ours"}, headers=headers),
    }
    for what, answer in answers.items():
        assert answer.status_code == 503, (what, answer.text)
        assert answer.json()["message"].startswith(f"{what} is on no host that answers. lost: node b "), answer.text
    nameless = fleet.tcp.post(f"/sandboxes/{here}/snapshots", json={}, headers=headers)
    assert nameless.status_code == 201, nameless.text


def test_a_host_that_is_lost_while_it_is_asked_is_waited_for_by_nobody(fleet: Fleet) -> None:
    """It has taken the question, and nothing comes any more, nor does the connection end."""
    here, there = on_both(fleet)
    headers, gate, over = fleet.key("ada"), fleet.nodes["b"].gate, threading.Event()
    before = gate.app

    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        while not over.is_set():
            await asyncio.sleep(0.01)
        await before(scope, receive, send)

    gate.app = silent
    try:
        with ThreadPoolExecutor(5) as several:
            whole = several.submit(fleet.unix.get, "/v2/sandboxes")
            own = several.submit(fleet.tcp.get, "/v2/sandboxes", headers=headers)
            pools = several.submit(fleet.unix.get, "/pool")
            rows = several.submit(fleet.unix.get, "/nodes")
            made = several.submit(fleet.unix.post, "/keys", json={"name": "bob"})
        assert {row["sandboxID"]: row["state"] for row in whole.result().json()} == {here: "running", there: "lost"}
        assert own.result().json() == [] and pools.result().json()["nodes"].keys() == {"a"}
        assert [row["state"] for row in rows.result().json()] == ["ready", "lost"]
        assert made.result().status_code == 201
    finally:
        over.set()


def test_a_list_of_which_a_host_refuses_its_part_is_refused(patient: Fleet) -> None:
    gate = patient.nodes["b"].gate
    before = gate.app

    async def refusing(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/inventory":
            await before(scope, receive, send)
            return
        headers = [(b"content-type", b"application/json"), (b"retry-after", b"5")]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"code": 503, "message": "Docker does not answer"}'})

    headers = patient.key("ada")
    gate.app = refusing
    lists = ("/v2/sandboxes", "/templates", "/volumes", "/stats", "/pool", "/overview", "/routes")
    answers = {path: patient.unix.get(path) for path in lists}
    public = ("/v2/sandboxes", "/sandboxes", "/templates", "/snapshots", "/volumes", "/sandboxes/metrics")
    answers |= {f"tcp {path}": patient.tcp.get(path, headers=headers) for path in public}
    assert {path: (one.status_code, one.headers.get("retry-after")) for path, one in answers.items()} == {
        path: (503, "5") for path in answers
    }


DEEP = b"[" * 100_000
LAME = {
    **{"sandboxes": [{"sandboxID": "x"}], "warm": [], "pools": False, "volumes": [], "templates": []},
    **{"keys": {"version": 1, "fingerprint": "f"}},
}


SAID = {
    **{"a list": b"[]", "nothing": b"{}", "rows of nothing": b'{"sandboxes": [{}]}', "no JSON": b"no JSON"},
    **{"deep": DEEP, "a row of an id": json.dumps(LAME).encode()},
}


@pytest.mark.parametrize("said", SAID.values(), ids=SAID.keys())
def test_a_host_that_says_something_else_for_a_while_is_read_again(patient: Fleet, said: bytes) -> None:
    """As one of another release may, in the middle of a deploy."""
    gate, asked = patient.nodes["b"].gate, threading.Semaphore(0)
    before = gate.app

    async def other(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/inventory":
            await before(scope, receive, send)
            return
        asked.release()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": said})

    gate.app = other
    for _ in range(3):
        assert asked.acquire(timeout=10), "it is not asked any more"
    made = [patient.create()["sandboxID"] for _ in range(2)]
    there = next(one for one in made if patient.where(one).name == "b")
    assert patient.unix.get("/sandboxes/ffffffffffff").status_code == 404  # for which all are read
    gate.app = before
    world = patient.nodes["b"].world
    world.sandboxes.remove(world.sandboxes.find(there), "its time is over")
    until(lambda: patient.services.index.find(there) is None, "nobody looks at it any more")


def test_another_service_finds_the_same(patient: Fleet) -> None:
    """That of a second manager, or one that was started anew: it reads all hosts once."""
    here, there = on_both(patient)

    async def read() -> Index:
        hosts = patient.config.nodes.items()
        nodes = Nodes({name: Node(host, patient.config.domain) for name, host in hosts}, "b")
        index = Index(nodes, WHOLE)
        await index.read_all()
        for node in nodes.values():
            await node.close()
        return index

    index = asyncio.run(read())
    found = {one: node.name for one in (here, there) if (node := index.find(one)) is not None}
    assert found == {here: "a", there: "b"} and index.elsewhere() == {here: "a"}


def test_the_service_begins_whatever_a_host_says(patient: Fleet) -> None:
    async def deep(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": DEEP})

    async def begin() -> set[str]:
        await services.start()
        await services.stop()
        return {name for name, contents in services.index.contents.items() if contents.known}

    patient.nodes["b"].gate.app = deep
    gateway = patient.directory / "other"
    config = replace(patient.config, admin=gateway, map=gateway.with_suffix(".map"))
    services = Services(config, patient.leases, every_s=60.0, lost_s=60.0)
    assert asyncio.run(begin()) == {"a"}


@pytest.mark.parametrize("path", ["/templates", "/volumes", "/pool", "/overview"])
def test_that_no_host_answers_is_no_empty_list(patient: Fleet, path: str) -> None:
    for node in patient.nodes.values():
        node.stop()
    answer = patient.unix.get(path)
    assert answer.status_code == 503 and "does not answer" in answer.json()["message"]
