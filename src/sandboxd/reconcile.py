"""When the world is compared with the ledger: at start, every 30 seconds, and once Docker or the clock gives cause.

Three threads: the loop itself; one that listens to Docker's events; one that listens to changes of the host's rules.
"""

import logging
import threading
import time

from sandboxd.audit import EXPIRY, RECONCILE, acting
from sandboxd.comparison import Comparison
from sandboxd.errors import EngineDown, SandboxdError
from sandboxd.health import Health
from sandboxd.idle import Idle
from sandboxd.pool import Pool
from sandboxd.records import USED
from sandboxd.sandboxes import Sandboxes
from sandboxd.templates import Templates
from sandboxd.transitions import Transitions

log = logging.getLogger(__name__)

EVERY_S = 30.0
RETRY_S = 1.0  # while Docker does not answer; and the least time between two comparisons


class Reconciler(Comparison):
    def __init__(
        self, sandboxes: Sandboxes, transitions: Transitions, pool: Pool, templates: Templates, health: Health
    ) -> None:
        super().__init__(sandboxes, transitions, pool, templates, health)
        self._idle = Idle(sandboxes, transitions)
        self.compared_at, self.compared_s = 0.0, 0.0  # the last whole comparison: when (Unix seconds), and how long
        self._stopped = threading.Event()
        self._wake = threading.Event()
        self._noticed = threading.Event()
        self._busy: set[str] = set()  # slots of somebody's, of which Docker told while we worked on them
        self._thread = threading.Thread(target=self._run, name="reconcile", daemon=True)
        self._watcher = threading.Thread(target=self._watch, name="watch", daemon=True)
        self._warden = threading.Thread(target=self._stand_guard, name="guard", daemon=True)

    def start(self) -> None:
        """Returns once those whom a lost ledger did not know are known again: else somebody who is served before could
        be given the volume of one of them. And once nobody is here who was made anew on another host meanwhile."""
        try:
            with acting(RECONCILE):
                self._adopter.adopt()
                self._leaver.leave()
        except Exception:  # Docker does not answer, so nobody gets anything either; the first comparison tries again
            log.exception("those whom the lost ledger did not know are not known yet")
        self._thread.start()
        self._watcher.start()
        self._warden.start()

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

    def _run(self) -> None:
        last_tick, next_tick, next_look = -RETRY_S, 0.0, 0.0
        while True:
            self._wake.clear()  # before anything is looked at that somebody may have woken us for
            if self._stopped.is_set():
                return
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

    def _stand_guard(self) -> None:
        """The host's rules are mended as soon as somebody has removed any; until then nothing is passed on (`iprules`).
        Ends as `_watch` does.
        """
        while not self._stopped.is_set():
            try:
                for _ in self._sandboxes.host.nft_changes(self._sandboxes.guard.table):
                    self.guard()
            except OSError as error:
                self._health.report("firewall", f"nobody tells when the host's rules are changed: {error}")
            except Exception as error:  # the comparisons go on without
                log.exception("watching the host's rules failed")
                self._health.report("firewall", f"nobody tells when the host's rules are changed: {error!r}")
            self._stopped.wait(RETRY_S)
