"""Acts and their records: for whom something is done, what covers what, and what is left out."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from sandboxd import audit
from sandboxd.audit import (
    EXPIRY,
    MOST_ADDRESSES,
    NOBODY,
    OFTEN,
    POOL,
    Act,
    Actor,
    Audit,
    acting,
    carried,
    current,
    harmless,
    within,
)
from sandboxd.auditlog import AuditLog
from sandboxd.errors import BadRequest, Conflict, EngineError, NotReady, SandboxdError
from sandboxd.records import Claim
from tests.unit.sandboxd.conftest import World, member
from tests.unit.sandboxd.fake_engine import START

ADA = Actor("key", "1f0c9a4e", "ada")


class Book:
    """An audit with a clock, and what it has written."""

    def __init__(self, file: Path) -> None:
        self.file, self.now, self.failures = file, START, list[tuple[str, SandboxdError]]()
        self.audit = Audit(
            AuditLog(file), lambda: self.now, lambda action, error: self.failures.append((action, error))
        )

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.exists() else []

    def actions(self) -> list[tuple[str, str]]:
        return [(one["actor"]["kind"], one["action"]) for one in self.records()]


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path / "audit.log")


def test_a_record_has_all_its_fields_whatever_happened(book: Book, world: World) -> None:
    row = world.sandboxes.create(world.config.templates["base"], Claim())
    with within(Act(ADA, address="203.0.113.9")), book.audit.doing("stop", row, detail="it took too much"):
        pass
    (record,) = book.records()
    assert record.pop("ms") >= 0
    assert record == {
        "time": "2027-01-15T08:00:00.000Z",
        "actor": {"kind": "key", "id": "1f0c9a4e", "name": "ada"},
        "address": "203.0.113.9",
        "action": "stop",
        "sandbox": row.id,
        "template": "base",
        "outcome": "ok",
        "status": 0,
        "error": "",
        "detail": "it took too much",
    }


def test_without_an_actor_it_was_the_daemon(book: Book) -> None:
    with book.audit.doing("sweep"):
        pass
    with acting(EXPIRY), book.audit.doing("remove"):
        pass
    with acting(EXPIRY), book.audit.doing("fill", by=POOL):
        pass
    assert book.actions() == [("sandboxd", "sweep"), ("expiry", "remove"), ("pool", "fill")]


def test_what_fails_is_recorded_counted_and_raised(book: Book) -> None:
    with pytest.raises(Conflict), book.audit.doing("pause"):
        raise Conflict("it is stopped")
    with pytest.raises(ZeroDivisionError), book.audit.doing("pause"):
        print(1 / 0)
    found = [(one["outcome"], one["status"], one["error"]) for one in book.records()]
    assert found == [("error", 409, "it is stopped"), ("error", 500, "internal error: ZeroDivisionError")]
    assert [action for action, _ in book.failures] == ["pause"], "only what we know how to name"


def test_an_act_covers_what_it_is_for_and_nothing_else(book: Book, world: World) -> None:
    one, other = (world.sandboxes.create(world.config.templates["base"], Claim()) for _ in range(2))
    act = Act(ADA, "kill")
    with within(act):
        current().about(one)
        with book.audit.doing("remove", one):
            pass
        assert book.records() == []
        with book.audit.doing("remove", other, detail="cleanup"):
            pass
    assert book.actions() == [("key", "remove")] and book.records()[0]["sandbox"] == other.id
    book.audit.record(act)
    with within(act), book.audit.doing("remove", one):
        pass
    assert book.actions()[1:] == [("key", "kill"), ("key", "remove")], "one that is over covers nothing"


def test_a_request_for_a_sandbox_becomes_a_claim_or_a_create(book: Book) -> None:
    for made in ("claim", "create"):
        act = Act(ADA, "create")
        with within(act), book.audit.doing(made):
            pass
        book.audit.record(act)
    assert [action for _, action in book.actions()] == ["claim", "create"]


def test_other_threads_act_for_the_same(book: Book) -> None:
    def work() -> None:
        with book.audit.doing("remove"):
            pass

    with acting(ADA):
        threads = [threading.Thread(target=carried(work)), threading.Thread(target=work)]
        for thread in threads:
            thread.start()
            thread.join()
    assert book.actions() == [("key", "remove"), ("sandboxd", "remove")]


def test_what_is_refused_again_and_again_is_summed_up(book: Book) -> None:
    stranger = Actor("nobody")
    for _ in range(OFTEN + 30):
        book.audit.record(Act(stranger, "create", status=401, error="Invalid API key"))
    book.audit.record(Act(ADA, "kill", status=404, error="not found"))
    book.audit.record(Act(ADA, "kill", status=204))
    assert len(book.records()) == OFTEN + 2, "each has a limit of its own, and what succeeds has none"
    assert book.audit.settle() == "" and len(book.records()) == OFTEN + 2
    book.now += 61
    book.audit.settle()
    assert book.records()[-1]["detail"] == "30 more within 60 s, left out here"
    assert book.records()[-1]["actor"]["kind"] == "nobody"
    book.audit.settle()
    book.audit.record(Act(stranger, "create", status=401, error="Invalid API key"))
    assert len(book.records()) == OFTEN + 4, "a new window begins"


def test_a_flood_from_one_address_hides_nobody_elses_tries(book: Book) -> None:
    for _ in range(OFTEN + 5):
        book.audit.record(Act(NOBODY, "create", "198.51.100.1", status=401))
    book.audit.record(Act(NOBODY, "sign-in", "198.51.100.2", status=401))
    assert book.records()[-1]["address"] == "198.51.100.2"
    book.now += 61
    book.audit.settle()
    assert (book.records()[-1]["address"], book.records()[-1]["detail"][:6]) == ("198.51.100.1", "5 more")


def test_many_addresses_do_not_fill_the_disk_either(book: Book) -> None:
    for number in range(MOST_ADDRESSES + 100):
        book.audit.record(Act(NOBODY, "create", f"2001:db8::{number:x}", status=401))
    assert len(book.records()) == MOST_ADDRESSES + OFTEN
    book.now += 61
    book.audit.settle()
    assert (book.records()[-1]["address"], book.records()[-1]["detail"][:7]) == ("", "80 more")


def test_files_of_volumes_are_written_by_the_thousand(book: Book) -> None:
    for _ in range(OFTEN + 5):
        book.audit.record(Act(Actor("volume", "vol-1"), "volume-content", status=201))
    book.now += 61
    book.audit.settle()
    last = book.records()[-1]
    assert len(book.records()) == OFTEN + 1 and last["outcome"] == "ok" and last["detail"].startswith("5 more")


def test_no_text_is_longer_than_it_may_be_and_each_record_is_one_line(book: Book) -> None:
    act = Act(Actor("key", "x" * 999, "é\n" * 999), "kill\n", "1" * 999, "i" * 999, "t" * 999, "d\n" + "e" * 999, 503)
    act.error = "e" * 999
    book.audit.record(act)
    (line,) = book.file.read_bytes().splitlines()
    assert len(line) < 4000 and json.loads(line)["detail"] == "d"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (BadRequest("envVars: 'PASSWORD=hunter2' cannot be the name"), "envVars"),
        (BadRequest('name: "x": use others'), "name"),
        (NotReady("its agent does not answer.\nhunter2"), "its agent does not answer."),
        (EngineError("image 'base:1' is not on this host"), "image 'base:1' is not on this host"),
    ],
)
def test_errors_are_told_without_what_somebody_sent_or_logged(book: Book, error: SandboxdError, told: str) -> None:
    with pytest.raises(SandboxdError), book.audit.doing("create"):
        raise error
    assert book.records()[0]["error"] == told and "hunter2" not in book.file.read_text()


def test_harmless_leaves_other_refusals_alone() -> None:
    assert harmless(404, "sandbox 'x' not found") == "sandbox 'x' not found"
    assert harmless(400, "timeout: is missing. Give seconds") == "timeout: is missing. Give seconds"


def test_the_life_of_a_sandbox_without_any_request(world: World) -> None:
    """What the daemon does by itself: the pool fills, the time ends, the watchdog stops, the ledger is compared."""
    filled = member(world)
    made = world.sandboxes.create(world.config.templates["base"], Claim())
    world.engine.layers[made.id] = 20_000 * 1024 * 1024
    world.watchdog.look()
    with acting(audit.RECONCILE):
        world.engine.containers.pop(filled)
        world.reconciler.tick()
    world.reconciler.cleanup(-1.0)
    lines = [json.loads(line) for line in world.config.audit_log.read_text().splitlines()]
    told = [(one["actor"]["kind"], one["action"], one["sandbox"]) for one in lines]
    assert told[:4] == [
        ("pool", "fill", filled),
        ("sandboxd", "create", made.id),
        ("watchdog", "stop", made.id),
        ("reconcile", "remove", filled),
    ]
    assert told[-1] == ("cleanup", "remove", made.id) and lines[-1]["detail"] == "cleanup"
    assert "its files outside /code take" in lines[2]["detail"]
    assert lines[3]["detail"] == "its container was removed outside sandboxd"


def test_an_audit_log_that_cannot_be_written_is_trouble_of_the_host(world: World) -> None:
    world.config.audit_log.parent.mkdir()
    world.config.audit_log.mkdir()
    made = world.sandboxes.create(world.config.templates["base"], Claim())
    assert made.state == "running" and "Is a directory: records are lost" in world.sandboxes.audit.settle()
