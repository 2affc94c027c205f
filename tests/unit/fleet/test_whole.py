"""What is said of all hosts together, and the map of the entry gateway."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from fleet import placing
from fleet.inventory import Contents
from fleet.nodes import Node as Asked
from fleet.nodes import Unreachable
from sandboxd import gatewayapi
from sandboxd.config import Fleet as OfFleet
from tests.unit.fleet.fleets import NODE_SOCKET, Fleet, running
from tests.unit.sandboxd.conftest import OWN_GROUP, member, services_of, until
from tests.unit.sandboxd.fake_haproxy import FakeHaproxy


def test_the_map_has_what_is_on_other_hosts(patient: Fleet) -> None:
    found = [patient.create()["sandboxID"] for _ in range(4)]
    there = {one: "b" for one in found if patient.where(one).name == "b"}
    assert len(there) == 2 and dict(patient.haproxy.map) == there  # before the answer of each create
    assert patient.config.map.read_text() == "".join(f"{one} b\n" for one in sorted(there))
    gone = next(iter(there))
    patient.unix.delete(f"/sandboxes/{gone}").raise_for_status()
    del there[gone]
    assert dict(patient.haproxy.map) == there


def test_the_map_follows_what_hosts_do_by_themselves(patient: Fleet) -> None:
    world = patient.nodes["b"].world
    found = member(world)
    until(lambda: dict(patient.haproxy.map) == {found: "b"}, "a member of a pool is not in the map")
    world.sandboxes.remove(world.ledger.rows("warm")[0], "no reason")
    until(lambda: patient.haproxy.map == [], "it is still in the map")


def test_the_map_has_what_only_a_request_has_found(patient: Fleet) -> None:
    """One that another manager has made, and that nobody but who asked for it has looked for here."""
    with patient.beside() as other:
        made = [patient.create()["sandboxID"] for _ in range(2)]
        there = next(one for one in made if patient.where(one).name == "b")
        assert other.unix.get(f"/sandboxes/{there}").json()["sandboxID"] == there
        file = patient.directory / "other.map"
        until(lambda: file.exists() and file.read_text() == f"{there} b\n", "its URL leads nowhere")


def test_the_map_has_the_copies_of_a_sandbox(patient: Fleet) -> None:
    """Before the answer of the fork."""
    headers = patient.key("ada")
    with patient.beside() as other:
        made = [other.tcp.post("/sandboxes", json={"templateID": "base"}, headers=headers).json() for _ in range(2)]
        there = next(one["sandboxID"] for one in made if patient.where(one["sandboxID"]).name == "b")
        copies = other.tcp.post(f"/sandboxes/{there}/fork", json={"count": 2}, headers=headers).json()
        found = sorted([there, *(one["sandbox"]["sandboxID"] for one in copies)])
        assert (patient.directory / "other.map").read_text() == "".join(f"{one} b\n" for one in found)


def test_the_map_has_a_member_that_is_claimed_as_soon_as_it_is_known(patient: Fleet) -> None:
    """It is known by a reading that the map has not followed yet."""
    services, world = patient.services, patient.nodes["b"].world
    world.pool._settings.turn(True)
    patient.haproxy.stop()
    found = member(world)
    until(lambda: found in services.index.contents["b"].warm, "it is not known")
    haproxy = FakeHaproxy(patient.config.admin, patient.config.map)
    try:
        assert patient.create()["sandboxID"] == found
        assert (found, "b") in haproxy.map
    finally:
        haproxy.stop()


def test_what_one_manager_has_made_is_in_the_map_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the answer: whoever creates comes in by one of them, and visits by any."""
    monkeypatch.setattr(placing, "TOLD_S", 30.0)
    with running("abc", lost_s=60) as fleet, fleet.beside() as other:  # which reads no host by itself
        fleet.services.nodes["b"].role = "manager"
        sandboxes, headers = fleet.nodes["b"].world.sandboxes, fleet.key("ada")
        of_manager = OfFleet(Path(NODE_SOCKET), OWN_GROUP, manages=True)
        sandboxes.config = replace(sandboxes.config, fleet=of_manager, socket=fleet.directory / "other.sock")

        def mapped() -> set[str]:
            file = fleet.directory / "other.map"
            lines = file.read_text().splitlines() if file.exists() else []
            return {sandbox_id for sandbox_id, node in map(str.split, lines) if node == "c"}

        for _ in range(4):
            made = fleet.tcp.post("/v2/sandboxes", json={"templateID": "base"}, headers=headers).json()["sandboxID"]
            assert mapped() == fleet.nodes["c"].ids()
            if fleet.where(made).name == "c":
                fleet.tcp.post(f"/sandboxes/{made}/fork", headers=headers).raise_for_status()
                assert len(mapped()) >= 2 and mapped() == fleet.nodes["c"].ids()
        assert mapped() and other.unix.get("/nodes/x/look").status_code == 404


def test_a_manager_that_cannot_be_told_hinders_nothing(patient: Fleet) -> None:
    patient.services.nodes["b"].role = "manager"  # and none by its own word
    made = [patient.create()["sandboxID"] for _ in range(2)]
    assert {row["sandboxID"] for row in patient.unix.get("/v2/sandboxes").json()} == set(made)
    asked = [one for one in patient.nodes["b"].gate.requests if "/fleet/look/" in one]
    assert asked == ["node GET /fleet/look/a"]


def test_a_lost_host_stays_in_the_map(fleet: Fleet) -> None:
    for _ in range(2):
        fleet.create()
    before = dict(fleet.haproxy.map)
    fleet.lose("b")
    assert dict(fleet.haproxy.map) == before and len(before) == 1


def test_a_gateway_that_is_down_hinders_nothing(patient: Fleet) -> None:
    patient.haproxy.stop()
    found = [patient.create()["sandboxID"] for _ in range(2)]
    there = next(one for one in found if patient.where(one).name == "b")
    assert patient.config.map.read_text() == f"{there} b\n"


def test_pools_are_summed(patient: Fleet) -> None:
    patient.unix.post("/pool", json={"enabled": True}).raise_for_status()
    for node in patient.nodes.values():
        member(node.world)
    state = patient.unix.get("/pool").json()
    (pool,) = state["pools"]
    assert (state["warm"], state["size"], pool["warm"], pool["size"], pool["configured"]) == (2, 4, 2, 4, 4)
    assert state["nodes"].keys() == {"a", "b"} and state["nodes"]["b"]["warm"] == 1
    state = patient.unix.post("/pool/resize", json={"size": 3}).json()
    assert state["size"] == 6 and state["nodes"]["a"]["size"] == 3


def test_a_pool_that_is_off_at_a_cordoned_host_is_not_waited_for(patient: Fleet) -> None:
    patient.unix.post("/pool", json={"enabled": True}).raise_for_status()
    for _ in range(2):
        member(patient.nodes["a"].world)
    patient.unix.post("/nodes/b/cordon", json={}).raise_for_status()
    (pool,) = patient.unix.get("/pool").json()["pools"]
    assert (pool["enabled"], pool["warm"], pool["size"], pool["configured"]) == (True, 2, 2, 4)
    state = patient.unix.post("/pool", json={"enabled": False}).json()
    assert (state["enabled"], state["size"]) == (False, 4), "what they would have"


def test_overview_sums_and_names_the_hosts(patient: Fleet) -> None:
    for _ in range(4):
        patient.create()
    patient.nodes["b"].world.health.report("docker", "it is slow")
    whole = patient.unix.get("/overview").json()
    assert whole["present"]["running"] == 4 and whole["max_sandboxes"] == 200
    assert whole["engine"] == "26.1.5" and whole["troubles"] == {"b: docker": "it is slow"}
    assert {disk["path"].partition(":")[0] for disk in whole["disks"]} == {"a", "b"}
    assert whole["processors"] == sum(one["processors"] for one in whole["nodes"].values())


def test_metrics_have_the_host_as_a_label(patient: Fleet) -> None:
    answer = patient.unix.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    heads = [line for line in lines if line.startswith("# TYPE ")]
    assert len(heads) == len(set(heads)) > 5
    samples = [line for line in lines if not line.startswith("#")]
    assert all('node="a"' in line or 'node="b"' in line for line in samples)
    assert {line.partition("{")[0] for line in samples if 'node="b"' in line}


def test_routes_are_those_of_all(patient: Fleet) -> None:
    for _ in range(4):
        patient.create()
    patient.nodes["b"].world.haproxy.map.append(("ffffffffffff", "10.200.0.9"))
    state = patient.unix.get("/routes").json()
    assert (state["in_step"], state["routes"], state["stale"]) == (False, 4, ["ffffffffffff"])
    assert patient.unix.post("/routes/sync").json()["in_step"] is True


def test_doctor_examines_each_host(fleet: Fleet) -> None:
    with fleet.unix.stream("POST", "/doctor", json={"probe": False}) as answer:
        findings = [json.loads(line) for line in answer.iter_lines()]
    assert {one["node"] for one in findings} == {"a", "b"}
    assert all(one["name"].startswith(f"{one['node']}: ") and one["level"] for one in findings)
    fleet.lose("b")
    with fleet.unix.stream("POST", "/doctor", json={"probe": False}) as answer:
        findings = [json.loads(line) for line in answer.iter_lines()]
    assert findings[-1]["level"] == "fail" and findings[-1]["seen"].startswith("lost: node b")
    refused = fleet.unix.post("/doctor", json={"probe": "yes"})
    assert json.loads(refused.text.splitlines()[0])["code"] == 400


def examined(fleet: Fleet, end: Callable[[Receive], Awaitable[None]]) -> None:
    """Host a tells one finding of its own, and no more: then comes `end`."""

    async def doctor(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/doctor":
            await before(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        line = b'{"name": "disk", "level": "ok"}\n'
        await send({"type": "http.response.body", "body": line, "more_body": True})
        await end(receive)

    gate = fleet.nodes["a"].gate
    before, gate.app = gate.app, doctor


def test_doctor_goes_on_when_a_host_goes_away_in_the_middle(patient: Fleet) -> None:
    async def broken(_: Receive) -> None:
        raise ConnectionError("in the middle")

    examined(patient, broken)
    found = [json.loads(line) for line in patient.unix.post("/doctor", json={"probe": False}).text.splitlines()]
    of_a = [one for one in found if one["node"] == "a"]
    assert [(one["name"], one["level"]) for one in of_a] == [("a: disk", "ok"), ("a: node", "fail")]
    assert "node a does not answer" in of_a[1]["seen"] and any(one["node"] == "b" for one in found)


def test_doctor_is_ended_with_the_service(patient: Fleet) -> None:
    async def silent(receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    examined(patient, silent)
    asked = patient.unix.stream("POST", "/doctor", json={"probe": False})
    with pytest.raises(httpx.RemoteProtocolError), asked as answer:
        lines = answer.iter_lines()
        assert "disk" in next(lines)
        patient.soon(patient.services.streams.end_all)
        next(lines)


def test_whose_a_request_is_that_names_no_sandbox_is_known_of_all_hosts(patient: Fleet) -> None:
    """By its token: the gateway of a manager asks sandboxd beside it, which knows its own alone."""
    made = [patient.create() for _ in range(2)]
    world = patient.nodes["a"].world
    of_manager = OfFleet(Path(NODE_SOCKET), OWN_GROUP, manages=True)
    with TestClient(gatewayapi.build(services_of(world))) as gateway:

        def found(token: str) -> tuple[int, str]:
            answer = gateway.get("/find", headers={"X-Method": "GET", "X-Target": "/x", "X-Access-Token": token})
            return answer.status_code, answer.text

        tokens = {one["sandboxID"]: one["envdAccessToken"] for one in made}
        assert sorted(found(token)[0] for token in tokens.values()) == [200, 404], "alone it knows its own"
        world.sandboxes.config = replace(world.sandboxes.config, fleet=of_manager, socket=patient.config.socket)
        assert {one: found(token) for one, token in tokens.items()} == {one: (200, one) for one in tokens}
        assert found("none")[0] == 404
        world.sandboxes.config = replace(world.sandboxes.config, socket=patient.directory / "none.sock")
        said = sorted(found(token)[0] for token in tokens.values())
        assert said == [200, 503], "of the other one nobody can tell"
    answer = patient.tcp.get("/find", headers={"X-Access-Token": next(iter(tokens.values()))})
    assert answer.status_code == 404, "who is no manager may not ask"


def test_stats_are_asked_of_the_hosts_that_have_them(patient: Fleet) -> None:
    found = [patient.create()["sandboxID"] for _ in range(4)]
    chosen = [next(one for one in found if patient.where(one).name == name) for name in ("a", "b")]
    stats = patient.unix.get("/stats", params={"id": chosen}).json()
    assert {(row["sandboxID"], row["node"]) for row in stats["sandboxes"]} == {(chosen[0], "a"), (chosen[1], "b")}
    assert len(patient.unix.get("/stats").json()["sandboxes"]) == 4
    headers = patient.key()
    mine = patient.tcp.post("/v2/sandboxes", json={"templateID": "base"}, headers=headers).json()["sandboxID"]
    answer = patient.tcp.get("/sandboxes/metrics", params={"sandbox_ids": mine}, headers=headers)
    assert answer.status_code == 200 and set(answer.json()) == {"sandboxes"}


def test_a_build_stays_on_one_host(patient: Fleet) -> None:
    headers = patient.key()
    homes = set()
    for number in range(6):
        name, digest = f"mine{number}", f"{number:064x}"
        made = patient.tcp.post("/v3/templates", json={"name": name}, headers=headers).json()
        path = f"/templates/{name}/builds/{made['buildID']}/status"
        assert patient.tcp.get(path, headers=headers).json()["status"] == "waiting"
        files = patient.tcp.get(f"/templates/{name}/files/{digest}", headers=headers).json()
        home = patient.services.placing.home(name).name
        assert files["url"].endswith(f"&node={home}")
        put = patient.tcp.put(files["url"].removeprefix("https://api.example.com"), content=b"files")
        assert put.status_code == 200, put.text
        homes.add(home)
        assert (patient.nodes[home].world.config.state_dir / "build-files" / digest).read_bytes() == b"files"
    assert homes == {"a", "b"}


def test_the_log_of_one_that_has_ended_is_where_it_was(patient: Fleet) -> None:
    found = [patient.create()["sandboxID"] for _ in range(2)]
    for one in found:
        patient.unix.delete(f"/sandboxes/{one}").raise_for_status()
    for one in found:
        lines = [json.loads(line) for line in patient.unix.get(f"/logs/{one}?events=true").text.splitlines()]
        assert (lines[-1]["kind"], lines[-1]["text"]) == ("ended", "removed by request")
        answer = patient.unix.get(f"/logs/{one}")
        assert answer.status_code == 404 and "ended at" in answer.json()["message"]


def test_what_can_be_no_id_is_asked_of_nobody(patient: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that cannot be asked for it is not silent."""
    said: list[str] = []

    def silent(node: Asked, why: str, reached: bool = True) -> Unreachable:
        said.append(f"{node.name}: {why}")
        return Unreachable(why, reached)

    monkeypatch.setattr(Asked, "silent", silent)
    for one in ("%C2%B2", "%0A"):
        answer = patient.unix.get(f"/sandboxes/{one}")
        assert answer.status_code == 404 and "not found" in answer.json()["message"]
    assert said == []


def test_a_volume_is_looked_into_where_it_is(patient: Fleet) -> None:
    """By its own token, which only its host can make."""
    for name in ("ada", "bob", "eve", "joe"):
        headers = patient.key(name)
        made = patient.tcp.post("/volumes", json={"name": "data"}, headers=headers).json()
        path = f"/volumecontent/{made['volumeID']}/dir"
        assert patient.tcp.get(path, params={"path": "/"}).status_code == 401
        token = {"Authorization": f"Bearer {made['token']}"}
        assert patient.tcp.get(path, params={"path": "/"}, headers=token).status_code != 401
    homes = {patient.services.index.volume(one["name"]) for one in patient.unix.get("/volumes").json()}
    assert homes == {"a", "b"}


def test_a_key_as_a_bearer(patient: Fleet) -> None:
    key = patient.key()["X-API-KEY"]
    made = patient.tcp.post("/v2/sandboxes", json={"templateID": "base"}, headers={"Authorization": f"Bearer {key}"})
    assert made.status_code == 201
    path = f"/sandboxes/{made.json()['sandboxID']}"
    assert patient.tcp.get(path, headers={"Authorization": f"bearer {key}"}).status_code == 200


def test_the_parts_of_a_stranger_reach_one_host_only(patient: Fleet) -> None:
    found = [patient.create()["sandboxID"] for _ in range(2)]
    seen = [len(node.gate.requests) for node in patient.nodes.values()]
    for one in (*found, "ffffffffffff"):
        assert patient.tcp.get(f"/sandboxes/{one}", headers={"X-API-KEY": "e2b_" + "0" * 40}).status_code == 401
    for path in ("sandboxes", "v2/sandboxes", "sandboxes/metrics", "snapshots", "templates", "v2/templates", "volumes"):
        assert patient.tcp.get(f"/{path}", headers={"X-API-KEY": "e2b_" + "0" * 40}).status_code == 401
    later = [len(node.gate.requests) for node in patient.nodes.values()]
    assert later[0] > seen[0] and later[1] == seen[1]


def test_the_beginning_of_an_id_tells_a_key_nothing(patient: Fleet) -> None:
    """Whoever knows the id of a sandbox may visit it."""
    mine, others = patient.key("ada"), [patient.create()["sandboxID"] for _ in range(4)]
    shared = {one[:length] for one in others for length in (1, 8, 11)}
    for beginning in shared:
        for what in ("GET ", "DELETE ", "POST /fork", "POST /snapshots", "POST /pause"):
            method, _, path = what.partition(" ")
            answer = patient.tcp.request(method, f"/sandboxes/{beginning}{path}", headers=mine)
            assert answer.status_code == 404, answer.text
            assert not any(one in answer.text for one in others)
    made = patient.tcp.post("/v2/sandboxes", json={"templateID": "base"}, headers=mine).json()["sandboxID"]
    assert patient.tcp.get(f"/sandboxes/{made}-local", headers=mine).json()["sandboxID"] == made


def test_what_another_manager_has_made_is_found(patient: Fleet) -> None:
    """At once, whatever this service has read last."""
    headers = patient.key("ada")
    made = patient.tcp.post("/volumes", json={"name": "data"}, headers=headers).json()["volumeID"]
    contents = patient.services.index.contents
    for name in contents:
        contents[name] = Contents(True)
    assert patient.tcp.get(f"/volumes/{made}", headers=headers).json()["name"] == "data"
    for name in contents:
        contents[name] = Contents(True)
    assert patient.unix.delete(f"/volumes/{made}").status_code == 204
