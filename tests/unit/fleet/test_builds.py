"""Templates that are built on one that another host has."""

from typing import Any
from urllib.parse import quote

import pytest
from starlette.types import Receive, Scope, Send

from tests.unit.fleet.fleets import Fleet, Node, Seat
from tests.unit.sandboxd.conftest import until

DIGEST = "a" * 64


@pytest.fixture
def headers(patient: Fleet) -> dict[str, str]:
    return patient.key("ada")


def parent_on(fleet: Fleet, name: str) -> None:
    """A snapshot `parent` on that host, of which the service knows."""
    made = next(one for one in iter(lambda: fleet.create()["sandboxID"], "") if fleet.where(one).name == name)
    fleet.unix.post(f"/sandboxes/{made}/snapshots", json={"name": "parent"}).raise_for_status()


def at_home_on(fleet: Fleet, name: str) -> str:
    names = (f"mine{number}" for number in range(100))
    return next(one for one in names if fleet.services.placing.home(one).name == name)


def begun(seat: Seat, name: str, headers: dict[str, str], **body: Any) -> str:
    """The path of its status."""
    made = seat.tcp.post("/v3/templates", json={"name": name}, headers=headers).json()
    path = f"/templates/{name}/builds/{made['buildID']}"
    answer = seat.tcp.post(f"/v2{path}", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    return f"{path}/status"


def status(seat: Seat, path: str, headers: dict[str, str]) -> str:
    answer = seat.tcp.get(path, headers=headers)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["status"])


def templates(node: Node) -> set[str]:
    return set(node.world.ledger.templates())


def test_what_is_built_is_known_at_once(patient: Fleet, headers: dict[str, str]) -> None:
    """The next request may come before the host is read again."""
    parent_on(patient, "b")
    name = at_home_on(patient, "a")
    path = begun(patient, name, headers, fromTemplate="parent")
    until(lambda: status(patient, path, headers) == "ready", "it is not built")
    patient.services.index.contents["b"].templates.clear()
    answer = patient.tcp.post("/templates/tags", json={"target": name, "tags": ["stable"]}, headers=headers)
    assert answer.status_code == 201, answer.text
    patient.services.index.contents["b"].templates.clear()
    answer = patient.tcp.post("/v2/sandboxes", json={"templateID": f"{name}:stable"}, headers=headers)
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("body", [{"fromTemplate": "team/parent:latest"}, {"fromImage": "parent"}])
def test_it_is_built_where_its_parent_is(patient: Fleet, headers: dict[str, str], body: dict[str, str]) -> None:
    parent_on(patient, "b")
    name = at_home_on(patient, "a")
    with patient.beside() as other:
        path = begun(patient, name, headers, **body)
        until(lambda: status(patient, path, headers) == "ready", "it is not built")
        assert status(other, path, headers) == "ready", "another manager finds it, too"
    assert templates(patient.nodes["b"]) == {"parent", name} and templates(patient.nodes["a"]) == set()
    until(lambda: patient.services.index.template(name) == "b", "the service does not hear of it")
    made = patient.tcp.post("/v2/sandboxes", json={"templateID": name}, headers=headers).json()
    assert patient.where(made["sandboxID"]).name == "b"


def test_its_files_go_with_it(patient: Fleet, headers: dict[str, str]) -> None:
    parent_on(patient, "b")
    name, large = at_home_on(patient, "a"), b"x" * 3_000_000
    url = patient.tcp.get(f"/templates/{name}/files/{DIGEST}", headers=headers).json()["url"]
    patient.tcp.put(url.removeprefix("https://api.example.com"), content=large).raise_for_status()
    steps = [{"type": "COPY", "args": ["a", "b"], "filesHash": DIGEST}, {"type": "RUN", "args": ["true"]}]
    path = begun(patient, name, headers, fromTemplate="parent", steps=steps)
    until(lambda: status(patient, path, headers) == "ready", "it is not built")
    assert (patient.nodes["b"].world.config.state_dir / "build-files" / DIGEST).read_bytes() == large


def test_what_cannot_go_is_refused_and_stays(patient: Fleet, headers: dict[str, str]) -> None:
    parent_on(patient, "b")
    name = at_home_on(patient, "a")
    made = patient.tcp.post("/v3/templates", json={"name": name}, headers=headers).json()
    path = f"/templates/{name}/builds/{made['buildID']}"
    steps = [{"type": "COPY", "args": ["a", "b"], "filesHash": "b" * 64}]
    answer = patient.tcp.post(f"/v2{path}", json={"fromTemplate": "parent", "steps": steps}, headers=headers)
    assert (answer.status_code, answer.json()["message"]) == (400, "COPY a: its files were not uploaded")
    strangers = {"X-API-KEY": "e2b_" + "0" * 40}
    assert patient.tcp.post(f"/v2{path}", json={"fromTemplate": "parent"}, headers=strangers).status_code == 401
    assert (
        patient.tcp.post(f"/v2{path}", json={"fromTemplate": "parent"}, headers=patient.key("bob")).status_code == 404
    )
    assert patient.tcp.post(f"/v2{path}", json={"fromTemplate": "none"}, headers=headers).status_code == 404
    assert status(patient, f"{path}/status", headers) == "waiting"


def test_an_id_is_no_part_of_a_path(patient: Fleet, headers: dict[str, str]) -> None:
    """Nor of a query, which says whose build it is; nor is a host silent that cannot be asked with it."""
    parent_on(patient, "b")
    name = at_home_on(patient, "a")
    made = patient.tcp.post("/v3/templates", json={"name": name}, headers=headers).json()["buildID"]
    others = patient.key("bob")
    for one in (f"{made}?template={name}&owner=ada#", "line\nline"):
        path = f"/v2/templates/{name}/builds/{quote(one, safe='')}"
        answer = patient.tcp.post(path, json={"fromTemplate": "parent"}, headers=others)
        assert answer.status_code == 404, answer.text
    assert f"node DELETE /builds/{made}" not in patient.nodes["a"].gate.requests
    assert status(patient, f"/templates/{name}/builds/{made}/status", headers) == "waiting"


def test_the_host_that_breaks_off_in_a_file_is_named(patient: Fleet, headers: dict[str, str]) -> None:
    parent_on(patient, "b")
    name, gate = at_home_on(patient, "a"), patient.nodes["a"].gate
    before = gate.app

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        if (scope["method"], scope["path"]) != ("GET", f"/build-files/{DIGEST}"):
            await before(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"10")]})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        raise ConnectionError("in the middle")

    made = patient.tcp.post("/v3/templates", json={"name": name}, headers=headers).json()["buildID"]
    gate.app = broken
    body = {"fromTemplate": "parent", "steps": [{"type": "COPY", "args": ["a", "b"], "filesHash": DIGEST}]}
    answer = patient.tcp.post(f"/v2/templates/{name}/builds/{made}", json=body, headers=headers)
    assert answer.status_code == 503 and answer.json()["message"].startswith("node a does not answer"), answer.text


@pytest.mark.parametrize("refusal", [500, 502])
def test_a_build_that_does_not_arrive_is_where_it_was(patient: Fleet, headers: dict[str, str], refusal: int) -> None:
    """Else whoever asks again would hear that there is no such build."""
    parent_on(patient, "b")
    name, gate = at_home_on(patient, "a"), patient.nodes["b"].gate
    before = gate.app

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "PUT":
            await before(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": refusal, "headers": []})
        await send({"type": "http.response.body", "body": b"it broke off"})

    made = patient.tcp.post("/v3/templates", json={"name": name}, headers=headers).json()
    path = f"/templates/{name}/builds/{made['buildID']}"
    gate.app = broken
    answer = patient.tcp.post(f"/v2{path}", json={"fromTemplate": "parent"}, headers=headers)
    assert answer.status_code == (503 if refusal == 502 else 500)
    assert status(patient, f"{path}/status", headers) == "waiting"
    gate.app = before
    assert patient.tcp.post(f"/v2{path}", json={"fromTemplate": "parent"}, headers=headers).status_code == 202
    until(lambda: status(patient, f"{path}/status", headers) == "ready", "it is not built")
    assert templates(patient.nodes["b"]) == {"parent", name}


def test_a_build_goes_on_when_its_name_has_another_home(patient: Fleet, headers: dict[str, str]) -> None:
    """As when its host is cordoned, or another one comes back: its template is made where it was asked for."""
    name = at_home_on(patient, "a")
    made = patient.tcp.post("/v3/templates", json={"name": name}, headers=headers).json()
    patient.unix.post("/nodes/a/cordon", json={}).raise_for_status()
    assert patient.services.placing.home(name).name == "b"
    path = f"/templates/{name}/builds/{made['buildID']}"
    assert patient.tcp.post(f"/v2{path}", json={"fromTemplate": "none"}, headers=headers).status_code == 404
    strangers = {"X-API-KEY": "e2b_" + "0" * 40}
    assert patient.tcp.post(f"/v2{path}", json={"fromTemplate": "base"}, headers=strangers).status_code == 401
    assert patient.tcp.post(f"/v2{path}", json={"fromTemplate": "base"}, headers=headers).status_code == 202
    patient.unix.post("/nodes/b/cordon", json={}).raise_for_status()
    with patient.beside() as other:  # which knows nothing of it, and that nobody takes anything new
        until(lambda: status(other, f"{path}/status", headers) == "ready", "it is not built")
    assert templates(patient.nodes["a"]) == {name} and templates(patient.nodes["b"]) == set()


def test_a_name_that_another_host_has_does_not_go(patient: Fleet, headers: dict[str, str]) -> None:
    parent_on(patient, "b")
    name = at_home_on(patient, "a")
    path = begun(patient, name, headers, fromTemplate="base")
    until(lambda: templates(patient.nodes["a"]) == {name}, "it is not built")
    until(lambda: patient.services.index.template(name) == "a", f"{path}: the service does not hear of it")
    made = patient.tcp.post("/v3/templates", json={"name": name}, headers=headers).json()
    again = f"/v2/templates/{name}/builds/{made['buildID']}"
    answer = patient.tcp.post(again, json={"fromTemplate": "parent"}, headers=headers)
    assert answer.status_code == 409 and "is on node a already" in answer.json()["message"]
