"""Opens the ledger, also one that is missing or damaged: what is left is kept aside, and its copy takes its place.

Without a copy the ledger is new. Whom it belongs to is decided once Docker answers, by `adoption`; until then a setting
says that this is to be done. A ledger of a newer release, and one that the disk refuses, is no case for this.
"""

import json
import logging
import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from sandboxd import ledgercopy
from sandboxd.errors import LedgerError
from sandboxd.ledger import Ledger
from sandboxd.schema import MIGRATIONS
from sandboxd.times import rfc3339

log = logging.getLogger(__name__)

PENDING = "recovery_pending"  # JSON: what was found, until the containers of the host are looked at
DONE = "recovered"  # JSON: the same, with when that was and who was adopted
MAY_SWEEP = "may_sweep"  # has a value once this ledger is known to be this host's: see `sweep`
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
MISSING = "was not there"
COPY_S = 10.0  # the least time between two copies
TOLD_S = 7 * 86400.0
SIDES = ("", "-wal", "-shm")  # a log that is left would be played into whatever file has the name next


class Copier:
    """Keeps the copy that follows the ledger."""

    def __init__(self, ledger: Ledger, file: Path) -> None:
        self._ledger, self._target = ledger, ledgercopy.following(file)
        self._changes: tuple[int, int] | None = None  # what the copy is of
        self._made_at = 0.0

    def follow(self, now: float) -> None:
        """Renews the copy if anything was written since, and it is not quite new. Raises HostError."""
        changes = self._ledger.changes()
        if changes == self._changes or abs(now - self._made_at) < COPY_S:  # abs: the clock may go back
            return
        self._ledger.copy(self._target)
        self._changes, self._made_at = changes, now


def opened(file: Path, now: float) -> Ledger:
    """Raises LedgerError when it cannot be used, and not for lack of its content."""
    try:
        fault = look(file)
        found = {} if not fault else _replace(file, fault, now)
    except (OSError, sqlite3.Error) as error:
        raise LedgerError(f"{file}: {error}. Mend or move away the file; is its disk full or read-only?") from error
    ledger = Ledger(file)
    if found:
        ledger.set_setting(PENDING, json.dumps(found))
    return ledger


def look(file: Path) -> str:
    """What is wrong with the content of a ledger's file; empty for nothing."""
    if not file.exists() or not file.stat().st_size:
        return MISSING
    with closing(sqlite3.connect(file, isolation_level=None, timeout=10)) as db:
        try:
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            faults = [str(row[0]) for row in db.execute(ledgercopy.CHECK)]
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF not in DAMAGE:  # the low byte is the primary code
                raise
            return f"was damaged: {error}"
    if faults != ["ok"]:
        return f"was damaged: {faults[0]}"
    return "" if version else MISSING


def _replace(file: Path, fault: str, now: float) -> dict[str, Any]:
    """Puts aside what is there, and the copy in its place, if there is one that is good."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    aside = file.with_name(f"{file.stem}-damaged-{stamp}{file.suffix}")
    kept = ""
    for side in SIDES:
        path = Path(f"{file}{side}")
        if path.exists() and path.stat().st_size:
            os.replace(path, f"{aside}{side}")
            kept = str(aside)
        path.unlink(missing_ok=True)
    copy = ledgercopy.following(file)
    copied_at = copy.stat().st_mtime if _usable(copy) else 0.0
    if copied_at:
        _take(copy, file)
    if kept or copied_at:
        log.error("the ledger %s %s; what was there: %s; its copy: %s", file, fault, kept or "-", copied_at or "-")
    return {"fault": fault, "kept": kept, "copied_at": copied_at, "at": now}


def _usable(copy: Path) -> bool:
    try:
        if look(copy):
            return False
        with closing(sqlite3.connect(copy)) as db:
            return int(db.execute("PRAGMA user_version").fetchone()[0]) <= len(MIGRATIONS)
    except (OSError, sqlite3.Error):
        return False


def _take(copy: Path, file: Path) -> None:
    """Who was in nobody's hands when the copy was made may be in somebody's since: nothing is handed out by it.
    And what it does not know is not swept until somebody says so."""
    temporary = file.with_name(f"{file.name}.new")
    shutil.copyfile(copy, temporary)
    temporary.chmod(0o600)
    with closing(sqlite3.connect(temporary, isolation_level=None)) as db:
        db.execute("DELETE FROM sandboxes WHERE state IN ('creating', 'warm')")
        db.execute("DELETE FROM settings WHERE key = ?", (MAY_SWEEP,))
    os.replace(temporary, file)


def told(ledger: Ledger, now: float) -> str:
    """What is to be said of a ledger that was lost in the last days; empty for nothing."""
    pending = json.loads(ledger.setting(PENDING) or "{}")
    if pending.get("kept") or pending.get("copied_at"):  # else the host may simply be new
        return "it was lost, and the containers of this host have not been looked at yet: does Docker answer?"
    report = json.loads(ledger.setting(DONE) or "{}")
    if not report or report["at"] < now - TOLD_S:
        return ""
    source = f"a copy of {rfc3339(report['copied_at'])}" if report["copied_at"] else "the containers alone"
    kept = f"; what it was is kept at {report['kept']}" if report["kept"] else ""
    adopted = f"; taken over: {' '.join(report['adopted'])}" if report["adopted"] else ""
    return f"it {report['fault']}, and was made anew at {rfc3339(report['at'])} from {source}{adopted}{kept}"
