"""Where new sandboxes come to, and what is booked for them."""

import asyncio
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from fleet import placing
from fleet.config import Share
from fleet.errors import FleetError
from fleet.leases import Lease
from tests.unit.fleet.fleets import Fleet, Seat, running
from tests.unit.sandboxd.conftest import member, until


def message(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.json()["code"] == status
    return str(answer.json()["message"])


def labelled(fleet: Fleet) -> dict[str, str]:
    """Id -> host, of the leases that have a sandbox's id."""
    return {lease.labels["sandbox.id"]: lease.node for lease in fleet.leases.all() if lease.labels["sandbox.id"]}


def warm(fleet: Fleet, name: str, number: int) -> set[str]:
    """New members of the pool of a host, which the service knows then."""
    world = fleet.nodes[name].world
    world.pool._settings.turn(True)
    found = {member(world) for _ in range(number)}
    until(lambda: found <= fleet.services.index.contents[name].warm.keys(), "the members are not known")
    return found


def test_cold_ones_are_booked_and_spread(patient: Fleet) -> None:
    made = [patient.create() for _ in range(6)]
    ids = {one["sandboxID"] for one in made}
    assert len(patient.nodes["a"].ids()) == len(patient.nodes["b"].ids()) == 3
    until(lambda: labelled(patient).keys() == ids, "the leases do not get their ids")
    assert labelled(patient) == {one: patient.where(one).name for one in ids}
    (labels,) = (one.labels for one in patient.leases.all() if one.labels["sandbox.id"] == made[0]["sandboxID"])
    assert labels == {
        "sandbox.project": "acme",
        "sandbox.id": made[0]["sandboxID"],
        "sandbox.template": "base",
        "sandbox.state": "running",
        "sandbox.owner": "",
        "sandbox.ends": "",
    }


def test_a_warm_one_is_claimed_without_the_scheduler(patient: Fleet) -> None:
    members = warm(patient, "b", 2)
    patient.leases.leader = False
    answers = [patient.unix.post("/v2/sandboxes", json={}) for _ in range(2)]
    assert {answer.json()["sandboxID"] for answer in answers} == members
    assert {answer.headers["x-sandbox-origin"] for answer in answers} == {"pool"} and patient.leases.placed == 0


def test_a_claimed_member_tells_its_lease(patient: Fleet) -> None:
    (found,) = warm(patient, "b", 1)
    lease = patient.leases.place("sb-1", 2048, 2.0, {"sandbox.id": found, "sandbox.state": "warm"}, "b")
    headers = patient.key("ada")
    patient.tcp.post("/v2/sandboxes", json={"templateID": "base"}, headers=headers).raise_for_status()

    def labels() -> dict[str, str]:
        (now,) = (one for one in patient.leases.all() if one.id == lease.id)
        return dict(now.labels)

    until(lambda: labels()["sandbox.state"] == "running", "the lease is still that of a member of a pool")
    assert labels()["sandbox.owner"] == "ada" and len(patient.leases.all()) == 1


@pytest.mark.parametrize("error", [FleetError("no such thing"), ValueError("no such thing")], ids=["engine", "bug"])
def test_a_lease_that_cannot_be_labelled_is_told_of(
    patient: Fleet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """The answer is out already; the reconcile does it later."""

    def refuse(lease: Lease, labels: Mapping[str, str]) -> Lease:
        raise error

    monkeypatch.setattr(patient.leases, "label", refuse)
    with caplog.at_level("INFO", "fleet.leasing"):
        patient.create()
        until(lambda: "no such thing" in caplog.text, "nobody is told")
    until(lambda: not patient.services.leasing._background, "it is kept")


def test_the_least_loaded_host_is_asked_first(patient: Fleet) -> None:
    warm(patient, "a", 1)
    warm(patient, "b", 1)
    patient.create(templateID="large")
    busy = next(name for name, node in patient.nodes.items() if node.ids())
    found = patient.create()["sandboxID"]
    assert patient.where(found).name != busy


def test_as_many_claims_at_once_as_there_are_members_are_hits(patient: Fleet) -> None:
    """None of them is answered before all are asked."""
    members = warm(patient, "a", 3) | warm(patient, "b", 3)
    together = threading.Barrier(6, timeout=30)
    for node in patient.nodes.values():

        async def held(scope: Scope, receive: Receive, send: Send, app: ASGIApp = node.gate.app) -> None:
            if scope.get("path", "").startswith("/warm/"):
                await asyncio.to_thread(together.wait)
            await app(scope, receive, send)

        node.gate.app = held
    with ThreadPoolExecutor(6) as several:
        answers = list(several.map(lambda _: patient.unix.post("/v2/sandboxes", json={}), range(6)))
    assert {answer.json()["sandboxID"] for answer in answers} == members and patient.leases.placed == 0


def test_a_member_that_is_given_is_not_counted_as_taken_any_more(
    patient: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is entered, which takes its time. A host gives its oldest one, whichever was thought of here."""
    world, gateway, update = patient.nodes["b"].world, patient.services.gateway, patient.services.gateway.update
    world.pool._settings.turn(True)
    oldest, younger = member(world), member(world)
    until(lambda: len(patient.services.index.warm("b", "base")) == 2, "the members are not known")
    patient.services.placing._warm._taken["b", "base"] = {oldest}  # so that it thinks of the other one
    given, go = threading.Event(), threading.Event()

    async def slow(sandbox_id: str) -> None:
        given.set()
        await asyncio.to_thread(go.wait, 30)
        await update(sandbox_id)

    monkeypatch.setattr(gateway, "has", lambda *_: False)
    monkeypatch.setattr(gateway, "update", slow)
    with ThreadPoolExecutor(2) as several:
        try:
            first = several.submit(patient.create)
            assert given.wait(15)
            second = several.submit(patient.create)
            until(lambda: sum(len(node.ids()) for node in patient.nodes.values()) == 2, "the second one is not made")
        finally:
            go.set()
    assert [one.result()["sandboxID"] for one in (first, second)] == [oldest, younger] and patient.leases.placed == 0


def test_where_all_members_seem_to_be_taken_is_asked_before_one_is_made(patient: Fleet) -> None:
    """As when a claim that is under way got a member of which a reading knows already that it is gone."""
    (found,) = warm(patient, "b", 1)
    assert patient.services.placing._warm.take("b", "base") == found
    answer = patient.unix.post("/v2/sandboxes", json={})
    assert answer.json()["sandboxID"] == found and patient.leases.placed == 0
    assert [one for one in patient.nodes["b"].gate.requests if "warm" in one] == ["node POST /warm/v2/sandboxes"]


def test_a_host_that_has_none_any_more_refuses_and_the_next_is_asked(patient: Fleet) -> None:
    """Another manager has taken them, which this one has not heard of."""
    gone, left = warm(patient, "a", 2), warm(patient, "b", 2)
    with patient.beside() as late:
        assert {patient.create()["sandboxID"] for _ in range(2)} & gone
        while gone & patient.services.index.warm("a", "base"):
            patient.create()
        headers = patient.key()
        before = len(patient.nodes["a"].gate.requests)
        taken = {*patient.nodes["a"].ids(), *patient.nodes["b"].ids()}
        still = left - taken
        made = {late.create()["sandboxID"] for _ in still}
        assert made == still and patient.leases.placed == 0
        asked = [one for one in patient.nodes["a"].gate.requests[before:] if "warm" in one]
        assert asked == ["node POST /warm/v2/sandboxes"], "it is asked once, and then it is known to have none"
        answer = late.tcp.post("/v2/sandboxes", json={"templateID": "base"}, headers=headers)
        assert answer.headers["x-sandbox-origin"] == "cold" and patient.leases.placed == 1
    assert sum(node.world.pool.status().misses for node in patient.nodes.values()) == 1


def test_an_idempotency_key_is_one_request_for_all_managers(patient: Fleet) -> None:
    """Also while the first one is under way, and whether it comes from a pool or not."""
    warm(patient, "a", 2)
    warm(patient, "b", 2)
    headers = patient.key()
    with patient.beside() as other:
        for number in range(8):
            once = {**headers, "Idempotency-Key": f"once-{number}"}
            seats = [patient, other, patient]

            def create(seat: Seat, once: dict[str, str] = once) -> str:
                answer = seat.tcp.post("/v2/sandboxes", json={"templateID": "base"}, headers=once)
                return str(answer.json()["sandboxID"])

            with ThreadPoolExecutor(3) as several:
                assert len(set(several.map(create, seats))) == 1
    made = [node.ids() for node in patient.nodes.values()]
    assert sum(map(len, made)) == 8 and all(made), "they are spread"


def test_what_a_repeated_request_makes_is_reached_at_once(patient: Fleet) -> None:
    """The first time its host broke off, and had made nothing."""
    home = patient.services.placing.home
    once = next(name for name in map(str, range(99)) if home(f"team {name}").name == "b")
    headers = {**patient.key(), "Idempotency-Key": once}
    gate = patient.nodes["b"].gate
    before = gate.app

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await before(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 502, "headers": []})
        await send({"type": "http.response.body", "body": b"it broke off"})

    with patient.beside() as other:  # which reads no host by itself
        gate.app = broken
        assert "does not answer" in message(
            other.tcp.post("/sandboxes", json={"templateID": "base"}, headers=headers), 503
        )
        gate.app = before
        made = other.tcp.post("/sandboxes", json={"templateID": "base"}, headers=headers)
        assert made.status_code == 201 and patient.nodes["b"].ids() == {made.json()["sandboxID"]}
        assert (patient.directory / "other.map").read_text() == f"{made.json()['sandboxID']} b\n"


def test_a_repeated_request_goes_elsewhere_when_its_host_is_full(patient: Fleet) -> None:
    """Where the first time came to nothing; else it would hear of a full host for ever."""
    headers = {**patient.key(), "Idempotency-Key": "once"}
    first = patient.services.placing.home("team once").name
    other = next(name for name in patient.nodes if name != first)
    patient.services.placing._requests["team", "once"] = first
    patient.nodes[first].world.memory_mb[0] = 1000
    for _ in range(2):
        made = patient.tcp.post("/sandboxes", json={"templateID": "base"}, headers=headers)
        assert made.status_code == 201, made.text
        assert patient.nodes[other].ids() == {made.json()["sandboxID"]}


def test_what_asks_for_more_than_a_member_has_is_booked(patient: Fleet) -> None:
    warm(patient, "a", 1)
    for body in ({"cold": True}, {"diskMB": 512}, {"volume": "work"}):
        patient.create(**body)
    assert patient.leases.placed == 3 and len(patient.services.index.contents["a"].warm) == 1


def test_without_a_leader_a_cold_one_waits(patient: Fleet) -> None:
    patient.leases.leader = False
    answer = patient.unix.post("/v2/sandboxes", json={})
    assert "does not have a leader" in message(answer, 503) and answer.headers["retry-after"] == "5"
    patient.leases.leader = True
    patient.create()


def test_no_room_names_the_fleet(patient: Fleet) -> None:
    for _ in range(4):
        patient.create(templateID="large")
    answer = patient.unix.post("/v2/sandboxes", json={"templateID": "large"})
    assert message(answer, 503).startswith("the fleet is full") and answer.headers["retry-after"] == "30"
    assert len(patient.leases.all()) == 4


def test_leases_reserve_a_part_of_what_is_allowed() -> None:
    """Two hosts with 16 GB and 16 processors, for sandboxes of 8 GB and 4 processors: with all of it four would fit."""
    with running(lost_s=60, booking=True, share=Share(0.5, 0.5)) as fleet:
        (found,) = warm(fleet, "a", 1)
        until(lambda: found in labelled(fleet), "the member has no lease")
        (booked,) = fleet.leases._booked.values()
        assert (booked.memory_mb, booked.cpus) == (1024, 1.0)
        for _ in range(7):
            fleet.create(templateID="large")
        answer = fleet.unix.post("/v2/sandboxes", json={"templateID": "large"})
        assert "(4096 MB, 2 CPUs)" in message(answer, 503)
        (a, b) = fleet.unix.get("/nodes").json()
        assert (a["memoryReservedMB"], a["cpusReserved"]) == (1024 + 3 * 4096, 1 + 3 * 2)
        assert (b["memoryReservedMB"], b["cpusReserved"]) == (4 * 4096, 4 * 2)


def test_a_host_that_refuses_is_passed_over(patient: Fleet) -> None:
    patient.nodes["a"].world.memory_mb[0] = 1000
    found = [patient.create()["sandboxID"] for _ in range(3)]
    assert patient.nodes["b"].ids() == set(found)
    until(lambda: set(labelled(patient)) == set(found), "the leases do not get their ids")
    until(lambda: len(patient.leases.all()) == 3, "the lease that was refused is left")
    patient.nodes["b"].world.memory_mb[0] = 1000
    text = message(patient.unix.post("/v2/sandboxes", json={}), 503)
    assert "the fleet is full" in text and "a: " in text and "b: " in text and "memory_reserve_mb" in text
    until(lambda: len(patient.leases.all()) == 3, "the leases that were refused are left")


def test_not_all_hosts_of_a_full_fleet_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler takes its time to say that a host has no room; who asks has not so much."""
    monkeypatch.setattr(placing, "TRIED_S", 0.3)
    with running("abcdefg", lost_s=60) as fleet:
        place = fleet.leases.place

        def slow(*given: Any, **named: Any) -> Lease:
            time.sleep(0.2)
            return place(*given, **named)

        monkeypatch.setattr(fleet.leases, "place", slow)
        for node in fleet.nodes.values():
            node.world.memory_mb[0] = 1000
        answer = fleet.unix.post("/v2/sandboxes", json={})
        text = message(answer, 503)
        assert "memory_reserve_mb" in text and text.endswith("no other host was asked within 0.3 s")
        assert int(answer.headers["retry-after"]) > 0 and fleet.leases.placed <= 2


def test_a_request_that_is_refused_leaves_no_lease(patient: Fleet) -> None:
    message(patient.unix.post("/v2/sandboxes", json={"timeout": -1}), 400)
    message(patient.unix.post("/v2/sandboxes", json={"templateID": "none"}), 404)
    until(lambda: patient.leases.all() == [], "a lease is left")


def test_what_must_be_here_is_made_here(patient: Fleet) -> None:
    """A browser that tests a sandbox of any host: what it asks goes by the gateway of the host that it is on."""
    warm(patient, "b", 1)
    (here,) = warm(patient, "a", 1)
    for _ in range(3):
        answer = patient.unix.post("/v2/sandboxes", json={"here": True})
        assert answer.status_code == 201, answer.text
    assert len(patient.nodes["a"].ids()) == 3 and here in patient.nodes["a"].ids()
    until(lambda: set(labelled(patient).values()) <= {"a"}, "a lease is elsewhere")
    patient.unix.post("/nodes/a/cordon", json={}).raise_for_status()
    text = message(patient.unix.post("/v2/sandboxes", json={"here": True}), 503)
    assert "what is asked for here is on node a, which takes no new sandboxes" in text


def test_what_is_on_a_host_binds_to_it(patient: Fleet) -> None:
    first = patient.create(volume="work")["sandboxID"]
    home = patient.where(first).name
    patient.unix.delete(f"/sandboxes/{first}")
    for _ in range(3):
        found = patient.create(volume="work")["sandboxID"]
        assert patient.where(found).name == home
        patient.unix.delete(f"/sandboxes/{found}")
    other = next(name for name in patient.nodes if name != home)
    source = next(one for one in iter(lambda: patient.create()["sandboxID"], "") if patient.where(one).name == other)
    assert patient.unix.post(f"/sandboxes/{source}/snapshots", json={"name": "saved"}).status_code == 201
    found = patient.create(templateID="saved")["sandboxID"]
    assert patient.where(found).name == other
    text = message(patient.unix.post("/v2/sandboxes", json={"templateID": "saved", "volume": "work"}), 409)
    assert f"volume 'work' is on node {home}" in text and f"template 'saved' is on node {other}" in text
    patient.leases.make_available(other, "pause")
    until(lambda: patient.services.members.availability(other) == "pause", "the service does not hear of it")
    text = message(patient.unix.post("/v2/sandboxes", json={"templateID": "saved"}), 503)
    assert f"docker-sandbox node activate {other}" in text


def test_a_name_of_a_template_is_one_hosts(patient: Fleet) -> None:
    ids = [patient.create()["sandboxID"] for _ in range(2)]
    answers = [patient.unix.post(f"/sandboxes/{one}/snapshots", json={"name": "saved"}) for one in ids]
    assert answers[0].status_code == 201
    assert f"is on node {patient.where(ids[0]).name} already" in message(answers[1], 409)


def test_new_names_have_one_home(patient: Fleet) -> None:
    """Whoever asks, and however often: else two hosts would have a volume of one name."""

    def create(_: int) -> Any:
        return patient.unix.post("/v2/sandboxes", json={"volume": "shared"})

    with ThreadPoolExecutor(4) as several:
        answers = list(several.map(create, range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    homes = {patient.services.placing.home(f"v{number}").name for number in range(50)}
    assert homes == {"a", "b"}


def test_a_limit_holds_for_parallel_creates(patient: Fleet) -> None:
    headers = patient.key(max_sandboxes=4)
    begin = threading.Barrier(8)

    def create(_: int) -> int:
        begin.wait()
        return patient.tcp.post("/v2/sandboxes", json={"templateID": "base"}, headers=headers).status_code

    with ThreadPoolExecutor(8) as several:
        assert sorted(several.map(create, range(8))) == [201] * 4 + [429] * 4
    assert len(patient.nodes["a"].ids() | patient.nodes["b"].ids()) == 4


def test_who_is_at_his_limit_holds_up_nobody_else(patient: Fleet) -> None:
    """All hosts are read for him, and one of them takes its time."""
    ada, bob, asked, answer = patient.key("ada", 1), patient.key("bob", 1), threading.Event(), threading.Event()
    gate = patient.nodes["b"].gate
    before, body = gate.app, {"templateID": "base"}

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/inventory":
            asked.set()
            while not answer.is_set():
                await asyncio.sleep(0.01)
        await before(scope, receive, send)

    assert patient.tcp.post("/v2/sandboxes", json=body, headers=ada).status_code == 201
    gate.app = slow
    assert asked.wait(10)
    with ThreadPoolExecutor(1) as beside:
        try:
            refused = beside.submit(patient.tcp.post, "/v2/sandboxes", json=body, headers=ada)
            limits = patient.services.limits
            until(lambda: any(one.locked() for one in limits._changed.values()), "the limit is not looked at")
            assert patient.tcp.post("/v2/sandboxes", json=body, headers=bob, timeout=10).status_code == 201
            assert not refused.done()
        finally:
            answer.set()
        assert "may have 1" in message(refused.result(), 429)
    until(lambda: not limits._changed, "locks are kept")


def test_a_host_that_takes_nothing_takes_no_forks(patient: Fleet) -> None:
    headers = patient.key("ada")
    made = patient.tcp.post("/v2/sandboxes", json={"templateID": "base"}, headers=headers).json()["sandboxID"]
    where = patient.where(made)
    patient.leases.make_available(where.name, "pause")
    patient.unix.get("/nodes")
    refused = message(patient.tcp.post(f"/sandboxes/{made}/fork", headers=headers), 503)
    assert f"is on node {where.name}, which takes no new sandboxes" in refused
    assert where.ids() == {made}


def test_forks_count_too(patient: Fleet) -> None:
    headers = patient.key(max_sandboxes=3)
    made = patient.tcp.post("/v2/sandboxes", json={"templateID": "base"}, headers=headers).json()["sandboxID"]
    fork = f"/sandboxes/{made}/fork"
    assert "may have 3" in message(patient.tcp.post(fork, json={"count": 3}, headers=headers), 429)
    copies = patient.tcp.post(fork, json={"count": 2}, headers=headers)
    assert copies.status_code == 201 and len(copies.json()) == 2
    ids = [one["sandbox"]["sandboxID"] for one in copies.json()]
    assert all(patient.tcp.get(f"/sandboxes/{one}", headers=headers).status_code == 200 for one in ids)
    assert "may have 3" in message(patient.tcp.post(fork, headers=headers), 429)


def test_the_reconcile_books_what_is_there() -> None:
    """Members of pools get their leases, and a claim is told to them."""
    with running(lost_s=60, booking=True) as fleet:
        (found,) = warm(fleet, "b", 1)

        def labels() -> dict[str, str]:
            return next((dict(lease.labels) for lease in fleet.leases.all()), {})

        until(lambda: labels().get("sandbox.id") == found, "the member has no lease")
        assert labels()["sandbox.state"] == "warm"
        headers = fleet.key("ada")
        made = fleet.tcp.post("/v2/sandboxes", json={"templateID": "base"}, headers=headers)
        assert made.json()["sandboxID"] == found
        until(lambda: (labels()["sandbox.state"], labels()["sandbox.owner"]) == ("running", "ada"), "it is not told")
        assert len(fleet.leases.all()) == 1


def test_three_hosts() -> None:
    with running("abc", lost_s=60) as fleet:
        found = {fleet.create()["sandboxID"] for _ in range(9)}
        assert [len(node.ids()) for node in fleet.nodes.values()] == [3, 3, 3]
        assert {row["sandboxID"] for row in fleet.unix.get("/v2/sandboxes").json()} == found
        assert dict(fleet.haproxy.map).keys() == found - fleet.nodes["a"].ids()
        assert all(fleet.unix.delete(f"/sandboxes/{one}").status_code == 204 for one in found)
        assert fleet.unix.get("/v2/sandboxes").json() == [] == fleet.haproxy.map
