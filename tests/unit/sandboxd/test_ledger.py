"""The ledger's transitions, on a real file."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxd.config import Template
from sandboxd.errors import LedgerError
from sandboxd.ledger import MIGRATIONS, Claim, Ledger

BASE = Template("base", "base:1", 2048, 2.0, 1024)
IMAGE = "sha256:1"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "ledger.sqlite")
    yield made
    made.close()


def warm(ledger: Ledger, slot: str, created: float = 1.0, image: str = IMAGE) -> None:
    ledger.create(slot, "pool", BASE, image, created)
    ledger.set_id(slot, f"id{slot}")
    ledger.set_boot(slot, f"10.0.0.{slot}", "boot", image)
    ledger.set_warm(slot, f"pool-{slot}")


def test_a_member_is_claimed_once(ledger: Ledger) -> None:
    warm(ledger, "1")
    claimed = ledger.claim("p", "base", IMAGE, Claim(keep=True, metadata={"a": "b"}), 100.5)
    assert claimed is not None and (claimed.state, claimed.keep, claimed.metadata) == ("running", True, {"a": "b"})
    assert claimed.container == "p-qa-19700101-000140-500"
    assert ledger.claim("p", "base", IMAGE, Claim(), 101) is None
    assert (ledger.counter("hits"), ledger.counter("misses")) == (1, 1)


def test_the_oldest_member_of_that_image_comes_first(ledger: Ledger) -> None:
    warm(ledger, "1", created=2, image="sha256:old")
    warm(ledger, "2", created=3)
    warm(ledger, "3", created=1)
    claimed = ledger.claim("p", "base", IMAGE, Claim(), 100)
    assert claimed is not None and claimed.slot == "3"


def test_two_claims_in_one_millisecond_have_two_names(ledger: Ledger) -> None:
    warm(ledger, "1")
    warm(ledger, "2")
    names = {found.container for _ in range(2) if (found := ledger.claim("p", "base", IMAGE, Claim(), 7.0))}
    assert len(names) == 2


def test_transitions_that_are_not_allowed_are_refused(ledger: Ledger) -> None:
    warm(ledger, "1")
    with pytest.raises(LedgerError, match="slot 1 is warm, not creating"):
        ledger.set_id("1", "other")
    with pytest.raises(LedgerError, match="slot 9 is not in the ledger"):
        ledger.set_warm("9", "x")
    with pytest.raises(LedgerError, match="is warm, not removing"):
        ledger.set_closed("1", 5)
    assert ledger.set_removing("1", "why", ("running",)) is None


def test_the_first_reason_is_kept(ledger: Ledger) -> None:
    warm(ledger, "1")
    ledger.set_removing("1", "first")
    again = ledger.set_removing("1", "second")
    assert again is not None and again.reason == "first"


def test_a_dead_member_is_no_hit(ledger: Ledger) -> None:
    warm(ledger, "1")
    ledger.claim("p", "base", IMAGE, Claim(), 1)
    ledger.unclaim_dead("1", "dead")
    assert ledger.counter("hits") == 0 and ledger.rows("removing")[0].reason == "dead"


def test_ends_routes_and_prefixes_are_those_of_sandboxes_in_use(ledger: Ledger) -> None:
    for slot in "123":
        warm(ledger, slot)
    ledger.claim("p", "base", IMAGE, Claim(timeout_s=10), 100)
    ledger.claim("p", "base", IMAGE, Claim(), 100)
    assert ledger.routes() == {"id1": "10.0.0.1", "id2": "10.0.0.2"}
    assert ledger.next_end() == 110
    assert [row.slot for row in ledger.expired(110)] == ["1"] and ledger.expired(109.9) == []
    assert [row.id for row in ledger.find("id")] == ["id1", "id2"] and ledger.find("id3") == []


def test_a_closed_row_forgets_what_was_told_in_confidence(ledger: Ledger, tmp_path: Path) -> None:
    warm(ledger, "1")
    ledger.claim("p", "base", IMAGE, Claim(envs={"KEY": "secret"}), 1)
    ledger.set_removing("1", "test")
    ledger.set_closed("1", 50)
    row = ledger.get("1")
    assert row is not None and row.envs == {} and row.state == "closed"
    ledger.forget_closed(50)
    assert ledger.get("1") is not None
    ledger.forget_closed(51)
    assert ledger.get("1") is None


def test_everything_survives_a_restart_of_the_daemon(tmp_path: Path) -> None:
    first = Ledger(tmp_path / "l.sqlite")
    warm(first, "1")
    first.claim("p", "base", IMAGE, Claim(envs={"A": "1"}, timeout_s=5), 1)
    first.set_setting("pool_enabled", "yes")
    before = first.rows()
    first.close()
    second = Ledger(tmp_path / "l.sqlite")
    assert second.rows() == before and second.setting("pool_enabled") == "yes" and second.counter("hits") == 1
    second.close()


def test_only_root_reads_the_file(ledger: Ledger, tmp_path: Path) -> None:
    assert (tmp_path / "ledger.sqlite").stat().st_mode & 0o777 == 0o600


def test_a_newer_ledger_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "l.sqlite"
    with sqlite3.connect(file) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    with pytest.raises(LedgerError, match=r"written by a newer release .* Deploy the newer release"):
        Ledger(file)


def test_a_failed_transaction_changes_nothing(ledger: Ledger) -> None:
    warm(ledger, "1")
    with pytest.raises(sqlite3.IntegrityError):
        ledger.create("1", "cold", BASE, IMAGE, 5)
    assert [row.origin for row in ledger.rows()] == ["pool"]
    warm(ledger, "2")
