"""Copies of a ledger that is in use: whole, closed to others, and never of a damaged one."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sandboxd import ledgercopy, recovery
from sandboxd.config import Template
from sandboxd.errors import HostError
from sandboxd.ledger import Ledger

BASE = Template("base", "base:1", 2048, 2.0, 1024, 10240, 10240)


def damage(file: Path) -> None:
    """Overwrites the pages behind the first, as a bad disk does."""
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = file.stat().st_size
    assert size > 8192
    with file.open("r+b") as opened:
        opened.seek(4096)
        opened.write(b"\xa5" * (size - 4096))


def test_a_copy_has_what_is_not_yet_in_the_file_itself(directory: Path) -> None:
    ledger = Ledger(directory / "ledger.sqlite")
    ledger.create("1", "pool", BASE, "sha256:1", 1.0, 10240)
    copy = ledgercopy.following(directory / "ledger.sqlite")
    ledger.copy(copy)
    assert copy.stat().st_mode & 0o777 == 0o600
    assert recovery.look(copy) == ""
    with closing(sqlite3.connect(copy)) as db:
        assert db.execute("SELECT slot FROM sandboxes").fetchall() == [("1",)]
    ledger.create("2", "pool", BASE, "sha256:1", 1.0, 10240)
    ledger.copy(copy)
    with closing(sqlite3.connect(copy)) as db:
        assert db.execute("SELECT count(*) FROM sandboxes").fetchone() == (2,)
    ledger.close()
    assert sorted(path.name for path in directory.iterdir()) == ["ledger-copy.sqlite", "ledger.sqlite"]


def test_what_was_written_shows(directory: Path) -> None:
    ledger = Ledger(directory / "ledger.sqlite")
    before = ledger.changes()
    assert ledger.changes() == before
    ledger.set_setting("a", "b")
    assert ledger.changes() != before
    ledger.close()


def test_a_damaged_ledger_does_not_replace_a_good_copy(directory: Path) -> None:
    file = directory / "ledger.sqlite"
    ledger = Ledger(file)
    for number in range(50):
        ledger.create(f"{number}", "pool", BASE, "sha256:1", 1.0, 10240)
    copy = ledgercopy.following(file)
    ledger.copy(copy)
    ledger.close()
    good = copy.read_bytes()
    damage(file)
    with closing(sqlite3.connect(file)) as db, pytest.raises(HostError, match=r"damaged|malformed"):
        ledgercopy.write(db, copy)
    assert copy.read_bytes() == good and len(list(directory.glob("*.new"))) == 0


def test_a_copy_that_cannot_be_written_is_told(directory: Path) -> None:
    ledger = Ledger(directory / "ledger.sqlite")
    with pytest.raises(HostError, match="cannot be copied"):
        ledger.copy(directory / "none" / "copy.sqlite")
    ledger.close()
