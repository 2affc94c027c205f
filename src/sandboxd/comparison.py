"""One comparison of the world with the ledger: what is done, and `reconcile` says when.

Rows without a container end, half-made ones are removed, containers are made to do what their row says, unknown objects
are swept. Expiry is decided here, by the clock and the ledger, never by a timer in memory: it survives restarts and
clock jumps.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from sandboxd.adoption import Adopter
from sandboxd.audit import Actor, acting, carried, current
from sandboxd.engine import Found
from sandboxd.errors import EngineDown, GatewayError, HostError, SandboxdError
from sandboxd.health import Health
from sandboxd.pool import Pool
from sandboxd.records import USED, Sandbox
from sandboxd.recovery import Copier
from sandboxd.sandboxes import Sandboxes
from sandboxd.spec import WALLS_LABEL
from sandboxd.sweep import Sweeper
from sandboxd.takenover import Leaver
from sandboxd.templates import Templates
from sandboxd.transitions import Transitions

log = logging.getLogger(__name__)

TOMBSTONES_S = 7 * 86400.0
SOURCE = "sandbox "  # how the troubles of single sandboxes are called in the health report


class Comparison:
    def __init__(
        self, sandboxes: Sandboxes, transitions: Transitions, pool: Pool, templates: Templates, health: Health
    ) -> None:
        self._sandboxes, self._transitions, self._pool, self._health = sandboxes, transitions, pool, health
        self._templates = templates
        self._sweeper, self._adopter = Sweeper(sandboxes, health), Adopter(sandboxes)
        self._leaver = Leaver(sandboxes, health)
        self._copier = Copier(sandboxes.ledger, sandboxes.config.ledger)
        self._ledger, self._engine = sandboxes.ledger, sandboxes.engine
        self._ticking = threading.Lock()

    def tick(self) -> None:
        """One whole comparison. Raises EngineDown or EngineError when Docker cannot be asked; the rest is reported."""
        with self._ticking:
            self._adopter.adopt()
            self._leaver.leave()  # before any of them is looked after
            # Rows are read before Docker: whatever has a row now has its objects then, or somebody works on it.
            rows = [row for row in self._ledger.rows() if not self._sandboxes.locks.held(row.slot)]
            rules = self.guard()  # before Docker, which may be down for long
            found = self._engine.inventory(self._sandboxes.config.project)
            containers = {one.slot: one for one in found if one.kind == "container"}
            astray = [row for row in rows if self._settle(row, containers.get(row.slot))]
            self._forget_troubles()
            with ThreadPoolExecutor(self._sandboxes.config.create_parallelism, "enforce") as several:
                list(several.map(carried(self._enforce), astray))
            self.sync_routes()
            self._follow_names()
            self._sweeper.sweep(found + rules)
            self._sandboxes.volumes.release()
            self._leaver.settle()
            self._templates.discard()
            self._pool.discard_outdated({slot: one.labels.get(WALLS_LABEL, "") for slot, one in containers.items()})
            self._pool.wake()
            self._ledger.forget_gone(self._now() - TOMBSTONES_S)
        self._copy_ledger()

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
        self._sweeper.sweep(found + self.guard(), grace_s=0.0)

    def sync_routes(self) -> None:
        """Mends the routes; a gateway that does not answer is reported, and read the file when it comes up."""
        try:
            self._sandboxes.gateway.sync()
            self._health.report("gateway", "")
        except GatewayError as error:
            self._health.report("gateway", str(error))

    def guard(self) -> list[Found]:
        """Mends the host's rules where they are not those of the policies; returns all slots that have rules."""
        try:
            standing = self._sandboxes.guard.mend()
        except HostError as error:
            self._health.report("firewall", str(error))
            return []
        self._health.report("firewall", "")
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

    def _enforce(self, row: Sandbox) -> None:
        """Its trouble stays in the health report until it does what it shall, or is removed."""
        try:
            self._transitions.enforce(row)
            self._health.report(_source(row), "")
        except SandboxdError as error:
            self._health.report(_source(row), f"cannot be made to be {row.state} again: {error}")

    def _try_pause(self, row: Sandbox, now: float) -> None:
        try:
            self._transitions.pause_ended(row, now)
        except SandboxdError as error:  # the row says `paused` already: the next comparison goes on with it
            log.warning("pausing sandbox %s is not finished: %s", row.id, error)

    def _follow_names(self) -> None:
        """As the routes."""
        try:
            self._sandboxes.proxy.follow()
            self._sandboxes.guard.follow_servers()
            self._health.report("egress proxy", "")
        except (GatewayError, HostError) as error:
            self._health.report("egress proxy", str(error))

    def _copy_ledger(self) -> None:
        try:
            self._copier.follow(self._now())
            self._health.report("ledger copy", "")
        except HostError as error:
            self._health.report("ledger copy", str(error))

    def _forget_troubles(self) -> None:
        """Of sandboxes that were removed."""
        present = {_source(row) for row in self._ledger.rows("warm", *USED)}
        for source in self._health.troubles():
            if source.startswith(SOURCE) and source not in present:
                self._health.forget(source)

    def _now(self) -> float:
        return self._sandboxes.host.now()


def _source(row: Sandbox) -> str:
    return f"{SOURCE}{row.id}"
