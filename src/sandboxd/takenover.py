"""Sandboxes of this host whose volumes another host has by now: they were made anew there while this one was away.

What is left of them here goes before anything here is mounted, started or told to anybody. Their tombstones say why.
"""

import logging

from sandboxd.errors import HostError
from sandboxd.health import Health
from sandboxd.records import USED
from sandboxd.sandboxes import Sandboxes
from sandboxd.sharedstore import TakenOver

log = logging.getLogger(__name__)

SOURCE = "shared storage"
TOLD = "taken over"  # the source of what is told of those that went
TOLD_S = 86400.0


class Leaver:
    def __init__(self, sandboxes: Sandboxes, health: Health) -> None:
        self._sandboxes, self._health = sandboxes, health

    def leave(self) -> None:
        """Removes those. While the storage does not answer nobody can tell, and nothing of theirs is mounted either."""
        trouble = ""
        for row in self._sandboxes.ledger.rows(*USED):
            if not row.generation or self._sandboxes.locks.held(row.slot):
                continue
            try:
                self._sandboxes.shared.check(row)
            except TakenOver as error:
                log.error("sandbox %s is removed from this host: %s", row.id, error)
                self._sandboxes.try_remove(row, str(error), USED)
            except HostError as error:
                trouble = str(error)
                break  # each question may take long not to be answered
        self._health.report(SOURCE, trouble)
        self._health.report(TOLD, self._told())

    def settle(self) -> None:
        """What could not be written or given back before."""
        try:
            self._sandboxes.shared.settle()
        except HostError as error:
            self._health.report(SOURCE, str(error))

    def _told(self) -> str:
        since = self._sandboxes.host.now() - TOLD_S
        gone = [
            f"sandbox {row.id}: {row.reason}"
            for row in self._sandboxes.ledger.rows("gone", "removing")
            if row.generation and "was taken over" in row.reason and (row.gone_at is None or row.gone_at > since)
        ]
        return "; ".join(gone)
