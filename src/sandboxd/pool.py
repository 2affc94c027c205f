"""The pools of warm sandboxes, one for each template: filled in the background, drained and resized on request.

Which are on, how large, and the hits and misses, live in the ledger, so a restart of the daemon changes nothing.
A member counts only when it is started, reachable and answering; it is never used twice.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from sandboxd.audit import carried
from sandboxd.config import Template
from sandboxd.errors import BadRequest, EngineError, HostFull, PoolEmpty, SandboxdError
from sandboxd.health import Health
from sandboxd.latency import Latencies
from sandboxd.poolsettings import PoolSettings
from sandboxd.poolstatus import PoolsStatus, PoolStatus
from sandboxd.records import Claim, Sandbox
from sandboxd.sandboxes import Sandboxes

log = logging.getLogger(__name__)

RETRY_FIRST_S, RETRY_LAST_S = 1.0, 30.0
LOOK_EVERY_S = 30.0


@dataclass
class _Pool:
    """What is only in memory of one pool. Guarded by the pools' condition."""

    template: Template
    starting: int = 0
    delay_s: float = 0.0  # after a failure: how long to wait ...
    not_before: float = 0.0  # ... and until when (monotonic)
    limit: str = ""
    latencies: Latencies = field(default_factory=Latencies)


class Pool:
    """Claims come in on any thread; one thread of its own decides where members are missing."""

    def __init__(self, sandboxes: Sandboxes, health: Health) -> None:
        self._sandboxes, self._ledger, self._health = sandboxes, sandboxes.ledger, health
        config = sandboxes.config
        self._most, self._parallel = config.max_sandboxes, config.create_parallelism
        self._settings = PoolSettings(config, self._ledger)
        self._pools = {name: _Pool(template) for name, template in config.templates.items()}
        self._fills = ThreadPoolExecutor(self._parallel, "fill")
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="pool", daemon=True)

    @property
    def enabled(self) -> bool:
        """Whether any pool is on."""
        return any(self._settings.enabled(name) for name in self._pools)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Starts nothing more, and waits for the members that are being made."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        self._fills.shutdown()

    def obtain(self, template_name: str, claim: Claim, cold: bool = False) -> Sandbox:
        """A sandbox for a claimer: from the template's pool when it has one, else a cold create."""
        self._sandboxes.check_names(claim.policy)
        template = self._sandboxes.template(template_name)
        sandbox = None if cold else self._claim(template, claim)
        return sandbox or self._sandboxes.create(template, claim)

    def claim(self, template_name: str, claim: Claim) -> Sandbox:
        """A member of the template's pool, and nothing else: for a fleet, whose other hosts may have one. Raises
        PoolEmpty, which is no miss.
        """
        self._sandboxes.check_names(claim.policy)
        template = self._sandboxes.template(template_name)
        sandbox = self._claim(template, claim) if self._ledger.members()[template_name] else None
        if sandbox is None:
            raise PoolEmpty(f"template {template_name!r} has no warm sandbox here.")
        return sandbox

    def enable(self, template: str = "") -> None:
        """Turns one pool on, or all. Raises NotFound for a template that is not there."""
        names = self._named(template)
        self._forget_failures(names)
        self._settings.turn(True, template)
        self.wake()

    def drain(self, template: str = "") -> None:
        """Turns one pool off, or all, and removes the members before it returns; those being made now included.

        Raises NotFound for a template that is not there, EngineDown or EngineError when Docker refuses a removal.
        """
        names = self._named(template)
        self._settings.turn(False, template)
        with self._changed:
            self._changed.notify_all()
            self._changed.wait_for(lambda: not any(self._pools[name].starting for name in names))
        for name in names:
            self._report(name, "", "")
        members = [member for member in self._ledger.rows("warm") if not template or member.template == template]
        with ThreadPoolExecutor(self._parallel, "drain") as several:
            remove = carried(lambda member: self._sandboxes.remove(member, "pool drained", ("warm",)))
            list(several.map(remove, members))
        self.wake()  # it may have been turned on meanwhile

    def resize(self, template: str, size: int) -> None:
        """Another size for one pool, until a deploy configures another. Members too many are removed at once.

        Raises NotFound for a template that is not there, BadRequest for a size that leaves no room for sandboxes.
        """
        self._sandboxes.template(template)
        others = sum(self._settings.size(name) for name in self._pools if name != template)
        if self._most and size + others >= self._most and size > self._settings.size(template):
            raise BadRequest(
                f"size {size}: with {others} members of other pools that is all of the {self._most} sandboxes that"
                " max_sandboxes allows. Choose a smaller size, or raise max_sandboxes and deploy."
            )
        self._forget_failures([template])
        self._settings.resize(template, size)
        self.wake()
        self._trim(template)

    def discard_outdated(self, walls: Mapping[str, str] | None = None) -> None:
        """Removes members of another image than their template's present one, of no template, and too many ones; and
        those with other limits or walls than it has now, of the slots for which `walls` says which they have.

        Of a pool that is off none is wanted: a drain that Docker interrupted is finished here.
        """
        for member in self._ledger.rows("warm"):
            if member.template not in self._pools:
                self._sandboxes.try_remove(member, "its template is no more", ("warm",))
        for name, pool in self._pools.items():
            trouble = ""
            if self._size(name):
                try:
                    image_id = self._sandboxes.engine.image_id(pool.template.image)
                    wanted = self._sandboxes.walls(pool.template)
                except EngineError as error:  # it is being built anew, or was pruned: the rest goes on
                    trouble = str(error)
                else:
                    for member in self._members(name):
                        if member.image_id != image_id:
                            self._sandboxes.try_remove(member, "pool member of an outdated image", ("warm",))
                        elif (walls or {}).get(member.slot, wanted) != wanted:
                            self._sandboxes.try_remove(member, "pool member with outdated limits", ("warm",))
            self._health.report(f"image of {name}", trouble)
            self._trim(name)

    def status(self) -> PoolsStatus:
        warm = self._ledger.members()
        pools = [self._one(name, warm[name]) for name in self._pools if self._settings.size(name) or warm[name]]
        return PoolsStatus(
            self.enabled,
            sum(pool.size for pool in pools),
            sum(pool.warm for pool in pools),
            sum(pool.starting for pool in pools),
            sum(pool.hits for pool in pools),
            sum(pool.misses for pool in pools),
            pools,
        )

    def wake(self) -> None:
        """Something changed: look at once whether members are missing."""
        with self._changed:
            self._changed.notify_all()

    def _claim(self, template: Template, claim: Claim) -> Sandbox | None:
        """None where there is no pool, none of its members is left, or none has what is asked for."""
        arrived = time.monotonic()
        own_disk = claim.volume or claim.mounts or claim.disk_mb not in (0, template.disk_mb)
        if own_disk or not self._size(template.name):
            return None
        sandbox = self._sandboxes.claim(template, claim)
        self.wake()
        if sandbox is not None:
            took = time.monotonic() - arrived
            self._pools[template.name].latencies.add(took)
            self._sandboxes.figures.claimed(template.name, took)
        return sandbox

    def _one(self, name: str, warm: int) -> PoolStatus:
        pool = self._pools[name]
        with self._changed:
            starting, limit = pool.starting, pool.limit
        hits, misses = (self._ledger.counter(f"{what}:{name}") for what in ("hits", "misses"))
        return PoolStatus(
            name,
            self._settings.enabled(name),
            self._settings.size(name),
            pool.template.pool,
            warm,
            starting,
            hits,
            misses,
            pool.latencies.percentile_ms(50),
            pool.latencies.percentile_ms(95),
            self._health.troubles().get(_source(name), ""),
            limit,
        )

    def _named(self, template: str) -> list[str]:
        """The pools that are meant: that of a template, or all for an empty text."""
        return [self._sandboxes.template(template).name] if template else list(self._pools)

    def _size(self, name: str) -> int:
        """How many members are wanted now; none of a template that was made on this host."""
        return self._settings.size(name) if name in self._pools and self._settings.enabled(name) else 0

    def _members(self, name: str) -> list[Sandbox]:
        return [member for member in self._ledger.rows("warm") if member.template == name]

    def _trim(self, name: str) -> None:
        """Removes members beyond what is wanted, the youngest ones."""
        for member in self._members(name)[self._size(name) :]:
            self._sandboxes.try_remove(member, "more pool members than wanted", ("warm",))

    def _forget_failures(self, names: list[str]) -> None:
        """Somebody wants to see now whether it works."""
        for name in names:
            self._report(name, "", "")
        with self._changed:
            for name in names:
                self._pools[name].delay_s = self._pools[name].not_before = 0.0

    def _missing(self, name: str, warm: int) -> int:
        """Negative when there are too many. Under the condition only: a member is counted once, as one or the other."""
        return self._size(name) - warm - self._pools[name].starting

    def _wanted(self, name: str) -> bool:
        """Asked by a fill when it is its turn, which may be long after it was begun."""
        with self._changed:
            return not self._stopped and self._size(name) > 0 and self._missing(name, self._ledger.members()[name]) >= 0

    def _run(self) -> None:
        with self._changed:
            while not self._stopped:
                self._changed.wait(self._fill_up())

    def _fill_up(self) -> float:
        """Begins as many fills as may run at a time, each where it is needed most. Returns when to look again (s)."""
        try:
            warm = self._ledger.members()
            while sum(pool.starting for pool in self._pools.values()) < self._parallel:
                name = self._neediest(warm)
                if name is None:
                    break
                pool = self._pools[name]
                pool.starting += 1
                self._fills.submit(self._fill, pool, pool.delay_s > 0)
            self._health.report("pool", "")
        except SandboxdError as error:  # this thread must go on: it looks again later
            self._health.report("pool", str(error))
        now = time.monotonic()
        waits = [pool.not_before - now for pool in self._pools.values() if pool.not_before > now]
        return min([LOOK_EVERY_S, *waits])

    def _neediest(self, warm: Counter[str]) -> str | None:
        """The emptiest pool of those that miss members, and may try now."""
        now, found = time.monotonic(), []
        for name, pool in self._pools.items():
            # One that fails tries with a single member, so that the places of the others are not taken by failures.
            waits = pool.not_before > now or (pool.delay_s > 0 and pool.starting > 0)
            if not waits and self._missing(name, warm[name]) > 0:
                there = warm[name] + pool.starting
                found.append((there / self._size(name), there, name))
        return min(found)[2] if found else None

    def _fill(self, pool: _Pool, again: bool) -> None:
        """One member. `again` tells that the fill before failed: then a failure doubles the pause."""
        name, trouble, limit = pool.template.name, "", ""
        try:
            self._sandboxes.create_member(pool.template, lambda: self._wanted(name))
            self._trim(name)  # it may have become too many while it was made
        except HostFull as error:
            trouble, limit = str(error), error.limit
        except SandboxdError as error:
            trouble = str(error)
        except Exception as error:  # a thread has nobody else to tell
            log.exception("filling the pool of %s failed", name)
            trouble = f"internal error: {error!r}"
        self._report(name, trouble, limit)
        with self._changed:
            pool.starting -= 1
            if not trouble:
                pool.delay_s = 0.0
            elif again or not pool.delay_s:
                pool.delay_s = min(max(pool.delay_s * 2, RETRY_FIRST_S), RETRY_LAST_S)
            pool.not_before = time.monotonic() + pool.delay_s
            self._changed.notify_all()

    def _report(self, name: str, trouble: str, limit: str) -> None:
        with self._changed:
            before, self._pools[name].limit = self._pools[name].limit, limit
        if not limit or limit != before:  # the figures of a full host differ each time: that is no news for the log
            self._health.report(_source(name), trouble)


def _source(name: str) -> str:
    return f"pool of {name}"
