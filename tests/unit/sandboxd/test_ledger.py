"""The ledger's transitions, on a real file."""

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sandboxd.config import Template
from sandboxd.errors import HostError, LedgerError
from sandboxd.ledger import Ledger
from sandboxd.records import Claim, Sandbox

BASE = Template("base", "base:1", 2048, 2.0, 1024)
IMAGE = "sha256:1"


@pytest.fixture
def ledger(directory: Path) -> Iterator[Ledger]:
    made = Ledger(directory / "ledger.sqlite")
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


def test_a_closed_row_forgets_what_was_told_in_confidence(ledger: Ledger, directory: Path) -> None:
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


def test_everything_survives_a_restart_of_the_daemon(directory: Path) -> None:
    first = Ledger(directory / "l.sqlite")
    warm(first, "1")
    first.claim("p", "base", IMAGE, Claim(envs={"A": "1"}, timeout_s=5), 1)
    first.set_setting("pool_enabled", "yes")
    before = first.rows()
    first.close()
    second = Ledger(directory / "l.sqlite")
    assert second.rows() == before and second.setting("pool_enabled") == "yes" and second.counter("hits") == 1
    second.close()


def test_only_root_reads_the_file(ledger: Ledger, directory: Path) -> None:
    assert (directory / "ledger.sqlite").stat().st_mode & 0o777 == 0o600


def test_a_failed_transaction_changes_nothing(ledger: Ledger) -> None:
    warm(ledger, "1")
    with pytest.raises(sqlite3.IntegrityError):
        ledger.create("1", "cold", BASE, IMAGE, 5)
    assert [row.origin for row in ledger.rows()] == ["pool"]
    warm(ledger, "2")


def test_twenty_claimers_and_ten_members_make_ten_hits(directory: Path) -> None:
    """Each claimer has its own connection, as other processes would."""
    file = directory / "l.sqlite"
    ledgers = [Ledger(file) for _ in range(20)]
    for number in range(10):
        warm(ledgers[0], str(number), created=number)
    together = threading.Barrier(20)

    def claim(ledger: Ledger) -> Sandbox | None:
        together.wait(5)
        return ledger.claim("p", "base", IMAGE, Claim(), 100)

    with ThreadPoolExecutor(20) as several:
        claimed = [row for row in several.map(claim, ledgers) if row]
    assert sorted(row.slot for row in claimed) == [str(number) for number in range(10)]
    assert len({row.container for row in claimed}) == 10
    assert (ledgers[0].counter("hits"), ledgers[0].counter("misses")) == (10, 10)
    for ledger in ledgers:
        ledger.close()


def test_claimers_on_one_connection_do_not_share_members_either(ledger: Ledger) -> None:
    for number in range(10):
        warm(ledger, str(number))
    with ThreadPoolExecutor(20) as several:
        claimed = list(several.map(lambda _: ledger.claim("p", "base", IMAGE, Claim(), 100), range(20)))
    assert len({row.slot for row in claimed if row}) == 10 and claimed.count(None) == 10


def test_what_is_beside_the_file_is_for_root_too(ledger: Ledger, directory: Path) -> None:
    """The newest rows, with the claimers' variables, are in the -wal file until a checkpoint."""
    warm(ledger, "1")
    files = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}
    assert "ledger.sqlite-wal" in files and set(files.values()) == {0o600}


def test_a_commit_that_fails_is_undone_and_the_next_transaction_works(ledger: Ledger) -> None:
    """A constraint that is checked at COMMIT stands for a disk that is full then."""
    ledger._db.executescript(
        "PRAGMA foreign_keys = ON; CREATE TABLE parent (id INTEGER PRIMARY KEY);"
        "CREATE TABLE child (id INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED);"
        "CREATE TRIGGER late AFTER INSERT ON settings WHEN NEW.key = 'bad' BEGIN INSERT INTO child VALUES (7); END;"
    )
    with pytest.raises(sqlite3.IntegrityError):
        ledger.set_setting("bad", "1")
    assert ledger.setting("bad") == ""
    ledger.set_setting("good", "1")
    assert ledger.setting("good") == "1"


def test_a_full_disk_is_an_error_of_the_host_and_passes(ledger: Ledger) -> None:
    warm(ledger, "1")
    pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
    ledger._db.execute(f"PRAGMA max_page_count = {pages}")
    claim = Claim(metadata={"large": "x" * 100_000})
    with pytest.raises(HostError, match=r"full.*df -h") as error:
        ledger.claim("p", "base", IMAGE, claim, 100)
    assert error.value.retry_after_s
    ledger._db.execute("PRAGMA max_page_count = 1000000")
    assert ledger.claim("p", "base", IMAGE, claim, 100) is not None
    assert (ledger.counter("hits"), ledger.counter("misses")) == (1, 0), "the failed claim counted nothing"


@pytest.mark.parametrize("state", ["creating", "warm", "running", "removing"])
def test_removal_may_begin_in_every_open_state(ledger: Ledger, state: str) -> None:
    ledger.create("1", "cold", BASE, IMAGE, 1)
    if state in ("warm", "running"):
        ledger.set_id("1", "id1")
        ledger.set_boot("1", "10.0.0.1", "boot", IMAGE)
        ledger.set_warm("1", "pool-1")
    if state == "running":
        ledger.claim("p", "base", IMAGE, Claim(), 5)
    if state == "removing":
        ledger.set_removing("1", "why")
    row = ledger.set_removing("1", "why")
    assert row is not None and row.state == "removing"
    ledger.set_closed("1", 9)
    assert ledger.rows() == [] and ledger.set_removing("1", "again") is None


def test_a_cold_create_skips_the_pool(ledger: Ledger) -> None:
    ledger.create("1", "cold", BASE, IMAGE, 1)
    ledger.set_id("1", "id1")
    ledger.set_boot("1", "10.0.0.1", "boot", IMAGE)
    row = ledger.set_running("p", "1", Claim(timeout_s=3), 5)
    assert (row.state, row.origin, row.claimed_at, row.ends_at) == ("running", "cold", 5, 8)
    assert (ledger.counter("hits"), ledger.counter("misses")) == (0, 0)
