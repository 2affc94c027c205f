"""What sandboxes use at this moment: counters of many at once, in a fraction of a millisecond each.

The kernel's files are read directly. Docker is asked once for each boot of a container, for the id of a process in it;
that this process is still the container's own is seen from its cgroup at each look.
"""

import logging
import threading
from dataclasses import dataclass
from pathlib import Path

from sandboxd import proc
from sandboxd.cgroups import Cgroups, Gone, Usage
from sandboxd.engine import Engine
from sandboxd.errors import SandboxdError
from sandboxd.ledger import Ledger
from sandboxd.records import Sandbox

log = logging.getLogger(__name__)

STOPPED = "stopped"


@dataclass(frozen=True)
class Sample:
    """`state` is the ledger's, or "stopped" for a container that does not run. None: not known, or not running."""

    row: Sandbox
    state: str
    usage: Usage | None = None
    network: proc.Network | None = None
    disk: proc.Disk | None = None


class Stats:
    """Safe to use from several threads. `root` is the file system's root, below which /proc and /sys are read."""

    def __init__(self, ledger: Ledger, engine: Engine, root: Path = Path("/")) -> None:
        self._ledger, self._engine, self._root = ledger, engine, root
        self._cgroups: Cgroups | None = None
        self._shared: Path | None = None  # where the engine keeps the files of all containers
        self._processes: dict[str, tuple[str, int]] = {}  # id -> the boot that was asked for, and a process of it
        self._asking = True
        self._lock = threading.Lock()

    def read(self, ids: set[str] | None = None) -> list[Sample]:
        """All sandboxes that have a container, pool members included, or those with the given ids; oldest first.

        Raises HostError when the ledger, and OSError when /proc cannot be read.
        """
        with self._lock:
            rows = [row for row in self._ledger.rows() if row.id]
            present = {row.id for row in rows}
            self._processes = {key: value for key, value in self._processes.items() if key in present}
            self._cgroups = self._cgroups or Cgroups(self._root)
            self._asking = True
            return [self._sample(self._cgroups, row) for row in rows if ids is None or row.id in ids]

    def _sample(self, cgroups: Cgroups, row: Sandbox) -> Sample:
        for fresh in (False, True):  # the second time, with what Docker says now
            pid = self._process(row, fresh)
            if pid is None:
                return Sample(row, row.state)
            if pid == 0:
                break
            try:
                usage = cgroups.usage(pid, row.docker)
            except Gone:
                continue
            shared = self._shared
            disk = None if shared is None else proc.disk(pid, shared, self._root)
            return Sample(row, row.state, usage, proc.network(pid, self._root), disk)
        return Sample(row, STOPPED if row.state in ("warm", "running") else row.state)

    def _process(self, row: Sandbox, fresh: bool) -> int | None:
        """A process of the container, 0 when it does not run, None when Docker cannot tell."""
        booted, pid = self._processes.get(row.id, ("", 0))
        if not fresh and pid and booted == row.booted:
            return pid
        if not self._asking:
            return None
        try:
            if self._shared is None:
                self._shared = Path(self._engine.describe().root_dir)
            container = self._engine.container(row.docker)
        except SandboxdError as error:
            log.warning("no figures of sandbox %s: %s", row.id, error)
            self._asking = False  # it may take a minute not to answer: once is enough for this look
            return None
        pid = container.pid if container is not None and container.running else 0
        self._processes[row.id] = (row.booted, pid)
        return pid
