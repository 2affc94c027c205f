"""The ledger's file as it is found: older, newer, or none of ours."""

import sqlite3
from pathlib import Path

import pytest

from sandboxd.config import Template
from sandboxd.errors import LedgerError
from sandboxd.ledger import Ledger
from sandboxd.schema import MIGRATIONS

BASE = Template("base", "base:1", 2048, 2.0, 1024)


def test_migrations_go_forward_once_and_keep_what_is_there(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = directory / "l.sqlite"
    old = Ledger(file)
    old.create("1", "pool", BASE, "sha256:1", 1.0)
    old.close()
    newer = (*MIGRATIONS, "ALTER TABLE sandboxes ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'")
    monkeypatch.setattr("sandboxd.schema.MIGRATIONS", newer)
    for _ in range(2):
        migrated = Ledger(file)
        assert [row.slot for row in migrated.rows("creating")] == ["1"]
        migrated.close()
    with sqlite3.connect(file) as db:
        assert db.execute("SELECT colour FROM sandboxes").fetchall() == [("blue",)]
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
    db.close()


def test_a_newer_ledger_is_refused(directory: Path) -> None:
    file = directory / "l.sqlite"
    with sqlite3.connect(file) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    with pytest.raises(LedgerError, match=r"written by a newer release .* Deploy the newer release"):
        Ledger(file)


def test_a_file_that_is_no_ledger_is_refused_with_its_name(directory: Path) -> None:
    file = directory / "l.sqlite"
    file.write_text("no database " * 100)
    with pytest.raises(LedgerError, match=rf"{file}: file is not a database"):
        Ledger(file)
    with pytest.raises(LedgerError, match="unable to open"):
        Ledger(directory / "none" / "l.sqlite")
