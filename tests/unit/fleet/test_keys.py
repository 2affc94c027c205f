"""The API keys: made anywhere, the same on all hosts, and newer ones win."""

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.types import Message, Receive, Scope, Send

from fleet.inventory import Contents
from fleet.keys import UNSHARED
from fleet.nodes import Node as Asked
from sandboxd.keys import Keys, digest, fingerprint
from tests.unit.fleet.fleets import Fleet, Node, running
from tests.unit.sandboxd.conftest import until


def marks(fleet: Fleet) -> set[str]:
    return {mark(node) for node in fleet.nodes.values()}


def mark(node: Node) -> str:
    return fingerprint(node.world.ledger.digests()[1])


def knows(node: Node, key: str) -> bool:
    return Keys(node.world.ledger).find(key) is not None


def shared_once(fleet: Fleet) -> None:
    """All hosts have the keys' first version."""
    until(lambda: {node.world.ledger.digests()[0] for node in fleet.nodes.values()} == {1}, "there is no version")


def test_a_new_key_is_on_all_hosts_at_once(patient: Fleet) -> None:
    key = patient.unix.post("/keys", json={"name": "ci", "maxSandboxes": 2}).json()
    assert all(knows(node, key["key"]) for node in patient.nodes.values()) and len(marks(patient)) == 1
    found = patient.unix.post("/keys/find", json={"key": key["key"]}).json()
    assert (found["keyID"], found["name"], found["maxSandboxes"]) == (key["keyID"], "ci", 2)
    assert patient.unix.get(f"/keys/{key['keyID']}").json()["name"] == "ci"
    patient.unix.delete(f"/keys/{key['keyID']}").raise_for_status()
    assert not any(knows(node, key["key"]) for node in patient.nodes.values())


def test_a_host_that_was_away_gets_them(fleet: Fleet) -> None:
    first = fleet.unix.post("/keys", json={"name": "one"}).json()
    fleet.lose("b")
    second = fleet.unix.post("/keys", json={"name": "two"}).json()
    fleet.unix.delete(f"/keys/{first['keyID']}").raise_for_status()
    assert knows(fleet.nodes["b"], first["key"]) and not knows(fleet.nodes["b"], second["key"])
    fleet.find_again("b")
    until(lambda: len(marks(fleet)) == 1, "the keys differ")
    assert knows(fleet.nodes["b"], second["key"]) and not knows(fleet.nodes["b"], first["key"])


def test_where_most_managers_are_not_heard_no_key_is_changed_or_brought_about() -> None:
    """Those may have newer ones: what they have revoked would be good again."""
    with running("abcd") as fleet:
        shared_once(fleet)
        for name in "bc":
            fleet.services.nodes[name].role = "manager"
            fleet.lose(name)
        answer = fleet.unix.post("/keys", json={"name": "ci"})
        assert answer.status_code == 503
        assert (
            answer.json()["message"] == "only 1 of 3 managers of the fleet are heard here: keys cannot be changed now."
        )
        assert fleet.unix.get("/keys").status_code == 200
        Keys(fleet.nodes["d"].world.ledger).create("newer", 0, 1.0)
        kept, contents = mark(fleet.nodes["d"]), fleet.services.index.contents
        until(lambda: contents["d"].keys[1] == kept, "its keys are not read")
        seen = contents["d"].at
        until(lambda: contents["d"].at > seen + 30, "nothing is looked at")
        assert mark(fleet.nodes["d"]) == kept
        fleet.find_again("b")
        until(lambda: len({mark(fleet.nodes[name]) for name in "abd"}) == 1, "the keys differ")
        assert fleet.unix.post("/keys", json={"name": "ci"}).status_code == 201


def test_a_key_that_another_manager_made_is_known(patient: Fleet) -> None:
    """It comes to this manager's host, whatever way, maybe while all get their first version."""
    _, text = Keys(patient.nodes["a"].world.ledger).create("else", 0, 1.0)
    assert patient.tcp.get("/v2/sandboxes", headers={"X-API-KEY": text}).status_code in (200, 401)  # b may not know it
    until(lambda: knows(patient.nodes["b"], text), "the other host does not get it")
    assert patient.tcp.get("/v2/sandboxes", headers={"X-API-KEY": text}).status_code == 200


def test_a_host_whose_pool_hangs_holds_up_no_keys(patient: Fleet) -> None:
    """It answers all else, and so is not lost."""
    gate, asked, answer = patient.nodes["b"].gate, threading.Event(), threading.Event()
    before = gate.app

    async def hanging(scope: Scope, receive: Receive, send: Send) -> None:
        if (scope["method"], scope["path"]) == ("POST", "/pool"):
            asked.set()
            while not answer.is_set():
                await asyncio.sleep(0.01)
        await before(scope, receive, send)

    gate.app = hanging
    patient.nodes["b"].world.pool._settings.turn(True)
    patient.leases.make_available("b", "pause")
    try:
        assert asked.wait(15), "the pool of a cordoned host is not turned off"
        Keys(patient.nodes["a"].world.ledger).create("ada", 0, 1.0)
        until(lambda: len(marks(patient)) == 1, "the keys differ")
    finally:
        answer.set()


def test_hosts_that_had_keys_of_their_own_take_the_managers() -> None:
    """Also when theirs have changed oftener."""
    with running(lost_s=60) as fleet:
        own, theirs = (Keys(fleet.nodes[name].world.ledger) for name in ("a", "b"))
        kept = own.create("kept", 0, 1.0)[1]
        lost = [theirs.create(f"lost{number}", 0, 1.0)[1] for number in range(3)]
        until(lambda: len(marks(fleet)) == 1, "the keys differ")
        assert own.find(kept) is not None and theirs.find(kept) is not None
        assert not any(theirs.find(text) or own.find(text) for text in lost)
        assert digest(kept) in theirs.digests()[1]


def test_no_key_is_made_while_keys_are_brought_about(patient: Fleet) -> None:
    """Those would take the place of it."""
    lock, held = patient.services.keys._one, threading.Event()

    async def hold() -> None:
        await lock.acquire()
        held.set()

    patient.soon(lambda: asyncio.ensure_future(hold()))
    assert held.wait(30)
    with ThreadPoolExecutor(1) as one:
        made = one.submit(patient.key, "ada")
        until(lambda: len(lock._waiters or ()) == 2, "the request, and the service itself, do not wait")
        assert not any(asked == "node POST /keys" for asked in patient.nodes["a"].gate.requests)
        patient.soon(lock.release)
        assert patient.tcp.get("/teams", headers=made.result()).status_code == 200


def test_a_key_that_is_made_while_they_are_read_stays(patient: Fleet) -> None:
    """By another manager, before the keeper's keys get a version that is newer than what another host has."""
    shared_once(patient)
    own, theirs = (Keys(patient.nodes[name].world.ledger) for name in ("a", "b"))
    gate, made = patient.nodes["a"].gate, list[str]()
    before = gate.app

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        async def told(message: Message) -> None:
            if not made and message["type"] == "http.response.start":
                made.append(own.create("new", 0, 1.0)[1])
            await send(message)

        await before(scope, receive, told if scope.get("path") == "/keys/digests" else send)

    gate.app = late
    theirs.create("lost", 0, 1.0)
    until(lambda: bool(made) and len(marks(patient)) == 1, "the keys differ")
    assert [each.find(made[0]) is not None for each in (own, theirs)] == [True, True]


@pytest.mark.parametrize("version", ["x", 2**64, 2**63 - 1])
def test_a_version_that_is_none_keeps_nobody_from_the_keys(patient: Fleet, version: object) -> None:
    shared_once(patient)
    gate, said = patient.nodes["b"].gate, threading.Event()
    before = gate.app

    async def other(scope: Scope, receive: Receive, send: Send) -> None:
        async def told(message: Message) -> None:
            if message["type"] == "http.response.body":
                value = json.loads(message["body"])
                value["keys"]["version"] = version
                message = {**message, "body": json.dumps(value).encode().ljust(len(message["body"]) + 64)}
                said.set()
            elif message["type"] == "http.response.start":
                message = {**message, "headers": []}
            await send(message)

        await before(scope, receive, told if scope["path"] == "/inventory" else send)

    gate.app = other
    assert said.wait(15)
    key = patient.key("ci")["X-API-KEY"]
    assert knows(patient.nodes["a"], key)
    until(lambda: knows(patient.nodes["b"], key), "it does not get them")


def test_older_keys_are_refused(patient: Fleet) -> None:
    patient.unix.post("/keys", json={"name": "ci"}).raise_for_status()

    async def replaced(*versions: int) -> list[int]:
        node = Asked(patient.config.nodes["b"], patient.config.domain)
        answers = [await node.ask("PUT", "/keys", {"version": version, "keys": []}) for version in versions]
        await node.close()
        return [answer.status for answer in answers]

    assert asyncio.run(replaced(1, 500)) == [409, 204]


def test_the_list_counts_over_all_hosts(patient: Fleet) -> None:
    headers = patient.key("ada")
    for _ in range(4):
        patient.tcp.post("/v2/sandboxes", json={"templateID": "base"}, headers=headers).raise_for_status()
    assert {len(node.ids()) for node in patient.nodes.values()} == {2}
    (row,) = patient.unix.get("/keys").json()
    assert (row["name"], row["sandboxes"]) == ("ada", 4)


def test_a_fleet_has_a_version_from_the_beginning(patient: Fleet) -> None:
    """Else a change on a manager that is alone for a while would not be newer than what the others have."""
    shared_once(patient)
    patient.unix.post("/keys", json={"name": "ci"}).raise_for_status()
    assert {node.world.ledger.digests()[0] for node in patient.nodes.values()} == {2}


def set_up_anew(node: Node) -> None:
    """Its ledger has neither keys nor a version."""
    ledger = node.world.ledger
    with ledger._transaction():
        ledger._db.execute("DELETE FROM keys")
        ledger._db.execute("DELETE FROM counters WHERE key = 'key_changes'")


def test_a_manager_that_was_set_up_anew_gets_the_keys_of_the_fleet(patient: Fleet) -> None:
    shared_once(patient)
    key = patient.unix.post("/keys", json={"name": "ci"}).json()["key"]
    set_up_anew(patient.nodes["a"])
    until(lambda: patient.nodes["a"].world.ledger.digests()[0] > 0, "it takes part no more")
    assert knows(patient.nodes["a"], key) and knows(patient.nodes["b"], key)


@pytest.mark.parametrize("why", ["they cannot be read", "nobody was heard"])
def test_while_those_cannot_be_had_none_are_given_out_or_made(fleet: Fleet, why: str) -> None:
    shared_once(fleet)
    key = fleet.unix.post("/keys", json={"name": "ci"}).json()["key"]
    gate, asked = fleet.nodes["b"].gate, threading.Semaphore(0)
    before = gate.app

    async def refusing(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/keys/digests":
            asked.release()
            scope = {**scope, "path": "/none"}
        await before(scope, receive, send)

    if why == "they cannot be read":
        gate.app = refusing
    else:
        fleet.lose("b")
        fleet.services.index.contents["b"] = Contents()
    set_up_anew(fleet.nodes["a"])
    if why == "they cannot be read":
        assert asked.acquire(timeout=15) and asked.acquire(timeout=15), "they are asked for once at most"
    else:
        until(lambda: fleet.services.index.contents["a"].keys == UNSHARED, "it is not read")
    answer = fleet.unix.post("/keys", json={"name": "new"})
    assert answer.status_code == 503 and "keys" in answer.json()["message"], answer.text
    assert fleet.nodes["a"].world.ledger.digests() == (0, {}) and knows(fleet.nodes["b"], key)
    gate.app = before
    if why != "they cannot be read":
        fleet.find_again("b")
    until(lambda: knows(fleet.nodes["a"], key), "it does not get them")
    assert knows(fleet.nodes["b"], key)
