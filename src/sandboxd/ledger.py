"""The ledger: which sandboxes there are, who has claimed them, and until when. SQLite in WAL mode, one file.

Every state transition is one transaction, and names the states that it may start from. Nothing but this module
opens the file. States: creating -> warm -> running -> removing -> closed; a cold create skips `warm`, a failure goes
from anywhere to `removing`. Closed rows stay as tombstones for a while. Times are Unix seconds.
"""

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sandboxd.config import Template
from sandboxd.errors import HostError, LedgerError
from sandboxd.records import OPEN, Claim, Sandbox, from_row
from sandboxd.schema import migrate
from sandboxd.spec import claimed_name


class Ledger:
    """The open ledger. Safe to use from several threads, and from several processes.

    Every method raises HostError when the file can be neither read nor written any more.
    """

    def __init__(self, file: Path) -> None:
        """Opens the file, makes it when it is not there. Raises LedgerError when it cannot be used."""
        self._lock = threading.RLock()
        try:
            self._db = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=10)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")  # a claim must survive a power cut: nothing is used twice
            file.chmod(0o600)  # it holds the environment variables that claimers gave
            migrate(self._db, file)
        except (OSError, sqlite3.Error) as error:
            raise LedgerError(f"{file}: {error}. Mend or move away the file; is its disk full or read-only?") from error

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def create(self, slot: str, origin: str, template: Template, image_id: str, now: float) -> None:
        """A new row, before anything of the sandbox exists."""
        with self._transaction():
            self._db.execute(
                "INSERT INTO sandboxes (slot, state, origin, template, image_id, memory_mb, cpus, created_at)"
                " VALUES (?, 'creating', ?, ?, ?, ?, ?, ?)",
                (slot, origin, template.name, image_id, template.memory_mb, template.cpus, now),
            )

    def set_id(self, slot: str, sandbox_id: str) -> None:
        """The container was created: this is its short id."""
        with self._transaction():
            self._move(slot, ("creating",), "id = ?", (sandbox_id,))

    def set_boot(self, slot: str, address: str, booted: str, image_id: str) -> None:
        """The container runs and its network is prepared; `image_id` is what it was really made from."""
        with self._transaction():
            self._move(
                slot, ("creating", "running"), "address = ?, booted = ?, image_id = ?", (address, booted, image_id)
            )

    def set_warm(self, slot: str, container: str) -> Sandbox:
        """creating -> warm: may be claimed from now on."""
        with self._transaction():
            return self._move(slot, ("creating",), "state = 'warm', container = ?", (container,))

    def set_running(self, project: str, slot: str, claim: Claim, now: float) -> Sandbox:
        """creating -> running: a cold create, claimed by the one who asked for it."""
        with self._transaction():
            return self._claim(project, slot, "creating", claim, now)

    def claim(self, project: str, template: str, image_id: str, claim: Claim, now: float) -> Sandbox | None:
        """warm -> running for the oldest member of that template and image; counts a hit, else a miss."""
        with self._transaction():
            row = self._db.execute(
                "SELECT slot FROM sandboxes WHERE state = 'warm' AND template = ? AND image_id = ?"
                " ORDER BY created_at LIMIT 1",
                (template, image_id),
            ).fetchone()
            self._count("hits" if row else "misses", 1)
            return self._claim(project, row["slot"], "warm", claim, now) if row else None

    def unclaim_dead(self, slot: str, reason: str) -> None:
        """running -> removing for a member that turned out to be dead at its claim: no hit after all."""
        with self._transaction():
            self._move(slot, ("running",), "state = 'removing', reason = ?", (reason,))
            self._count("hits", -1)

    def set_removing(self, slot: str, reason: str, states: tuple[str, ...] = OPEN) -> Sandbox | None:
        """Any of `states` -> removing. None when the row is in none of them: somebody else was faster."""
        with self._transaction():
            row = self._row(slot)
            if row is None or row.state not in states:
                return None
            return self._move(slot, states, "state = 'removing', reason = ?", (row.reason or reason,))

    def set_closed(self, slot: str, now: float) -> None:
        """removing -> closed: nothing of the sandbox is left. What the claimer told us in confidence goes too."""
        with self._transaction():
            self._move(slot, ("removing",), "state = 'closed', closed_at = ?, container = NULL, envs = '{}'", (now,))

    def forget_closed(self, before: float) -> None:
        """Deletes tombstones older than `before`."""
        with self._transaction():
            self._db.execute("DELETE FROM sandboxes WHERE state = 'closed' AND closed_at < ?", (before,))

    def get(self, slot: str) -> Sandbox | None:
        return self._row(slot)

    def rows(self, *states: str) -> list[Sandbox]:
        """All rows in these states (default: all that are open), oldest claim or creation first."""
        return self._select(states or OPEN, "1")

    def find(self, prefix: str) -> list[Sandbox]:
        """Running sandboxes whose id begins with `prefix`."""
        return self._select(("running",), "substr(id, 1, ?) = ?", (len(prefix), prefix))

    def expired(self, now: float) -> list[Sandbox]:
        return self._select(("running",), "ends_at <= ?", (now,))

    def next_end(self) -> float | None:
        """When the next sandbox ends, None when none has an end."""
        (row,) = self._read("SELECT min(ends_at) FROM sandboxes WHERE state = 'running'")
        return None if row[0] is None else float(row[0])

    def routes(self) -> dict[str, str]:
        """id -> address of every sandbox in use."""
        rows = self._read("SELECT id, address FROM sandboxes WHERE state = 'running'")
        return {row["id"]: row["address"] for row in rows}

    def setting(self, key: str) -> str:
        """A setting that survives restarts; empty when it was never set."""
        rows = self._read("SELECT value FROM settings WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else ""

    def set_setting(self, key: str, value: str) -> None:
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO settings (key, value) VALUES (?, ?)", (key, value))

    def counter(self, key: str) -> int:
        rows = self._read("SELECT value FROM counters WHERE key = ?", (key,))
        return int(rows[0][0]) if rows else 0

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, _told():
            self._db.execute("BEGIN IMMEDIATE")  # takes the write lock before reading: claimers queue here
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # A failed COMMIT leaves the transaction open, and a full disk may have ended it already.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _read(self, statement: str, values: tuple[Any, ...] = ()) -> list[sqlite3.Row]:
        with self._lock, _told():
            return self._db.execute(statement, values).fetchall()

    def _claim(self, project: str, slot: str, state: str, claim: Claim, now: float) -> Sandbox:
        container, stamp = claimed_name(project, now), now
        while self._db.execute("SELECT 1 FROM sandboxes WHERE container = ?", (container,)).fetchone():
            stamp += 0.001
            container = claimed_name(project, stamp)
        changes = (
            "state = 'running', container = ?, name = ?, keep = ?, metadata = ?, envs = ?, claimed_at = ?, ends_at = ?"
        )
        texts = json.dumps(claim.metadata), json.dumps(claim.envs)
        values = (container, claim.name, int(claim.keep), *texts, now, claim.ends_at(now))
        return self._move(slot, (state,), changes, values)

    def _move(self, slot: str, states: tuple[str, ...], changes: str, values: tuple[Any, ...]) -> Sandbox:
        marks = ", ".join("?" * len(states))
        statement = f"UPDATE sandboxes SET {changes} WHERE slot = ? AND state IN ({marks}) RETURNING *"
        row = self._db.execute(statement, (*values, slot, *states)).fetchone()
        if row is None:
            present = self._row(slot)
            shown = present.state if present else "not in the ledger"
            raise LedgerError(f"slot {slot} is {shown}, not {' or '.join(states)}: somebody else changed it first")
        return from_row(row)

    def _count(self, key: str, step: int) -> None:
        self._db.execute(
            "INSERT INTO counters (key, value) VALUES (?, ?)"
            " ON CONFLICT (key) DO UPDATE SET value = value + excluded.value",
            (key, step),
        )

    def _row(self, slot: str) -> Sandbox | None:
        rows = self._read("SELECT * FROM sandboxes WHERE slot = ?", (slot,))
        return from_row(rows[0]) if rows else None

    def _select(self, states: tuple[str, ...], where: str, values: tuple[Any, ...] = ()) -> list[Sandbox]:
        marks = ", ".join("?" * len(states))
        order = "ORDER BY coalesce(claimed_at, created_at), slot"
        statement = f"SELECT * FROM sandboxes WHERE state IN ({marks}) AND {where} {order}"
        return [from_row(row) for row in self._read(statement, (*states, *values))]


@contextmanager
def _told() -> Iterator[None]:
    """SQLite's errors that the host causes, as ours. IntegrityError stays what it is: a mistake in this program."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise HostError(f"the ledger cannot be read or written: {error}. Is the disk full? Look with: df -h") from error
