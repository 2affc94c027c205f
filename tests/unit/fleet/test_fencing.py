"""A host that is lost, its kept sandboxes on shared storage, and who may make them anew."""

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from fleet.config import Fencing
from fleet.fencing import run
from sandboxd.records import Claim
from sandboxd.sharedstore import MARKER, STATE
from tests.unit.fleet.fleets import Fleet, Node, running
from tests.unit.sandboxd.conftest import until
from tests.unit.sandboxd.fake_engine import refusal


@pytest.fixture
def export(tmp_path: Path) -> Path:
    made = tmp_path / "export"
    made.mkdir()
    (made / MARKER).write_text("0123\n")
    return made


@pytest.fixture
def fleet(export: Path) -> Iterator[Fleet]:
    with running("abc", export=export) as made:
        yield made


def kept(fleet: Fleet, name: str = "b", **body: object) -> str:
    """A kept sandbox on shared storage, on that host."""
    for other in fleet.nodes.keys() - {name}:
        fleet.leases.make_available(other, "pause")
    fleet.unix.get("/nodes")
    made = fleet.create(volume="data", shared=True, keep=True, name="demo", **body)["sandboxID"]
    for other in fleet.nodes.keys() - {name}:
        fleet.leases.make_available(other, "active")
    fleet.unix.get("/nodes")
    assert fleet.where(made).name == name
    until(lambda: fleet.services.index.contents[name].sandboxes.get(made) is not None, "its row")
    return str(made)


def listed(fleet: Fleet) -> dict[str, tuple[str, str]]:
    return {row["sandboxID"]: (row["state"], row["node"]) for row in fleet.unix.get("/v2/sandboxes").json()}


def take(host: Node) -> str:
    """A kept sandbox that the host itself makes, with a disk on shared storage."""
    claim = Claim(None, keep=True, volume="late", shared=True)
    return str(host.world.sandboxes.create(host.world.sandboxes.template("base"), claim).id)


def looked_at_again(fleet: Fleet) -> None:
    """Everything that the service does regularly has been done."""
    contents = fleet.services.index.contents
    seen = contents["a"].at
    until(lambda: contents["a"].at > seen + 30, "nothing is looked at")


def held_up(fleet: Fleet) -> tuple[threading.Event, threading.Event]:
    """The hosts that are to make the sandbox of "data" anew: the first event tells that one was asked to, and waits for
    the second."""
    reached, go = threading.Event(), threading.Event()
    for name in "ac":
        gate = fleet.nodes[name].gate

        async def held(scope: Scope, receive: Receive, send: Send, app: ASGIApp = gate.app) -> None:
            if scope.get("path") == "/shared/data/sandbox":
                reached.set()
                await asyncio.to_thread(go.wait, 30)
            await app(scope, receive, send)

        gate.app = held
    return reached, go


def nobody_takes_any(fleet: Fleet) -> None:
    for name in fleet.nodes:
        fleet.leases.make_available(name, "pause")
    fleet.unix.get("/nodes")


def back_for_a_moment(fleet: Fleet) -> None:
    """b is heard, takes a volume, and is lost once more."""
    fleet.find_again("b")
    take(fleet.nodes["b"])
    fleet.lose("b")


def test_a_host_that_is_only_lost_keeps_its_sandboxes(fleet: Fleet) -> None:
    made = kept(fleet)
    fleet.lose("b")
    until(lambda: listed(fleet) == {made: ("lost", "b")}, "it is told")
    assert fleet.nodes["a"].ids() == fleet.nodes["c"].ids() == set()


def test_once_it_is_off_they_are_made_anew_and_found_by_the_same_id(fleet: Fleet, export: Path) -> None:
    made = kept(fleet)
    url = fleet.unix.get(f"/sandboxes/{made}").json()
    fleet.lose("b")
    answer = fleet.unix.post("/nodes/b/fenced", json={})
    assert answer.status_code == 200 and answer.json()["waiting"] == {}, answer.text
    where = answer.json()["moved"][made]
    assert where in ("a", "c") and fleet.nodes[where].ids() == {made}
    assert listed(fleet) == {made: ("running", where)}
    detail = fleet.unix.get(f"/sandboxes/{made}").json()
    for key in ("envdAccessToken", "url", "name", "startedAt", "volume"):
        assert detail[key] == url[key], key
    assert json.loads((export / "data/owner.json").read_text())["node"] == where
    until(lambda: where == "a" or (made, where) in fleet.haproxy.map, "the map of the gateway")
    (volume,) = fleet.unix.get("/volumes").json()
    assert (volume["node"], volume["shared"], volume["sandboxID"]) == (where, True, made)
    fleet.nodes["b"].world.reconciler.tick()
    fleet.find_again("b")
    assert fleet.nodes["b"].ids() == set() and listed(fleet) == {made: ("running", where)}


def test_a_host_that_comes_back_before_it_has_looked_does_not_get_its_requests(fleet: Fleet) -> None:
    made = kept(fleet)
    fleet.lose("b")
    where = fleet.unix.post("/nodes/b/fenced", json={}).json()["moved"][made]
    fleet.find_again("b")
    until(lambda: made in fleet.services.index.contents["b"].sandboxes, "both say that they have it")
    assert fleet.services.index.find(made).name == where  # type: ignore[union-attr]
    assert fleet.services.index.find(made[:11]) is not None
    assert fleet.services.index.moved("b", made) and not fleet.services.index.moved(where, made)


def test_other_volumes_of_the_host_are_free_and_other_sandboxes_stay_lost(fleet: Fleet) -> None:
    fleet.leases.make_available("a", "pause")
    fleet.leases.make_available("c", "pause")
    fleet.unix.get("/nodes")
    plain = fleet.create()["sandboxID"]
    loose = fleet.create(volume="scratch", shared=True)["sandboxID"]
    assert fleet.nodes["b"].ids() == {plain, loose}
    until(lambda: all(fleet.services.index.contents["b"].sandboxes.values()), "rows")
    fleet.leases.make_available("a", "active")
    fleet.leases.make_available("c", "active")
    fleet.lose("b")
    assert fleet.unix.post("/nodes/b/fenced", json={}).json() == {"moved": {}, "waiting": {}}
    assert listed(fleet) == {plain: ("lost", "b"), loose: ("lost", "b")}
    again = fleet.create(volume="scratch")
    assert fleet.where(again["sandboxID"]).name in ("a", "c")


def test_what_a_host_takes_after_it_was_off_is_its_own(fleet: Fleet, export: Path) -> None:
    """It is on again, and is not heard yet: whoever took its disks then would destroy them."""
    made = kept(fleet)
    fleet.lose("b")
    assert made in fleet.unix.post("/nodes/b/fenced", json={}).json()["moved"]
    late = take(fleet.nodes["b"])
    looked_at_again(fleet)
    assert json.loads((export / "late/owner.json").read_text())["node"] == "b"
    assert not any(late in node.ids() for name, node in fleet.nodes.items() if name != "b")


def test_what_a_host_takes_while_it_is_emptied_is_its_own(fleet: Fleet, export: Path) -> None:
    """The regular look comes in the middle of what an operator's word began, and finds nothing to do after it."""
    made = kept(fleet)
    fleet.lose("b")
    reached, go = held_up(fleet)
    with ThreadPoolExecutor(1) as pool:
        said = pool.submit(fleet.unix.post, "/nodes/b/fenced", json={})
        assert reached.wait(15)
        looked_at_again(fleet)
        take(fleet.nodes["b"])
        go.set()
        assert made in said.result(30).json()["moved"]
    looked_at_again(fleet)
    assert json.loads((export / "late/owner.json").read_text())["node"] == "b"


def test_what_a_host_takes_while_one_of_it_waits_is_its_own(fleet: Fleet, export: Path) -> None:
    """It is on again, and is not heard yet."""
    made = kept(fleet)
    fleet.lose("b")
    nobody_takes_any(fleet)
    assert made in fleet.unix.post("/nodes/b/fenced", json={}).json()["waiting"]
    take(fleet.nodes["b"])
    looked_at_again(fleet)
    assert json.loads((export / "late/owner.json").read_text())["node"] == "b"
    for name in "ac":
        fleet.leases.make_available(name, "active")
    until(lambda: listed(fleet).get(made, ("",))[0] == "running", "it is tried again")
    assert json.loads((export / "late/owner.json").read_text())["node"] == "b"


def test_one_that_waits_is_made_anew_also_when_its_host_is_back(fleet: Fleet) -> None:
    made = kept(fleet)
    fleet.lose("b")
    nobody_takes_any(fleet)
    assert made in fleet.unix.post("/nodes/b/fenced", json={}).json()["waiting"]
    fleet.nodes["b"].world.reconciler.tick()
    fleet.find_again("b")
    assert fleet.nodes["b"].ids() == set(), "its volume was taken from it"
    for name in "ac":
        fleet.leases.make_available(name, "active")
    until(lambda: listed(fleet).get(made, ("",))[0] == "running", "it waits for ever")


def test_a_host_that_was_heard_in_between_is_off_no_more(fleet: Fleet, export: Path) -> None:
    """It comes and goes while something of it is being made, so that nobody looks at it, and one waits afterwards."""
    kept(fleet)
    fleet.lose("b")
    reached, go = held_up(fleet)
    for name in "ac":
        fleet.nodes[name].world.engine.fail["create_container"] = refusal()
    with ThreadPoolExecutor(1) as pool:
        said = pool.submit(fleet.unix.post, "/nodes/b/fenced", json={})
        assert reached.wait(15)
        back_for_a_moment(fleet)
        go.set()
        assert said.result(30).json()["moved"] == {}
    looked_at_again(fleet)
    assert json.loads((export / "late/owner.json").read_text())["node"] == "b"


def test_nothing_is_taken_by_a_word_that_had_to_wait_too_long(fleet: Fleet, export: Path) -> None:
    """For another host's sandboxes: meanwhile this one was heard."""
    fleet.lose("b")
    lock, waits = fleet.services.fencing._moving, threading.Event()

    async def hold() -> None:
        await lock.acquire()
        waits.set()

    fleet.soon(lambda: asyncio.ensure_future(hold()))
    assert waits.wait(15)
    with ThreadPoolExecutor(1) as pool:
        said = pool.submit(fleet.unix.post, "/nodes/b/fenced", json={})
        until(lambda: bool(lock._waiters), "it does not wait")
        back_for_a_moment(fleet)
        fleet.soon(lock.release)
        assert said.result(30).status_code == 409 and "has answered meanwhile" in said.result().json()["message"]
    looked_at_again(fleet)
    assert json.loads((export / "late/owner.json").read_text())["node"] == "b"


def test_one_that_cannot_be_made_waits_and_says_why(fleet: Fleet) -> None:
    made = kept(fleet)
    fleet.lose("b")
    for name in "ac":
        fleet.nodes[name].world.engine.fail["create_container"] = refusal()
    answer = fleet.unix.post("/nodes/b/fenced", json={}).json()
    assert "Docker refuses" in answer["waiting"][made] and answer["moved"] == {}
    until(lambda: listed(fleet).get(made, ("",))[0] == "running", "it is tried again")


def test_one_that_cannot_be_read_is_told_by_its_volume(fleet: Fleet, export: Path) -> None:
    kept(fleet)
    (export / "data" / STATE).write_text('{"slot": "0000000000aa"}')
    fleet.lose("b")
    answer = fleet.unix.post("/nodes/b/fenced", json={}).json()
    assert answer["moved"] == {} and "cannot be read" in answer["waiting"]["of volume data"]


def test_of_a_host_that_was_never_heard_the_storage_knows_what_it_has(fleet: Fleet) -> None:
    fleet.lose("b")
    fleet.services.index.contents["b"].known = False
    made = fleet.create(volume="data", shared=True)["sandboxID"]
    assert fleet.where(made).name in ("a", "c")
    assert fleet.unix.post("/v2/sandboxes", json={"volume": "own"}).status_code == 503


def test_a_host_that_answers_is_not_off(fleet: Fleet) -> None:
    answer = fleet.unix.post("/nodes/b/fenced", json={})
    assert answer.status_code == 409 and "node b answers" in answer.json()["message"]
    assert fleet.unix.post("/nodes/x/fenced", json={}).status_code == 404


def test_a_host_that_was_forgotten_before_it_was_off_has_its_volumes_no_longer(fleet: Fleet, export: Path) -> None:
    before = fleet.create(volume="data", shared=True)["sandboxID"]
    fleet.unix.delete(f"/sandboxes/{before}").raise_for_status()
    (export / "data/owner.json").write_text('{"node": "x", "slot": "000000000001", "generation": 3}')
    answer = fleet.unix.post("/v2/sandboxes", json={"volume": "data"})
    assert answer.status_code == 409 and "node fenced x --yes" in answer.json()["message"], answer.text
    assert fleet.unix.post("/nodes/x/fenced", json={}).json() == {"moved": {}, "waiting": {}}
    assert fleet.unix.post("/nodes/x/fenced", json={}).status_code == 404, "nothing names it any more"
    assert fleet.create(volume="data")["sandboxID"]


def test_one_that_waits_is_got_rid_of_with_its_volume(fleet: Fleet, export: Path) -> None:
    made = kept(fleet)
    fleet.lose("b")
    assert fleet.unix.delete("/volumes/data").status_code == 409, "it may be in use"
    nobody_takes_any(fleet)
    assert made in fleet.unix.post("/nodes/b/fenced", json={}).json()["waiting"]
    assert fleet.unix.delete("/volumes/data").status_code == 204
    assert not (export / "data").exists()
    until(lambda: "not made anew" not in fleet.unix.get("/v2/sandboxes").json()[0]["reason"], "it waits still")


def program(directory: Path, text: str) -> str:
    file = directory / "fence"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize(("ends", "state"), [(0, "running"), (1, "lost")])
def test_the_command_decides(export: Path, tmp_path: Path, ends: int, state: str) -> None:
    command = program(tmp_path, f'echo "$1" >>{tmp_path}/asked; exit {ends}')
    with running("abc", export=export, fencing=Fencing(command, after_s=0)) as fleet:
        made = kept(fleet)
        fleet.lose("b")
        fleet.leases.lose("b")
        asked = tmp_path / "asked"
        until(lambda: asked.exists() and asked.read_text() != "", "the command is run")
        until(lambda: listed(fleet).get(made, ("",))[0] == state, "what it says holds")
        assert asked.read_text() == "b\n"


def test_who_was_heard_while_the_command_ran_is_not_off_by_it(export: Path, tmp_path: Path) -> None:
    asked, go = tmp_path / "asked", tmp_path / "go"
    command = program(tmp_path, f"touch {asked}; while [ ! -e {go} ]; do sleep 0.05; done")
    with running("abc", export=export, fencing=Fencing(command, after_s=0)) as fleet:
        fleet.lose("b")
        fleet.leases.lose("b")
        until(asked.exists, "the command is not run")
        back_for_a_moment(fleet)
        go.touch()
        looked_at_again(fleet)
        assert json.loads((export / "late/owner.json").read_text())["node"] == "b"


@pytest.mark.parametrize("why", ["the Swarm hears it", "no leader", "most are not heard", "the clock was set"])
def test_it_is_not_run_by_one_that_may_itself_be_cut_off(export: Path, tmp_path: Path, why: str) -> None:
    command = program(tmp_path, f"touch {tmp_path}/asked")
    with running("abc", export=export, fencing=Fencing(command, after_s=0)) as fleet:
        if why == "the clock was set":
            fleet.services.fencing._settings = Fencing()
        if why != "the Swarm hears it":
            fleet.leases.lose("b")
            fleet.leases.lose("c")
        if why == "no leader":
            fleet.leases.leader = False
        if why == "most are not heard":
            fleet.services.fencing._settings = Fencing()  # until both are lost
            fleet.lose("c")
        fleet.lose("b")
        fleet.services.fencing._settings = Fencing(command, after_s=0)
        if why == "the clock was set":
            fleet.services.fencing._settings = Fencing(command, after_s=3600)
            fleet.services.nodes["b"].lost_since = 1.0
        asked = asyncio.run_coroutine_threadsafe(
            fleet.services.fencing._due(fleet.services.nodes["b"]), fleet._served.server._loop
        )
        assert not asked.result(15)
        assert not (tmp_path / "asked").exists()


def test_a_command_that_does_not_end_is_ended(tmp_path: Path) -> None:
    command = program(tmp_path, f"echo $$ >{tmp_path}/pid; exec sleep 60")
    code, _ = asyncio.run(run(command, "b", 3.0))
    assert code == "no exit code within 3 s"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_what_a_command_says_is_kept(tmp_path: Path) -> None:
    assert asyncio.run(run(program(tmp_path, "echo out; echo err >&2; exit 3"), "b", 30)) == (3, "out\nerr")
