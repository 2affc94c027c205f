"""Removes what bears this project's labels and has no row in the ledger: what a crash, or another ledger, has left.

A ledger that is new, or was lost or restored, is not believed: until it has once known all that it found, or somebody
says so, nothing goes.
"""

import logging

from sandboxd.engine import Found
from sandboxd.errors import SandboxdError
from sandboxd.health import Health
from sandboxd.recovery import MAY_SWEEP
from sandboxd.sandboxes import Sandboxes

log = logging.getLogger(__name__)

GRACE_S = 600.0  # unknown objects younger than this are left alone


class Sweeper:
    def __init__(self, sandboxes: Sandboxes, health: Health) -> None:
        self._sandboxes, self._health = sandboxes, health
        self._ledger, self._engine = sandboxes.ledger, sandboxes.engine

    def allow(self) -> None:
        """This ledger is this host's: what it does not know may go."""
        self._ledger.set_setting(MAY_SWEEP, "yes")

    def sweep(self, found: list[Found], grace_s: float = GRACE_S) -> None:
        """Removes what of `found`, and of the files of slots, has no row and is older than `grace_s`."""
        found = [*found, *self._files()]
        known = {row.slot for row in self._ledger.rows()}  # after what was found: whatever has a row now is spared
        unknown = [one for one in found if one.slot not in known]
        if not self._ledger.setting(MAY_SWEEP):
            # A ledger that has never seen this host in order: is it really this host's ledger?
            if unknown:
                self._health.report(
                    "sweep",
                    f"{len(unknown)} containers, networks, volumes or disks are this project's, but the ledger is new"
                    " or was lost, and knows none of them, so nothing is removed."
                    f" Is state_dir right ({self._sandboxes.config.state_dir})?"
                    " If they may go: docker-sandbox cleanup --unknown",
                )
                return
            self.allow()
        self._health.report("sweep", "")
        removers = {  # in this order: what a container uses cannot be removed before it
            "container": self._engine.remove_container,
            "network": self._engine.remove_network,
            "rules": self._sandboxes.guard.release,
            "volume": self._engine.remove_volume,
            "disk": self._sandboxes.disks.remove,
            "directory": self._sandboxes.dirs.remove,
        }
        order = list(removers)
        for one in sorted(unknown, key=lambda one: order.index(one.kind)):
            if self._sandboxes.host.now() - one.created >= grace_s and not self._sandboxes.locks.held(one.slot):
                log.warning("removing %s %s of slot %s: unknown to the ledger", one.kind, one.ref, one.slot or "-")
                try:
                    with self._sandboxes.audit.doing("sweep", detail=f"{one.kind} {one.ref}: unknown to the ledger"):
                        removers[one.kind](one.ref)
                except SandboxdError as error:
                    log.warning("%s", error)

    def _files(self) -> list[Found]:
        """What slots have on the host itself."""
        disks, directories = self._sandboxes.disks.slots(), self._sandboxes.dirs.slots()
        found = [Found("disk", slot, slot, touched) for slot, touched in disks.items()]
        return found + [Found("directory", slot, slot, touched) for slot, touched in directories.items()]
