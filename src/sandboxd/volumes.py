"""Volumes that keys of the API own: made, mounted as long as somebody uses them, removed.

The disk of such a volume is mounted once on the host, below the name of the volume, and bind mounted from there into
any number of sandboxes. That is sound: the kernel has one ext4 of it, and all sandboxes share one range of uids. A
volume that the command line has as a sandbox's /code is not mounted here meanwhile, nor the other way around.

The ledger says which sandboxes use a volume, and comes first: a volume is unmounted only when no row names it. Should
that fail, or the daemon end before it, the next comparison of `reconcile` does it.
"""

import logging
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sandboxd.disks import Disks
from sandboxd.errors import Conflict, HostBusy, NotFound, SandboxdError
from sandboxd.ledger import Ledger
from sandboxd.records import Mount, Volume
from sandboxd.slotlocks import SlotLocks

log = logging.getLogger(__name__)

PREFIX = "vol-"
MOST = 100  # volumes of one key's name
HELD = 8  # requests about the content of one volume at a time


class Volumes:
    def __init__(self, ledger: Ledger, disks: Disks, now: Callable[[], float]) -> None:
        self._ledger, self._disks, self._now = ledger, disks, now
        self._locks = SlotLocks()  # of each volume: between looking who uses it and mounting or unmounting it
        self._held: Counter[str] = Counter()

    def create(self, owner: str, title: str, size_mb: int, base_uid: int) -> Volume:
        """A new, empty one; its root belongs to the user inside. Raises Conflict and QuotaReached."""
        made = Volume(PREFIX + secrets.token_hex(10), size_mb, self._now(), "", "", owner, title)
        self._ledger.check_owned_volume(made, MOST)
        try:
            self._disks.make_volume(made.name, size_mb, base_uid)
            self._ledger.add_owned_volume(made, MOST)
        except BaseException:
            self._disks.remove_volume(made.name)
            raise
        log.info("volume %s (%s) of %s was made", made.name, title, owner)
        return made

    def find(self, owner: str, name: str) -> Volume:
        """By its id. Raises NotFound, also for one of somebody else."""
        for volume in self._ledger.volumes_of(owner):
            if volume.name == name:
                return volume
        raise NotFound(f"volume '{name}' not found")

    def titled(self, owner: str, title: str) -> Volume:
        for volume in self._ledger.volumes_of(owner):
            if volume.title == title:
                return volume
        raise NotFound(f"volume '{title}' not found. Make it first: Volume.create")

    def mount(self, mounts: Sequence[Mount]) -> list[tuple[Path, str]]:
        """Mounts the disks of a sandbox's volumes. Its row must name them already. Returns what to bind where."""
        for one in mounts:
            with self._locks.hold(one.volume):
                self._disks.mount(one.volume, one.volume)
        return [(self._disks.path(one.volume), one.path) for one in mounts]

    def mounted(self, mounts: Sequence[Mount]) -> bool:
        present = self._disks.mounted() if mounts else {}
        return all(self._disks.path(one.volume) in present for one in mounts)

    @contextmanager
    def held(self, name: str) -> Iterator[Path]:
        """The root of a volume, for as long as the body takes.

        Raises NotFound; Conflict while a sandbox has it as its /code, HostBusy when too many hold it.
        """
        with self._locks.hold(name):
            if not any(volume.name == name and volume.owner for volume in self._ledger.volumes()):
                raise NotFound(f"volume '{name}' not found")
            if holder := next((row for row in self._ledger.rows() if row.volume == name), None):
                raise Conflict(f"volume '{name}' is the /code of sandbox {holder.id or holder.slot} now.")
            if self._held[name] >= HELD:
                raise HostBusy(f"volume '{name}' has {HELD} requests at a time already. Try again in some seconds.")
            self._disks.mount(name, name)
            self._held[name] += 1
        try:
            yield self._disks.host_path(name)
        finally:
            with self._locks.hold(name):
                self._held[name] -= 1

    def give_way(self, name: str) -> None:
        """A sandbox is about to have the volume as its /code; its row says so. Raises Conflict while it is held."""
        with self._locks.hold(name):
            self._check_held(name)
            self._disks.unmount(name)

    def remove(self, name: str) -> None:
        """With its files. Raises NotFound, and Conflict while it is in use."""
        with self._locks.hold(name):
            self._check_held(name)
            if not self._ledger.holders(name):
                self._disks.unmount(name)  # not within the transaction: it may have much to write
            self._ledger.remove_volume(name, lambda: self._disks.remove_volume(name))

    def release(self) -> None:
        """Unmounts those that nobody uses. What fails is logged, and done at the next call."""
        shared = [path.name for path in self._disks.mounted() if path.name.startswith(PREFIX)]
        for name in shared:
            try:
                with self._locks.hold(name):
                    if not self._held[name] and not self._ledger.holders(name):
                        self._disks.unmount(name)
            except SandboxdError as error:
                log.warning("volume %s stays mounted: %s", name, error)

    def _check_held(self, name: str) -> None:
        if self._held[name]:
            raise Conflict(f"volume '{name}' is in use by requests about its content. Try again in some seconds.")
