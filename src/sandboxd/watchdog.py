"""Keeps what sandboxes write outside /code in bounds, and the host's disk from being filled by anybody.

/code is a disk of its own size. The rest of a sandbox is a layer of the engine's storage, which overlayfs does not
bound: this looks every few seconds whether the host has lost space, and if so, who took it. What is too much is
stopped, with the reason in its row; its files stay, and it can be started again to clean up.
"""

import logging
import threading
from contextlib import suppress
from dataclasses import dataclass

from sandboxd.audit import WATCHDOG, acting
from sandboxd.errors import EngineDown, EngineError, NotFound, SandboxdError
from sandboxd.health import Health
from sandboxd.records import USED, Sandbox
from sandboxd.sandboxes import Sandboxes
from sandboxd.transitions import Transitions

log = logging.getLogger(__name__)

EVERY_S = 2.0
LOOK_ANYWAY_S = 60.0
LOST_MB = 256  # so much less than at the last look: somebody writes
GRACE_S = 120.0  # what is started while it is over its limit has so long to delete files
CRITICAL_MB = 1536  # of free space: below that, whoever grew most is stopped
MIB = 1024 * 1024


@dataclass(frozen=True)
class Taken:
    """What one sandbox takes of the host's disk, in MiB: its layer, and the written part of its /code and volumes. Of
    the layer, a file counts as 16 KiB at least.
    """

    layer_mb: int
    disk_mb: int

    @property
    def total_mb(self) -> int:
        return self.layer_mb + self.disk_mb


class Watchdog:
    def __init__(self, sandboxes: Sandboxes, transitions: Transitions, health: Health) -> None:
        self._sandboxes, self._transitions, self._health = sandboxes, transitions, health
        self._before: dict[str, Taken] = {}
        self._free_mb: list[int] = []  # at the last look, of each place
        self._looked = 0.0
        self._ended: set[str] = set()  # slots that were stopped here
        self._over: dict[str, float] = {}  # of those that were started again: since when they are seen over the limit
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def tick(self) -> None:
        """Looks when there is cause to: space was lost, little is left, or it is long ago."""
        now, free_mb = self._sandboxes.host.now(), self._free()
        lost = any(before - after >= LOST_MB for before, after in zip(self._free_mb, free_mb, strict=False))
        critical = min([*self._free_mb, *free_mb]) < CRITICAL_MB
        if lost or critical or self._over or not 0 <= now - self._looked < LOOK_ANYWAY_S:
            self.look()
            self._free_mb, self._looked = free_mb, now

    def look(self) -> None:
        """Measures all that run, and stops those that take too much. One that cannot be measured is told, and hides
        nothing of the others."""
        running = self._sandboxes.ledger.rows("running")
        taken, trouble = dict[str, Taken](), ""
        for row in running:
            try:
                taken[row.slot] = self._measure(row)
            except EngineError as error:
                trouble = f"sandbox {row.id} cannot be measured: {error}"
        measured = [row for row in running if row.slot in taken]
        for row in measured:
            self._judge(row, taken[row.slot])
        present = {row.slot for row in self._sandboxes.ledger.rows(*USED)}
        slots = {row.slot for row in running}
        self._over = {slot: since for slot, since in self._over.items() if slot in slots}
        self._ended &= present
        self._health.report("layers", trouble)
        free_mb = min(self._free())
        if free_mb < CRITICAL_MB and measured:
            worst = max(measured, key=lambda row: self._growth(row, taken[row.slot]))
            if self._growth(worst, taken[worst.slot]) > 0:
                self._end(worst, f"the host's disk has {free_mb} MB left, and this sandbox wrote most of late")
        self._health.report("disk", f"{free_mb} MB are left on the host's disk" if free_mb < CRITICAL_MB else "")
        # Of one that could not be measured what it had: else all of it would be of late, the next time.
        self._before = {slot: had for slot, had in self._before.items() if slot in slots} | taken

    def _judge(self, row: Sandbox, taken: Taken) -> None:
        limit_mb = self._limit_mb(row.template)
        if taken.layer_mb <= limit_mb:
            self._over.pop(row.slot, None)
            return
        if row.slot in self._ended:
            now = self._sandboxes.host.now()
            if 0 <= now - self._over.setdefault(row.slot, now) < GRACE_S:
                return
        self._end(row, f"its files outside /code take {taken.layer_mb} MB, and {limit_mb} MB is the limit")

    def _limit_mb(self, template: str) -> int:
        """Of the layer; that of the default template once the template itself is removed."""
        try:
            return self._sandboxes.template(template).layer_mb
        except NotFound:
            return self._sandboxes.template(self._sandboxes.config.default_template).layer_mb

    def _growth(self, row: Sandbox, taken: Taken) -> int:
        before = self._before.get(row.slot)
        return taken.total_mb - (before.total_mb if before else 0)

    def _end(self, row: Sandbox, reason: str) -> None:
        log.warning("sandbox %s is stopped: %s", row.id, reason)
        self._over.pop(row.slot, None)
        self._ended.add(row.slot)
        with suppress(NotFound), acting(WATCHDOG):  # somebody removed it meanwhile
            self._transitions.stop(row, reason)

    def _measure(self, row: Sandbox) -> Taken:
        layer = self._sandboxes.engine.layer_bytes(row.docker)
        disks = self._sandboxes.disks
        volumes = sum(disks.allocated(one.volume, one.volume) for one in row.mounts)
        # What is on shared storage takes nothing of this host, and may not answer.
        own = 0 if row.shared else disks.allocated(row.slot, row.volume)
        return Taken(layer // MIB, (own + volumes) // MIB)

    def _free(self) -> list[int]:
        """The free space, in MiB, of the places where sandboxes write."""
        places = (self._sandboxes.config.state_dir, self._sandboxes.engine.data_root())
        return [self._sandboxes.host.free_disk_mb(place) for place in places]

    def _run(self) -> None:
        while not self._stopped.wait(EVERY_S):
            try:
                self.tick()
                self._health.report("watchdog", "")
            except EngineDown:
                continue  # said by the comparisons
            except SandboxdError as error:
                self._health.report("watchdog", str(error))
            except Exception as error:  # this thread must go on
                log.exception("looking at the disks failed")
                self._health.report("watchdog", f"failed: {error!r}")
