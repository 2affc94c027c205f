"""What of the host is stopped and started around a restore, and what has to read its secrets and certificates anew."""

import re
import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from sandboxd.backup.places import Places, run
from sandboxd.errors import Conflict, HostError
from sandboxd.records import USED

POLL_S = 0.2
UNMOUNT_S = 30.0
WATCHED = Path("/etc/traefik/dynamic/tls.yml")
MOUNTS = Path("/proc/self/mountinfo")


@dataclass(frozen=True)
class Running:
    """Which of what can be off on purpose is on, and shall be so again."""

    pool: bool
    console: bool


class Services:
    def __init__(self, places: Places, certificate: Path) -> None:
        """`certificate` is the program that makes the host's certificate from its own authority."""
        self._places, self._certificate = places, certificate
        project = places.config.project
        self.daemon, self.pool = f"{project}-sandboxd.service", f"{project}-container-pool.service"
        self.console = f"{project}-console.service"

    def start_daemon(self) -> None:
        """Raises HostError when it does not come up."""
        run("systemctl", "start", self.daemon)

    def stop(self) -> Running:
        """All that uses the ledger; the pools are drained. Raises HostError; Conflict when a disk is still in use. Then
        all of it runs again."""
        found = Running(self._active(self.pool), self._active(self.console))
        try:
            run("systemctl", "stop", self.pool)
            if found.console:
                run("systemctl", "stop", self.console)
            run("systemctl", "stop", self.daemon)
            self._await_unmounted()
        except BaseException:
            with suppress(HostError):  # the first failure is what is told
                self.start_daemon()
                self._start_more(found)
            raise
        return found

    def start(self, before: Running) -> None:
        """With what was put in place. Raises HostError."""
        if self._places.config.wanted.tls_mode == "internal":
            run(str(self._certificate))
            WATCHED.touch()  # else Traefik does not see it
        if self._places.config.wanted.tls_mode == "acme":
            run("docker", "restart", "traefik")  # it reads its store at its start
        self.start_daemon()
        run("systemctl", "reload", "haproxy.service")  # the key of links
        self._start_more(before)

    def _start_more(self, wanted: Running) -> None:
        for unit, on in ((self.pool, wanted.pool), (self.console, wanted.console)):
            if on:
                run("systemctl", "start", unit)

    def _await_unmounted(self) -> None:
        mounts = re.escape(str((self._places.config.state_dir / "mounts").resolve()))  # as the kernel lists them
        give_up = time.monotonic() + UNMOUNT_S
        while busy := re.findall(rf" ({mounts}/\S+) ", MOUNTS.read_text()):
            if time.monotonic() > give_up:
                raise Conflict(f"disks of sandboxes are still mounted: {' '.join(busy)}. Unmount them, and try again.")
            time.sleep(POLL_S)

    def _active(self, unit: str) -> bool:
        try:
            return run("systemctl", "is-active", unit).strip() == "active"
        except HostError:  # it ends with 3 for one that is not
            return False


def occupants(ledger: Path) -> dict[str, list[str]]:
    """What of people this host has: the ids of sandboxes in use, the names of volumes and of templates made here.

    Raises HostError when the ledger cannot be read.
    """
    marks = ", ".join("?" * len(USED))
    queries = {
        "sandboxes": (f"SELECT id FROM sandboxes WHERE state IN ({marks}) ORDER BY id", USED),
        "volumes": ("SELECT name FROM volumes ORDER BY name", ()),
        "templates": ("SELECT name FROM templates UNION SELECT template FROM tags ORDER BY 1", ()),
    }
    if not ledger.exists():
        return {what: [] for what in queries}
    try:
        with closing(sqlite3.connect(f"file:{ledger}?mode=rw", uri=True, timeout=10)) as db:
            return {what: [str(row[0]) for row in db.execute(*query)] for what, query in queries.items()}
    except sqlite3.Error as error:
        raise HostError(
            f"{ledger}: {error}. sandboxd mends that when it starts: systemctl restart '*-sandboxd', then again."
        ) from error
