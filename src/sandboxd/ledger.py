"""The ledger: which sandboxes there are, who has claimed them, and until when.

Every state transition is one transaction, and `records.TRANSITIONS` says which are allowed. Nothing else writes to the
table. Rows that are gone stay as tombstones for a while. Times are Unix seconds.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sandboxd.config import Template
from sandboxd.errors import Conflict, LedgerError
from sandboxd.policy import Policy, to_text
from sandboxd.rebuilding import Rebuilding
from sandboxd.records import OPEN, TRANSITIONS, USED, Claim, Sandbox, from_row
from sandboxd.routes import Route
from sandboxd.spec import claimed_name

NOBODYS = Claim()


class Ledger(Rebuilding):
    """The open ledger; see Database. `told` hears, afterwards, the slot of each row on shared storage that changes."""

    told: Callable[[str], None] = staticmethod(lambda slot: None)
    _touched: list[str]

    def create(
        self,
        slot: str,
        origin: str,
        template: Template,
        image_id: str,
        now: float,
        disk_mb: int,
        claim: Claim = NOBODYS,
    ) -> Sandbox:
        """A new row, before anything of the sandbox exists. A volume that is there keeps its size.

        Of the claim counts what must be known before the container is made. Raises Conflict when another sandbox has
        its volume, or one of its mounts as its /code; NotFound for one of its mounts that its owner does not have.
        """
        with self._transaction():
            if claim.volume:
                disk_mb = self._take_volume(claim.volume, disk_mb, now, claim.shared)
            for mount in claim.mounts:
                self._check_mount(claim.owner, mount)
            limits = (template.memory_mb, template.cpus, disk_mb, claim.volume)
            asked = (to_text(claim.policy), json.dumps([vars(one) for one in claim.mounts]))
            row = self._db.execute(
                "INSERT INTO sandboxes"
                " (slot, state, origin, template, image_id, memory_mb, cpus, disk_mb, volume, created_at,"
                " policy, mounts)"
                " VALUES (?, 'creating', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *",
                (slot, origin, template.name, image_id, *limits, now, *asked),
            )
            return from_row(row.fetchone())

    def set_generation(self, slot: str, generation: int) -> None:
        """Its volume, on shared storage, was taken for it: this is the number of the record."""
        with self._transaction():
            self._change(slot, ("creating",), "generation = ?", (generation,))

    def set_id(self, slot: str, container: str, sandbox_id: str = "") -> None:
        """The container was created: this is its short id, and that of the sandbox, unless it had another before.

        Raises Conflict while the sandbox of that id, which was here before, is being removed."""
        with self._transaction():
            if sandbox_id:
                self._db.execute("DELETE FROM sandboxes WHERE id = ? AND state = 'gone'", (sandbox_id,))
                if self._db.execute("SELECT 1 FROM sandboxes WHERE id = ?", (sandbox_id,)).fetchone():
                    raise Conflict(f"sandbox {sandbox_id} is on this host still: it is not removed yet.")
            changes = (sandbox_id or container, container if sandbox_id else "")
            self._change(slot, ("creating",), "id = ?, ref = ?", changes)

    def set_moved(
        self, slot: str, claimed_at: float, ends_at: float | None, access_round: int, tokens: dict[str, str]
    ) -> Sandbox:
        """It was made anew here: what it had on the host before, beside what was claimed."""
        with self._transaction():
            changes = "claimed_at = ?, ends_at = ?, access_round = ?, tokens = ?"
            return self._change(slot, ("running",), changes, (claimed_at, ends_at, access_round, json.dumps(tokens)))

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
            row = self._move(slot, "removing", "reason = ?, request = ''", (reason,), ("running",))
            self._count(f"hits:{row.template}", -1)

    def forget_request(self, slot: str) -> None:
        """Nobody was given what it asked for: when it comes again it makes another one."""
        with self._transaction():
            self._db.execute("UPDATE sandboxes SET request = '' WHERE slot = ?", (slot,))

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

    def set_later_end(self, slot: str, timeout_s: float, now: float) -> Sandbox:
        """The end of a running sandbox is at least so far away; one without an end keeps none."""
        with self._transaction():
            return self._change(slot, ("running",), "ends_at = max(ends_at, ?)", (now + timeout_s,))

    def set_policy(self, slot: str, policy: Policy) -> Sandbox:
        """Where somebody's sandbox may connect to from now on."""
        with self._transaction():
            return self._change(slot, USED, "policy = ?", (to_text(policy),))

    def set_access(self, slot: str, access: str, password_digest: str) -> Sandbox:
        """Who may open its ports from now on. A new round: nothing that was given out before counts any more."""
        with self._transaction():
            changes = "access = ?, password_digest = ?, access_round = access_round + 1"
            return self._change(slot, USED, changes, (access, password_digest))

    def set_paused(self, slot: str, reason: str = "") -> Sandbox:
        """running -> paused. Time that it is paused does not count: its end is set anew when it is resumed."""
        with self._transaction():
            return self._move(slot, "paused", "ends_at = NULL, reason = ?", (reason,))

    def set_active(self, marks: dict[str, str], now: float) -> None:
        """Traffic or a command was seen in these slots: each with what traffic is seen by."""
        with self._transaction():
            self._db.executemany(
                "UPDATE sandboxes SET active_at = ?, active_mark = ? WHERE slot = ?",
                [(now, mark, slot) for slot, mark in marks.items()],
            )

    def set_stopped(self, slot: str, reason: str) -> Sandbox:
        """running or paused -> stopped; `reason` says who or what stopped it."""
        with self._transaction():
            return self._move(slot, "stopped", "ends_at = NULL, reason = ?", (reason,))

    def set_resumed(self, slot: str, timeout_s: float | None, now: float) -> Sandbox:
        """paused or stopped -> running, to end so long from now; None for never."""
        with self._transaction():
            end = None if timeout_s is None else now + timeout_s
            changes = "timeout_s = ?, ends_at = ?, active_at = ?, reason = ''"
            return self._move(slot, "running", changes, (timeout_s, end, now), ("paused", "stopped"))

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
            self._add_volume(volume, row.disk_mb, now)
            return row

    def set_gone(self, slot: str, now: float, volume_lost: bool = False) -> None:
        """removing -> gone: nothing of the sandbox is left. What the claimer told us in confidence goes too.

        `volume_lost`: its volume was never made, so there is none.
        """
        with self._transaction():
            row = self._move(slot, "gone", "gone_at = ?, container = NULL, envs = '{}', tokens = '{}'", (now,))
            statement = (
                "DELETE FROM volumes WHERE name = ?" if volume_lost else "DELETE FROM volumes WHERE name = ? AND shared"
            )
            self._db.execute(statement, (row.volume,))

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

    def population(self) -> Counter[tuple[str, str]]:
        """How many sandboxes are open, by state and template."""
        rows = self._read("SELECT state, template, count(*) FROM sandboxes WHERE state <> 'gone' GROUP BY 1, 2")
        return Counter({(row[0], row[1]): row[2] for row in rows})

    def members(self) -> Counter[str]:
        """How many members the pool of each template has."""
        rows = self._read("SELECT template, count(*) FROM sandboxes WHERE state = 'warm' GROUP BY template")
        return Counter(dict(tuple(row) for row in rows))

    def find(self, prefix: str, states: tuple[str, ...] = USED) -> list[Sandbox]:
        """Sandboxes in these states whose id begins with `prefix`."""
        return self._select(states, "substr(id, 1, ?) = ?", (len(prefix), prefix))

    def of_id(self, sandbox_id: str, states: tuple[str, ...] = USED) -> Sandbox | None:
        """The sandbox of that whole id, if it is in one of these states."""
        return next(iter(self._select(states, "id = ?", (sandbox_id,))), None)

    def count_of(self, owner: str) -> int:
        """How many sandboxes a key's name has in use."""
        statement = f"SELECT count(*) FROM sandboxes WHERE owner = ? AND state IN ({', '.join('?' * len(USED))})"
        return int(self._read(statement, (owner, *USED))[0][0])

    def made_by(self, owner: str, request: str) -> Sandbox | None:
        """The sandbox whose `request` begins with this, whatever has become of it."""
        statement = "SELECT * FROM sandboxes WHERE owner = ? AND substr(request, 1, ?) = ?"
        rows = self._read(statement, (owner, len(request), request))
        return from_row(rows[0]) if rows else None

    def expired(self, now: float) -> list[Sandbox]:
        return self._select(("running",), "ends_at <= ?", (now,))

    def next_end(self) -> float | None:
        """When the next sandbox ends, None when none has an end."""
        (row,) = self._read("SELECT min(ends_at) FROM sandboxes WHERE state = 'running'")
        return None if row[0] is None else float(row[0])

    def restless(self, reason: str) -> list[Sandbox]:
        """Those that run and are to be paused when nobody uses them, and those that a request wakes from a pause for
        that reason."""
        where = "idle_pause_s IS NOT NULL AND (state = 'running' OR auto_resume AND reason = ?)"
        return self._select(("running", "paused"), where, (reason,))

    def brought(self) -> dict[str, str]:
        """The tokens that the sandboxes of this host brought along from other ones."""
        rows = self._read("SELECT tokens FROM sandboxes WHERE tokens != '{}' AND state != 'gone'")
        return {text: token for row in rows for text, token in json.loads(row["tokens"]).items()}

    def routes(self) -> list[Route]:
        """Of every sandbox that runs, or that a request shall resume."""
        rows = self._read(
            "SELECT id, iif(state = 'running', address, ''), shown_host, access, access_round, password_digest"
            " FROM sandboxes WHERE state = 'running' OR auto_resume AND state IN ('paused', 'stopped')"
        )
        return [Route(*row) for row in rows]

    def _claim(self, project: str, slot: str, state: str, claim: Claim, now: float) -> Sandbox:
        container, stamp = claimed_name(project, now), now
        while self._db.execute("SELECT 1 FROM sandboxes WHERE container = ?", (container,)).fetchone():
            stamp += 0.001
            container = claimed_name(project, stamp)
        changes = (
            "container = ?, name = ?, keep = ?, metadata = ?, envs = ?, timeout_s = ?, claimed_at = ?, ends_at = ?,"
            " owner = ?, on_timeout = ?, request = ?,"
            " pause_memory = ?, auto_resume = ?, access = ?, password_digest = ?, shown_host = ?, policy = ?,"
            " idle_pause_s = ?, active_at = ?"
        )
        texts = json.dumps(claim.metadata), json.dumps(claim.envs)
        times = claim.timeout_s, now, claim.ends_at(now)
        edge = claim.auto_resume, claim.access, claim.password_digest, claim.shown_host, to_text(claim.policy)
        asked = claim.owner, claim.on_timeout, claim.request, claim.pause_memory
        values = (container, claim.name, int(claim.keep), *texts, *times, *asked, *edge, claim.idle_pause_s, now)
        return self._move(slot, "running", changes, values, (state,))

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
        if row["generation"]:
            self._touched.append(slot)
        return from_row(row)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Whoever hears of what it has changed does so once it holds, and may read the ledger."""
        touched: list[str] = []
        with self._lock, super()._transaction():
            self._touched = touched
            yield
        for slot in dict.fromkeys(touched):
            self.told(slot)

    def _row(self, slot: str) -> Sandbox | None:
        rows = self._read("SELECT * FROM sandboxes WHERE slot = ?", (slot,))
        return from_row(rows[0]) if rows else None

    def _select(self, states: tuple[str, ...], where: str, values: tuple[Any, ...] = ()) -> list[Sandbox]:
        marks = ", ".join("?" * len(states))
        order = "ORDER BY coalesce(claimed_at, created_at), slot"
        statement = f"SELECT * FROM sandboxes WHERE state IN ({marks}) AND {where} {order}"
        return [from_row(row) for row in self._read(statement, (*states, *values))]
