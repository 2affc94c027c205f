"""The parts of the daemon that requests are turned into calls of."""

from dataclasses import dataclass

from sandboxd.health import Health
from sandboxd.pool import Pool
from sandboxd.reconcile import Reconciler
from sandboxd.sandboxes import Sandboxes
from sandboxd.templates import Templates
from sandboxd.transitions import Transitions
from sandboxd.watchdog import Watchdog


@dataclass(frozen=True)
class Services:
    sandboxes: Sandboxes
    transitions: Transitions
    templates: Templates
    pool: Pool
    reconciler: Reconciler
    watchdog: Watchdog
    health: Health
