"""Makes the world agree with the ledger: at start, every 30 seconds, and as soon as Docker or the clock gives cause.

Expiry is decided here, by the clock and the ledger, never by a timer in memory: it survives restarts and clock jumps.
Rows without a container end, half-made ones are removed, containers are made to do what their row says, unknown objects
are swept.
"""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from sandboxd.audit import EXPIRY, RECONCILE, Actor, acting, carried, current
from sandboxd.engine import Found
from sandboxd.errors import EngineDown, GatewayError, HostError, SandboxdError
from sandboxd.health import Health
from sandboxd.idle import Idle
from sandboxd.nftables import marks
from sandboxd.pool import Pool
from sandboxd.records import USED, Sandbox
from sandboxd.sandboxes import Sandboxes
from sandboxd.sweep import Sweeper
from sandboxd.templates import Templates
from sandboxd.transitions import Transitions

log = logging.getLogger(__name__)

EVERY_S = 30.0
RETRY_S = 1.0  # while Docker does not answer; and the least time between two comparisons
TOMBSTONES_S = 7 * 86400.0
SOURCE = "sandbox "  # how the troubles of single sandboxes are called in the health report


class Reconciler:
    def __init__(
        self, sandboxes: Sandboxes, transitions: Transitions, pool: Pool, templates: Templates, health: Health
    ) -> None:
        self._sandboxes, self._transitions, self._pool, self._health = sandboxes, transitions, pool, health
        self._templates = templates
        self._sweeper, self._idle = Sweeper(sandboxes, health), Idle(sandboxes, transitions)
        self._ledger, self._engine = sandboxes.ledger, sandboxes.engine
        self.compared_at, self.compared_s = 0.0, 0.0  # the last whole comparison: when (Unix seconds), and how long
        self._stopped = threading.Event()
        self._wake = threading.Event()
        self._ticking = threading.Lock()
        self._noticed = threading.Event()
        self._busy: set[str] = set()  # slots of somebody's, of which Docker told while we worked on them
        self._thread = threading.Thread(target=self._run, name="reconcile", daemon=True)
        self._watcher = threading.Thread(target=self._watch, name="watch", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._watcher.start()

    def stop(self) -> None:
        self._stopped.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def wake(self) -> None:
        """A sandbox with an end was made: the loop must know when to look next."""
        self._wake.set()

    def notice(self) -> None:
        """Something happened behind our back: compare at once, but not more often than every RETRY_S."""
        self._noticed.set()
        self._wake.set()

    def tick(self) -> None:
        """One whole comparison. Raises EngineDown or EngineError when Docker cannot be asked; the rest is reported."""
        with self._ticking:
            # Rows are read before Docker: whatever has a row now has its objects then, or somebody works on it.
            rows = [row for row in self._ledger.rows() if not self._sandboxes.locks.held(row.slot)]
            rules = self._guard(rows)  # before Docker, which may be down for long
            found = self._engine.inventory(self._sandboxes.config.project)
            containers = {one.slot: one for one in found if one.kind == "container"}
            astray = [row for row in rows if self._settle(row, containers.get(row.slot))]
            self._forget_troubles()
            with ThreadPoolExecutor(self._sandboxes.config.create_parallelism, "enforce") as several:
                list(several.map(carried(self._enforce), astray))
            self.sync_routes()
            self._sweeper.sweep(found + rules)
            self._sandboxes.volumes.release()
            self._templates.discard()
            self._pool.discard_outdated()
            self._pool.wake()
            self._ledger.forget_gone(self._now() - TOMBSTONES_S)

    def expire(self) -> None:
        """Removes the sandboxes whose end has come, or pauses them, as was asked for at their creation."""
        now = self._now()
        for row in self._ledger.expired(now):
            if row.on_timeout == "pause":
                self._try_pause(row, now)
                continue
            self._sandboxes.try_remove(row, "timeout reached", ("running",), ended_by=now)

    def cleanup(self, older_than_s: float) -> tuple[list[str], list[str]]:
        """Removes sandboxes claimed longer ago than that. Returns the ids removed and kept.

        Age counts from the claim. Pool members are nobody's sandbox yet, and those claimed with `keep` stay.
        """
        removed, kept = [], []
        asked_by = current().actor
        with acting(Actor("cleanup", asked_by.id, asked_by.name)):
            for row in self._ledger.rows(*USED):
                old = row.claimed_at is not None and row.claimed_at < self._now() - older_than_s
                if old and not row.keep and self._sandboxes.try_remove(row, "cleanup", USED):
                    removed.append(row.id)
                else:
                    kept.append(row.id)
        return removed, kept

    def sweep_unknown(self) -> None:
        """The operator says that labelled objects which this ledger does not know are rubbish: removes them now."""
        self._sweeper.allow()
        found = self._engine.inventory(self._sandboxes.config.project)
        self._sweeper.sweep(found + self._guard([]), grace_s=0.0)

    def sync_routes(self) -> None:
        """Mends the routes; a gateway that does not answer is reported, and read the file when it comes up."""
        try:
            self._sandboxes.gateway.sync()
            self._health.report("gateway", "")
        except GatewayError as error:
            self._health.report("gateway", str(error))

    def _guard(self, rows: list[Sandbox]) -> list[Found]:
        """Mends the host's rules of these rows that are not those of their policies; returns all that have rules."""
        try:
            standing = self._sandboxes.guard.standing()
            for row in rows:
                if row.state in USED and standing.get(row.slot, {}) != marks(row.policy):
                    log.warning("sandbox %s: its rules on the host were not those of its policy", row.id)
                    self._transitions.guard(row)
        except HostError as error:
            self._health.report("policies", str(error))
            return []
        self._health.report("policies", "")
        return [Found("rules", slot, slot, 0.0) for slot in standing]

    def _settle(self, row: Sandbox, container: Found | None) -> bool:
        """Decides about one row that nobody works on. True when its container does not do what the row says."""
        present = self._ledger.get(row.slot)
        if present is None or present.state != row.state:
            return False  # somebody was faster
        if row.state in ("creating", "removing"):
            self._sandboxes.try_remove(row, f"left {row.state} by an interrupted daemon", (row.state,))
        elif container is None and row.state == "stopped":
            self._looked(row, self._sandboxes.remove_pruned)
        elif container is None:
            self._sandboxes.try_remove(row, "its container was removed outside sandboxd", (row.state,))
        elif row.state in ("paused", "stopped"):
            return not self._looked(row, self._transitions.stays)
        elif not (container.state == "running" and self._looked(row, self._sandboxes.mend)):
            if row.state == "running":
                return True
            self._sandboxes.try_remove(row, "pool member stopped or was restarted", ("warm",))
        return False

    def _looked(self, row: Sandbox, look: Callable[[Sandbox], bool]) -> bool:
        """What `look` says about the container as it is now: whether it does what its row says.

        The inventory alone will not do: Docker tells of an event before its list shows it.
        """
        try:
            good = look(row)
        except EngineDown:
            raise
        except SandboxdError as error:
            self._health.report(_source(row), str(error))
            return True
        if good:
            self._health.report(_source(row), "")
        return good

    def _try_pause(self, row: Sandbox, now: float) -> None:
        try:
            self._transitions.pause_ended(row, now)
        except SandboxdError as error:  # the row says `paused` already: the next comparison goes on with it
            log.warning("pausing sandbox %s is not finished: %s", row.id, error)

    def _enforce(self, row: Sandbox) -> None:
        """Its trouble stays in the health report until it does what it shall, or is removed."""
        try:
            self._transitions.enforce(row)
            self._health.report(_source(row), "")
        except SandboxdError as error:
            self._health.report(_source(row), f"cannot be made to be {row.state} again: {error}")

    def _forget_troubles(self) -> None:
        """Of sandboxes that were removed."""
        present = {_source(row) for row in self._ledger.rows("warm", *USED)}
        for source in self._health.troubles():
            if source.startswith(SOURCE) and source not in present:
                self._health.forget(source)

    def _now(self) -> float:
        return self._sandboxes.host.now()

    def _run(self) -> None:
        last_tick, next_tick, next_look = -RETRY_S, 0.0, 0.0
        while not self._stopped.is_set():
            self._wake.clear()
            for slot in list(self._busy):
                if not self._sandboxes.locks.held(slot):
                    self._busy.discard(slot)
                    self._noticed.set()
            if self._noticed.is_set():
                next_tick = min(next_tick, last_tick + RETRY_S)
            if time.monotonic() >= next_tick:
                self._noticed.clear()
                pause_s = self._try_tick()
                last_tick = time.monotonic()
                next_tick = last_tick + pause_s
            until_end_s = self._try_expire()
            self._health.report("audit log", self._sandboxes.audit.settle())
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + self._try_idle()
            until_free_s = RETRY_S if self._busy else EVERY_S
            until_look_s = min(next_tick, next_look) - time.monotonic()
            self._wake.wait(max(0.0, min(until_look_s, until_end_s, until_free_s)))

    def _try_expire(self) -> float:
        """Returns the seconds until the next sandbox ends, or until it is worth trying again."""
        try:
            with acting(EXPIRY):
                self.expire()
            end = self._ledger.next_end()
        except Exception as error:
            log.exception("removing what has ended failed")
            self._health.report("expiry", f"failed: {error!r}")
            return RETRY_S
        self._health.report("expiry", "")
        return EVERY_S if end is None else end - self._now()

    def _try_idle(self) -> float:
        """Returns the seconds until it is worth looking again who is not used."""
        try:
            pause_s = self._idle.look()
        except EngineDown:
            return EVERY_S  # the comparison says so
        except Exception as error:
            log.exception("pausing who is not used failed")
            self._health.report("idle", f"failed: {error!r}")
            return EVERY_S
        self._health.report("idle", "")
        return pause_s

    def _watch(self) -> None:
        """Listens for containers that die or start without us. The thread ends with the process: it waits in a read."""
        while not self._stopped.is_set():
            try:
                for slot in self._engine.changes(self._sandboxes.config.project):
                    self._heard(slot)
            except SandboxdError as error:
                log.debug("%s", error)  # the next comparison reports it
            except Exception:  # an event of a form that we do not know: the comparisons go on without
                log.exception("listening to Docker's events failed")
            self.notice()  # whatever happened while nobody listened
            self._stopped.wait(RETRY_S)

    def _heard(self, slot: str) -> None:
        """While we make or remove a sandbox it is our own work that Docker tells of. Later it may be somebody else's as
        well: that is looked at once our work is done.
        """
        if not self._sandboxes.locks.held(slot):
            self.notice()
            return
        row = self._ledger.get(slot)
        if row is not None and row.state in USED:
            self._busy.add(slot)
            self.wake()

    def _try_tick(self) -> float:
        """The loop must go on whatever happens; returns the seconds until the next tick."""
        try:
            began = time.monotonic()
            with acting(RECONCILE):
                self.tick()
            self.compared_at, self.compared_s = self._now(), time.monotonic() - began
            self._health.report("docker", "")
            self._health.report("reconcile", "")
            return EVERY_S
        except EngineDown as error:
            self._health.report("docker", str(error))
            return RETRY_S
        except Exception as error:
            log.exception("reconcile failed")
            self._health.report("reconcile", f"failed: {error!r}")
            return EVERY_S


def _source(row: Sandbox) -> str:
    return f"{SOURCE}{row.id}"
