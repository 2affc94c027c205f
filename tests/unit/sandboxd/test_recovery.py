"""A ledger that is missing or damaged when the daemon starts."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sandboxd import ledgercopy, recovery
from sandboxd.config import Template
from sandboxd.errors import LedgerError
from sandboxd.ledger import Ledger
from sandboxd.records import Claim
from sandboxd.schema import MIGRATIONS
from tests.unit.sandboxd.test_ledgercopy import damage

BASE = Template("base", "base:1", 2048, 2.0, 1024, 10240, 10240)
NOW = 1_800_000_000.0


@pytest.fixture
def file(directory: Path) -> Path:
    """A ledger with somebody's sandbox, a member of the pool and one that is being made; and its copy."""
    path = directory / "ledger.sqlite"
    ledger = Ledger(path)
    for slot in "12":
        ledger.create(slot, "pool", BASE, "sha256:1", 1.0, 10240)
        ledger.set_id(slot, f"id{slot}")
        ledger.set_warm(slot, f"acme-pool-{slot}")
    ledger.claim("acme", "base", "sha256:1", Claim(owner="ci"), 10.0)
    ledger.create("3", "cold", BASE, "sha256:1", 1.0, 10240)
    ledger.set_setting("may_sweep", "yes")
    ledger.copy(ledgercopy.following(path))
    ledger.close()
    return path


def test_a_sound_ledger_is_left_alone(file: Path) -> None:
    ledger = recovery.opened(file, NOW)
    assert {row.slot: row.state for row in ledger.rows()} == {"1": "running", "2": "warm", "3": "creating"}
    assert ledger.setting(recovery.PENDING) == "" and recovery.told(ledger, NOW) == ""
    ledger.close()


def test_a_damaged_one_is_kept_and_its_copy_goes_on(file: Path) -> None:
    damage(file)
    damaged = file.read_bytes()
    ledger = recovery.opened(file, NOW)
    assert {row.slot: (row.state, row.owner) for row in ledger.rows()} == {"1": ("running", "ci")}
    assert ledger.setting("may_sweep") == "", "what the copy does not know may have come since"
    found = json.loads(ledger.setting(recovery.PENDING))
    assert found["fault"].startswith("was damaged") and found["copied_at"] > 0
    assert Path(found["kept"]).name == "ledger-damaged-20270115T080000Z.sqlite"
    assert Path(found["kept"]).read_bytes() == damaged
    assert file.stat().st_mode & 0o777 == 0o600
    ledger.close()


@pytest.mark.parametrize("text", ["no database " * 1000, "SQLite format 3\0"])
def test_what_is_no_database_is_kept_too(file: Path, text: str) -> None:
    file.write_text(text)
    ledger = recovery.opened(file, NOW)
    assert [row.slot for row in ledger.rows()] == ["1"]
    assert Path(json.loads(ledger.setting(recovery.PENDING))["kept"]).read_text() == text
    ledger.close()


def test_a_log_that_is_left_over_is_not_played_into_the_copy(file: Path) -> None:
    """Of a ledger that somebody removed while it was in use."""
    using = Ledger(file)
    using.set_removing("1", "must not come back")
    file.unlink()
    wal = Path(f"{file}-wal")
    assert wal.stat().st_size
    ledger = recovery.opened(file, NOW)
    assert {row.slot: row.state for row in ledger.rows()} == {"1": "running"}
    assert json.loads(ledger.setting(recovery.PENDING))["fault"] == recovery.MISSING
    ledger.close()
    using.close()


@pytest.mark.parametrize("left", ["nothing", "empty"])
def test_without_a_ledger_and_a_copy_there_is_a_new_one(directory: Path, left: str) -> None:
    file = directory / "ledger.sqlite"
    if left == "empty":
        file.touch()
    ledger = recovery.opened(file, NOW)
    assert ledger.rows() == []
    assert json.loads(ledger.setting(recovery.PENDING)) == {
        "fault": recovery.MISSING,
        "kept": "",
        "copied_at": 0.0,
        "at": NOW,
    }
    ledger.close()


def test_a_damaged_copy_is_of_no_use(file: Path) -> None:
    damage(file)
    ledgercopy.following(file).write_text("nothing " * 1000)
    ledger = recovery.opened(file, NOW)
    assert ledger.rows() == [] and ledger.setting("may_sweep") == ""
    ledger.close()


def test_a_copy_of_a_newer_release_is_of_no_use(file: Path) -> None:
    with closing(sqlite3.connect(ledgercopy.following(file))) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    damage(file)
    ledger = recovery.opened(file, NOW)
    assert ledger.rows() == []
    ledger.close()


def test_a_ledger_of_a_newer_release_is_refused_and_not_replaced(file: Path) -> None:
    with closing(sqlite3.connect(file)) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(LedgerError, match="written by a newer release"):
        recovery.opened(file, NOW)
    with closing(sqlite3.connect(file)) as db:
        assert db.execute("SELECT count(*) FROM sandboxes").fetchone() == (3,)
    assert list(file.parent.glob("*damaged*")) == []


def test_a_ledger_that_cannot_be_read_is_not_replaced(file: Path) -> None:
    file.unlink()
    file.mkdir()
    (file / "x").touch()
    with pytest.raises(LedgerError, match=f"{file}"):
        recovery.opened(file, NOW)
    assert (file / "x").exists()


def test_what_happened_is_told_for_some_days(file: Path) -> None:
    damage(file)
    ledger = recovery.opened(file, NOW)
    assert "have not been looked at yet" in recovery.told(ledger, NOW)
    report = json.loads(ledger.setting(recovery.PENDING)) | {"adopted": ["idx"]}
    ledger.set_setting(recovery.PENDING, "")
    ledger.set_setting(recovery.DONE, json.dumps(report))
    told = recovery.told(ledger, NOW + 3600)
    assert "taken over: idx" in told and "kept at" in told and "from a copy of 20" in told
    assert recovery.told(ledger, NOW + 8 * 86400) == ""
    ledger.close()
