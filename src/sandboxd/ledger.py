"""The ledger: which sandboxes there are, who has claimed them, and until when. SQLite in WAL mode, one file.

Every state transition is one transaction, and `records.TRANSITIONS` says which are allowed. Nothing but this module
opens the file. Rows that are gone stay as tombstones for a while. Times are Unix seconds.
"""

import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sandboxd.config import Template
from sandboxd.errors import Conflict, HostError, LedgerError, NotFound
from sandboxd.records import OPEN, TRANSITIONS, USED, Claim, MadeTemplate, Sandbox, Volume, from_row
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

    def create(
        self, slot: str, origin: str, template: Template, image_id: str, now: float, disk_mb: int, volume: str = ""
    ) -> Sandbox:
        """A new row, before anything of the sandbox exists. A volume that is there keeps its size.

        Raises Conflict when another sandbox has the volume.
        """
        with self._transaction():
            if volume:
                disk_mb = self._take_volume(volume, disk_mb, now)
            row = self._db.execute(
                "INSERT INTO sandboxes"
                " (slot, state, origin, template, image_id, memory_mb, cpus, disk_mb, volume, created_at)"
                " VALUES (?, 'creating', ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *",
                (slot, origin, template.name, image_id, template.memory_mb, template.cpus, disk_mb, volume, now),
            )
            return from_row(row.fetchone())

    def set_id(self, slot: str, sandbox_id: str) -> None:
        """The container was created: this is its short id."""
        with self._transaction():
            self._change(slot, ("creating",), "id = ?", (sandbox_id,))

    def set_boot(self, slot: str, address: str, booted: str, image_id: str) -> None:
        """The container runs and its network is prepared; `image_id` is what it was really made from."""
        with self._transaction():
            self._change(
                slot,
                ("creating", "running"),
                "address = ?, booted = ?, image_id = ?",
                (address, booted, image_id),
            )

    def set_warm(self, slot: str, container: str) -> Sandbox:
        """creating -> warm: may be claimed from now on."""
        with self._transaction():
            return self._move(slot, "warm", "container = ?", (container,), ("creating",))

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
            self._count(f"{'hits' if row else 'misses'}:{template}", 1)
            return self._claim(project, row["slot"], "warm", claim, now) if row else None

    def unclaim_dead(self, slot: str, reason: str) -> None:
        """running -> removing for a member that turned out to be dead at its claim: no hit after all."""
        with self._transaction():
            row = self._move(slot, "removing", "reason = ?", (reason,), ("running",))
            self._count(f"hits:{row.template}", -1)

    def set_removing(
        self, slot: str, reason: str, states: tuple[str, ...] = OPEN, ended_by: float | None = None
    ) -> Sandbox | None:
        """Any of `states` -> removing. None when the row is in none of them: somebody else was faster.

        With `ended_by` also None when its end does not lie before that: it was given a later one meanwhile.
        """
        with self._transaction():
            row = self._row(slot)
            if row is None or row.state not in states:
                return None
            if ended_by is not None and (row.ends_at is None or row.ends_at > ended_by):
                return None
            if row.state == "removing":  # begun already, by us or before a crash
                return row
            return self._move(slot, "removing", "reason = ?", (reason,), states)

    def set_paused(self, slot: str) -> Sandbox:
        """running -> paused. Time that it is paused does not count: its end is set anew when it is resumed."""
        with self._transaction():
            return self._move(slot, "paused", "ends_at = NULL")

    def set_stopped(self, slot: str, reason: str) -> Sandbox:
        """running or paused -> stopped; `reason` says who or what stopped it."""
        with self._transaction():
            return self._move(slot, "stopped", "ends_at = NULL, reason = ?", (reason,))

    def set_resumed(self, slot: str, timeout_s: float | None, now: float) -> Sandbox:
        """paused or stopped -> running, to end so long from now; None for never."""
        with self._transaction():
            end = None if timeout_s is None else now + timeout_s
            changes = "timeout_s = ?, ends_at = ?, reason = ''"
            return self._move(slot, "running", changes, (timeout_s, end), ("paused", "stopped"))

    def set_end(self, slot: str, timeout_s: float | None, now: float) -> Sandbox:
        """A new end of a running sandbox, counted from now; of one that is not running, for when it is resumed."""
        with self._transaction():
            end = None if timeout_s is None else now + timeout_s
            changes = "timeout_s = ?, ends_at = iif(state = 'running', ?, NULL)"
            return self._change(slot, USED, changes, (timeout_s, end))

    def set_disk(self, slot: str, disk_mb: int) -> Sandbox:
        """The disk was grown, and with it the volume that it is."""
        with self._transaction():
            row = self._change(slot, USED, "disk_mb = ?", (disk_mb,))
            self._db.execute("UPDATE volumes SET size_mb = ? WHERE name = ?", (disk_mb, row.volume))
            return row

    def set_volume(self, slot: str, volume: str, now: float) -> Sandbox:
        """The disk of a stopped sandbox has become a volume."""
        with self._transaction():
            row = self._change(slot, ("stopped",), "volume = ?", (volume,))
            statement = "INSERT OR IGNORE INTO volumes (name, size_mb, created_at) VALUES (?, ?, ?)"
            self._db.execute(statement, (volume, row.disk_mb, now))
            return row

    def set_gone(self, slot: str, now: float, volume_lost: bool = False) -> None:
        """removing -> gone: nothing of the sandbox is left. What the claimer told us in confidence goes too.

        `volume_lost`: its volume was never made, so there is none.
        """
        with self._transaction():
            row = self._move(slot, "gone", "gone_at = ?, container = NULL, envs = '{}'", (now,))
            if volume_lost:
                self._db.execute("DELETE FROM volumes WHERE name = ?", (row.volume,))

    def forget_gone(self, before: float) -> None:
        """Deletes tombstones older than `before`."""
        with self._transaction():
            self._db.execute("DELETE FROM sandboxes WHERE state = 'gone' AND gone_at < ?", (before,))

    def get(self, slot: str) -> Sandbox | None:
        return self._row(slot)

    def rows(self, *states: str) -> list[Sandbox]:
        """All rows in these states (default: all that are open), oldest claim or creation first."""
        return self._select(states or OPEN, "1")

    def count(self, *states: str) -> Counter[str]:
        """How many sandboxes are in each of these states."""
        marks = ", ".join("?" * len(states))
        statement = f"SELECT state, count(*) FROM sandboxes WHERE state IN ({marks}) GROUP BY state"
        return Counter(dict(tuple(row) for row in self._read(statement, states)))

    def members(self) -> Counter[str]:
        """How many members the pool of each template has."""
        rows = self._read("SELECT template, count(*) FROM sandboxes WHERE state = 'warm' GROUP BY template")
        return Counter(dict(tuple(row) for row in rows))

    def find(self, prefix: str, states: tuple[str, ...] = USED) -> list[Sandbox]:
        """Sandboxes in these states whose id begins with `prefix`."""
        return self._select(states, "substr(id, 1, ?) = ?", (len(prefix), prefix))

    def volumes(self) -> list[Volume]:
        """All named volumes, by name, each with the sandbox that has it."""
        rows = self._read(
            "SELECT volumes.*, coalesce(sandboxes.slot, '') AS slot,"
            " coalesce(sandboxes.id, sandboxes.slot, '') AS sandbox_id FROM volumes"
            " LEFT JOIN sandboxes ON sandboxes.volume = volumes.name AND sandboxes.state != 'gone' ORDER BY name"
        )
        return [Volume(*(row[key] for key in ("name", "size_mb", "created_at", "slot", "sandbox_id"))) for row in rows]

    def made_for(self, sandbox: Sandbox) -> bool:
        """Whether the sandbox's volume was entered with it: no other sandbox has ever had it."""
        statement = "SELECT 1 FROM volumes WHERE name = ? AND created_at = ?"  # one transaction wrote both times
        return bool(self._read(statement, (sandbox.volume, sandbox.created_at)))

    def remove_volume(self, name: str, remove_file: Callable[[], None]) -> None:
        """Forgets a volume. Raises NotFound, and Conflict while a sandbox has it.

        `remove_file` is called within the transaction: nobody can take the volume between the two, and when it fails
        the volume is still there.
        """
        with self._transaction():
            self._free_volume(name)
            if not self._db.execute("DELETE FROM volumes WHERE name = ?", (name,)).rowcount:
                raise NotFound(f"volume {name!r} not found. Those there are: docker-sandbox volume ls")
            remove_file()

    def expired(self, now: float) -> list[Sandbox]:
        return self._select(("running",), "ends_at <= ?", (now,))

    def next_end(self) -> float | None:
        """When the next sandbox ends, None when none has an end."""
        (row,) = self._read("SELECT min(ends_at) FROM sandboxes WHERE state = 'running'")
        return None if row[0] is None else float(row[0])

    def routes(self) -> dict[str, str]:
        """id -> address of every sandbox that runs."""
        rows = self._read("SELECT id, address FROM sandboxes WHERE state = 'running'")
        return {row["id"]: row["address"] for row in rows}

    def add_template(self, made: MadeTemplate) -> None:
        """Raises Conflict when there is one of that name."""
        values = (made.name, made.image, made.base, made.disk_mb, made.created_at)
        with self._transaction():
            if self._db.execute("INSERT OR IGNORE INTO templates VALUES (?, ?, ?, ?, ?)", values).rowcount == 0:
                raise Conflict(f"there is a template {made.name!r} already.")

    def remove_template(self, name: str) -> None:
        """Raises Conflict while a sandbox is made from it."""
        with self._transaction():
            statement = "SELECT coalesce(id, slot) FROM sandboxes WHERE template = ? AND state != 'gone'"
            if users := self._db.execute(statement, (name,)).fetchall():
                ids = ", ".join(row[0] for row in users)
                raise Conflict(f"template {name!r} is in use by {ids}. Kill those first.")
            self._db.execute("DELETE FROM templates WHERE name = ?", (name,))

    def templates(self) -> dict[str, MadeTemplate]:
        """Those that were made on this host, by name."""
        rows = self._read("SELECT * FROM templates ORDER BY name")
        return {row["name"]: MadeTemplate(**dict(row)) for row in rows}

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

    def faults(self) -> list[str]:
        """What SQLite finds wrong with the file; empty when it is sound. Takes milliseconds."""
        try:
            rows = self._read("PRAGMA quick_check(5)")
        except sqlite3.DatabaseError as error:
            return [str(error)]
        return [str(row[0]) for row in rows if row[0] != "ok"]

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
            "container = ?, name = ?, keep = ?, metadata = ?, envs = ?, timeout_s = ?, claimed_at = ?, ends_at = ?"
        )
        texts = json.dumps(claim.metadata), json.dumps(claim.envs)
        values = (container, claim.name, int(claim.keep), *texts, claim.timeout_s, now, claim.ends_at(now))
        return self._move(slot, "running", changes, values, (state,))

    def _take_volume(self, name: str, size_mb: int, now: float) -> int:
        """Makes the volume unless it is there; returns its size."""
        self._free_volume(name)
        statement = "INSERT OR IGNORE INTO volumes (name, size_mb, created_at) VALUES (?, ?, ?)"
        self._db.execute(statement, (name, size_mb, now))
        return int(self._db.execute("SELECT size_mb FROM volumes WHERE name = ?", (name,)).fetchone()[0])

    def _free_volume(self, name: str) -> None:
        statement = "SELECT coalesce(id, slot) FROM sandboxes WHERE volume = ? AND state != 'gone'"
        if holder := self._db.execute(statement, (name,)).fetchone():
            raise Conflict(f"volume {name!r} is in use by sandbox {holder[0]}. Kill that one first.")

    def _move(
        self, slot: str, state: str, changes: str, values: tuple[Any, ...] = (), sources: tuple[str, ...] = OPEN
    ) -> Sandbox:
        """To `state`, from those of `sources` from which TRANSITIONS allows it."""
        allowed = tuple(source for source in sources if state in TRANSITIONS[source])
        return self._change(slot, allowed, f"state = '{state}', {changes}", values)

    def _change(self, slot: str, states: tuple[str, ...], changes: str, values: tuple[Any, ...]) -> Sandbox:
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
