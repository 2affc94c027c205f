"""The parts of the daemon that requests are turned into calls of."""

from dataclasses import dataclass, field
from functools import cached_property

from sandboxd.api.streams import Streams
from sandboxd.doctor.effects import Effects
from sandboxd.health import Health
from sandboxd.keys import Keys
from sandboxd.pool import Pool
from sandboxd.quota import Quota
from sandboxd.reconcile import Reconciler
from sandboxd.sandboxes import Sandboxes
from sandboxd.templates import Templates
from sandboxd.transitions import Transitions
from sandboxd.watchdog import Watchdog


@dataclass(frozen=True)
class Services:
    sandboxes: Sandboxes
    keys: Keys
    transitions: Transitions
    templates: Templates
    pool: Pool
    reconciler: Reconciler
    watchdog: Watchdog
    health: Health
    streams: Streams = field(default_factory=Streams)
    effects: Effects = field(default_factory=Effects)

    @cached_property
    def quota(self) -> Quota:
        """One for all who make sandboxes for keys: it counts those that are being made."""
        return Quota(self.sandboxes.ledger)
