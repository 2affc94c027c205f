"""The parts of the daemon that requests are turned into calls of."""

from dataclasses import dataclass, field
from pathlib import Path

from sandboxd.api.streams import Streams
from sandboxd.health import Health
from sandboxd.pool import Pool
from sandboxd.reconcile import Reconciler
from sandboxd.sandboxes import Sandboxes


@dataclass(frozen=True)
class Services:
    """`root` is the file system's root, below which the kernel's files are read; tests put their own there."""

    sandboxes: Sandboxes
    pool: Pool
    reconciler: Reconciler
    health: Health
    streams: Streams = field(default_factory=Streams)
    root: Path = Path("/")
