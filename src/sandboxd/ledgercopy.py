"""Copies of the ledger beside it, made by SQLite while it is in use: whole, checked, and under their name only then.

One follows the ledger, at most a comparison of `reconcile` behind, for the day on which the ledger itself is damaged or
gone. Another is made before a migration: an older release reads that one, and not what the migration makes.
"""

import os
import sqlite3
from pathlib import Path

from sandboxd.errors import HostError

CHECK = "PRAGMA quick_check(1)"


def following(ledger: Path) -> Path:
    """The copy that follows the ledger."""
    return ledger.with_name(f"{ledger.stem}-copy{ledger.suffix}")


def of_schema(ledger: Path, version: int) -> Path:
    """The copy of a ledger of that schema, from before a newer release changed it."""
    return ledger.with_name(f"{ledger.stem}-schema-{version}{ledger.suffix}")


def write(source: sqlite3.Connection, target: Path) -> None:
    """Replaces `target` by a copy of the open database. Raises HostError, also when that is damaged."""
    temporary = target.with_name(f"{target.name}.new")
    try:
        temporary.unlink(missing_ok=True)
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        made = sqlite3.connect(temporary, isolation_level=None)
        try:
            source.backup(made)
            made.execute("PRAGMA journal_mode = DELETE")  # one file, whoever opens it
            fault = str(made.execute(CHECK).fetchone()[0])
        finally:
            made.close()
        if fault != "ok":
            raise HostError(f"{target}: not renewed, since the ledger is damaged: {fault}")
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)
    except (OSError, sqlite3.Error) as error:
        raise HostError(
            f"{target}: the ledger cannot be copied: {error}. Is the disk full? Look with: df -h"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
