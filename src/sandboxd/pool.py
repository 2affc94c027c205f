"""The pool of warm sandboxes of the default template: filled in the background, drained on request.

Whether it is on, and the hits and misses, live in the ledger, so a restart of the daemon changes nothing.
A member counts only when it is started, reachable and answering; it is never used twice.
"""

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from sandboxd.errors import EngineError, SandboxdError
from sandboxd.health import Health
from sandboxd.records import Claim, Sandbox
from sandboxd.sandboxes import Sandboxes

log = logging.getLogger(__name__)

ENABLED = "pool_enabled"
RETRY_FIRST_S, RETRY_LAST_S = 1.0, 30.0
LOOK_EVERY_S = 30.0


@dataclass(frozen=True)
class PoolStatus:
    enabled: bool
    size: int
    warm: int
    starting: int
    hits: int
    misses: int
    trouble: str  # why the last fill failed, empty when it did not


class Pool:
    """Claims come in on any thread; one thread of its own decides how many members are missing."""

    def __init__(self, sandboxes: Sandboxes, health: Health) -> None:
        self._sandboxes, self._ledger, self._health = sandboxes, sandboxes.ledger, health
        config = sandboxes.config
        self._size, self._template = config.pool_size, config.templates[config.default_template]
        self._fills = ThreadPoolExecutor(config.create_parallelism, "fill")
        self._changed = threading.Condition()
        self._starting = 0
        self._delay_s = self._not_before = 0.0  # after a failure: how long to wait, and until when (monotonic)
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="pool", daemon=True)

    @property
    def enabled(self) -> bool:
        return self._ledger.setting(ENABLED) == "yes"

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
        """A sandbox for a claimer: from the pool when it has one, else a cold create."""
        template = self._sandboxes.template(template_name)
        sandbox = None
        if template == self._template and not cold and self.enabled:
            sandbox = self._sandboxes.claim(template, claim)
            self.wake()
        return sandbox or self._sandboxes.create(template, claim)

    def enable(self) -> None:
        self._ledger.set_setting(ENABLED, "yes")
        with self._changed:
            self._delay_s = self._not_before = 0.0
            self._changed.notify_all()

    def drain(self) -> None:
        """Turns the pool off and removes its members before it returns; those being made just now included."""
        self._ledger.set_setting(ENABLED, "no")
        self._health.report("pool", "")
        with self._changed:
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._starting == 0)
        for member in self._ledger.rows("warm"):
            self._sandboxes.remove(member, "pool drained", ("warm",))

    def discard_outdated(self) -> None:
        """Removes members of another image or template than the pool's present one, and more than are wanted.

        Of a pool that is off none is wanted: a drain that Docker interrupted is finished here.
        """
        if not self.enabled:
            for member in self._ledger.rows("warm"):
                self._sandboxes.try_remove(member, "pool drained", ("warm",))
            return
        try:
            image_id = self._sandboxes.engine.image_id(self._template.image)
        except EngineError as error:  # it is being built anew, or was pruned: no reason to stop reconciling the rest
            self._health.report("image", str(error))
            return
        self._health.report("image", "")
        for member in self._ledger.rows("warm"):
            if (member.template, member.image_id) != (self._template.name, image_id):
                self._sandboxes.try_remove(member, "pool member of an outdated image", ("warm",))
        for member in self._ledger.rows("warm")[self._size :]:
            self._sandboxes.try_remove(member, "more pool members than wanted", ("warm",))

    def status(self) -> PoolStatus:
        with self._changed:
            starting = self._starting
        hits, misses = self._ledger.counter("hits"), self._ledger.counter("misses")
        trouble = self._health.troubles().get("pool", "")
        return PoolStatus(self.enabled, self._size, self._warm(), starting, hits, misses, trouble)

    def wake(self) -> None:
        """Something changed: look at once whether members are missing."""
        with self._changed:
            self._changed.notify_all()

    def _warm(self) -> int:
        return len(self._ledger.rows("warm"))

    def _missing(self) -> int:
        return self._size - self._warm() - self._starting if self.enabled else 0

    def _wanted(self) -> bool:
        return self.enabled and not self._stopped

    def _run(self) -> None:
        with self._changed:
            while not self._stopped:
                pause_s = self._not_before - time.monotonic()
                if pause_s <= 0:
                    self._fill_up()
                self._changed.wait(pause_s if pause_s > 0 else LOOK_EVERY_S)

    def _fill_up(self) -> None:
        try:
            missing = self._missing()
        except SandboxdError as error:  # this thread must go on: it looks again later
            self._health.report("pool", str(error))
            return
        for _ in range(missing):
            self._starting += 1
            self._fills.submit(self._fill)

    def _fill(self) -> None:
        trouble = ""
        try:
            self._sandboxes.create_member(self._template, self._wanted)
        except SandboxdError as error:
            trouble = str(error)
        except Exception as error:  # a thread has nobody else to tell
            log.exception("filling the pool failed")
            trouble = f"internal error: {error!r}"
        self._health.report("pool", trouble)
        with self._changed:
            self._starting -= 1
            self._delay_s = min(max(self._delay_s * 2, RETRY_FIRST_S), RETRY_LAST_S) if trouble else 0.0
            self._not_before = time.monotonic() + self._delay_s
            self._changed.notify_all()
