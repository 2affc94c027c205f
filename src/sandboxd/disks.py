"""The disks at /code: sparse ext4 files of a fixed size, each mounted through a loop device.

A disk is called by its slot, or by the name of its volume; one of a volume that several sandboxes share is mounted by
that name. The commands are in `diskcommands`; the runner that is
handed in performs them. Every method raises HostError when the host refuses.
"""

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sandboxd.diskcommands import (
    IN_HOST,
    Runner,
    check_command,
    mkfs_command,
    mount_command,
    parse_mounts,
    resize_command,
    run,
    unmount_command,
)
from sandboxd.errors import Conflict, HostError

HOST_ROOT = Path("/proc/1/root")  # the host's file tree, whatever our own mount namespace shows
MIB = 1024 * 1024
DETACHED_S = 10.0  # how long what was unmounted may stay in use: by a container whose end is being cleaned up
POLL_S = 0.05
LOOP_SET_DIRECT_IO = 0x4C08  # linux/loop.h
USER_UID = 1000  # `user` inside
VOLUME_NAME = r"[a-z0-9][a-z0-9-]{0,62}"
OWN = re.compile(r"([0-9a-f]{12})(\.img|\.new)?")  # of a slot: its mount point, its file, one that is being made


@dataclass(frozen=True)
class Usage:
    """What `df` would say, in bytes."""

    used: int
    size: int


class Disks:
    """All disks of this host: files below `<state_dir>/disks` and `volumes`, mounted below `<state_dir>/mounts`.

    `elsewhere` gives the file of a volume that is on other storage, None for all others.
    """

    def __init__(
        self,
        state_dir: Path,
        runner: Runner = run,
        host_root: Path = HOST_ROOT,
        elsewhere: Callable[[str], Path | None] = lambda volume: None,
    ) -> None:
        self._elsewhere = elsewhere
        self._disks, self._volumes = state_dir / "disks", state_dir / "volumes"
        self._snapshots = state_dir / "snapshots"
        self._mounts = state_dir.resolve() / "mounts"  # as the kernel lists them, also if a part of it is a link
        self._run, self._root = runner, host_root

    def path(self, slot: str) -> Path:
        """Where the disk of a sandbox is mounted; the container gets it from there."""
        return self._mounts / slot

    def file(self, slot: str, volume: str) -> Path:
        if volume and (found := self._elsewhere(volume)) is not None:
            return found
        return self._volumes / f"{volume}.img" if volume else self._disks / f"{slot}.img"

    def snapshot(self, template: str) -> Path:
        """The file of the disk that sandboxes of a template begin with."""
        return (self._snapshots / template).with_suffix(".img")

    def size_mb(self, volume: str, slot: str = "") -> int | None:
        """The size of the file of a volume, or else of a slot; None when there is none."""
        file = self.file(slot, volume)
        with _told(file):
            return file.stat().st_size // MIB if file.exists() else None

    def volumes(self) -> list[str]:
        """The volumes of which there is a file."""
        with _told(self._volumes):
            return sorted(path.stem for path in self._volumes.glob("*.img"))

    def create(
        self,
        slot: str,
        volume: str,
        size_mb: int,
        base_uid: int,
        known: bool = False,
        origin: Path | None = None,
    ) -> None:
        """Makes and mounts a disk that belongs to the user inside, with the files of the disk `origin`, if any.

        A volume that exists is only mounted. `known`: the ledger had that volume before, so its file must be there; an
        empty one must not take its place.
        """
        file = self.file(slot, volume)
        with _told(file):
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if volume and known and not file.exists():
                raise Conflict(
                    f"{file}: the file of volume {volume!r} is gone. Was it removed by hand? Put it back, or"
                    f" forget the volume: docker-sandbox volume rm {volume}"
                )
            if not (volume and file.exists()):
                if origin is None:
                    self._make(file, size_mb, base_uid + USER_UID)
                else:
                    self._copy(origin, file)
                    self._enlarge(file, size_mb)
            self.mount(slot, volume)

    def make_volume(self, name: str, size_mb: int, base_uid: int) -> None:
        """The disk of a new volume, not mounted."""
        file = self.file("", name)
        with _told(file):
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make(file, size_mb, base_uid + USER_UID)

    def host_path(self, name: str) -> Path:
        """Where our own processes find what is mounted: the host sees it, and not our mount namespace."""
        return self._root / self.path(name).relative_to("/")

    def make_mount_point(self, slot: str) -> None:
        with _told(self.path(slot)):
            self._mounts.mkdir(mode=0o711, parents=True, exist_ok=True)
            self.path(slot).mkdir(mode=0o711, exist_ok=True)

    def mount(self, slot: str, volume: str) -> None:
        """Mounts the disk unless it is: after a reboot nothing is."""
        file, directory = self.file(slot, volume), self.path(slot)
        if directory in self.mounted():
            return
        with _told(file):
            if not file.exists():
                raise HostError(f"{file}: the disk of slot {slot} is gone. Was it removed by hand?")
            self.make_mount_point(slot)
            self._run(mount_command(file, directory))
            with suppress(OSError):  # another owner's, and in everybody's way; fsck makes it when it needs it
                (self.host_path(slot) / "lost+found").rmdir()
            self._write_directly(self.mounted().get(directory, ""))

    def grow(self, slot: str, volume: str, size_mb: int, in_use: bool) -> None:
        """Makes a disk larger. One `in_use` grows under its files, which not every kernel lets us do: Conflict."""
        file, directory = self.file(slot, volume), self.path(slot)
        device = self.mounted().get(directory)
        if in_use and device is None:
            raise HostError(f"{directory}: the disk of slot {slot} is not mounted. Stop and start the sandbox.")
        with _told(file):
            if not file.exists():
                raise HostError(f"{file}: the disk of slot {slot} is gone. Was it removed by hand?")
            if file.stat().st_size < size_mb * MIB:
                os.truncate(file, size_mb * MIB)
        if device is None or not in_use:
            self.unmount(slot)
            self.wait_detached(file)
            self._check(file)
            self._run(resize_command(file, size_mb))
            return
        self._run([*IN_HOST, "losetup", "--set-capacity", device])
        try:
            self._run([*IN_HOST, *resize_command(device, size_mb)])
        except HostError as error:
            if "Permission denied" not in str(error):
                raise
            raise Conflict(
                "the kernel of this host does not let us grow a disk that is in use (CAP_SYS_RESOURCE is missing)."
                " Stop the sandbox first: docker-sandbox stop ID; it keeps its files."
            ) from error

    def unmount(self, slot: str) -> None:
        """One that is not mounted is fine."""
        directory = self.path(slot)
        with _told(directory):
            if directory in self.mounted():
                self._run(unmount_command(directory))
            if directory.exists():
                directory.rmdir()

    def remove(self, slot: str) -> None:
        """Unmounts the disk of a slot and deletes its file; the file of a volume stays."""
        self.unmount(slot)
        _unlink(self.file(slot, ""))

    def keep(self, slot: str, volume: str) -> None:
        """The disk of a slot becomes that of a volume. Done again after an interruption, it goes on."""
        self.unmount(slot)
        source, target = self.file(slot, ""), self.file("", volume)
        with _told(target):
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if source.exists():
                os.rename(source, target)

    def remove_volume(self, name: str) -> None:
        _unlink(self.file("", name))

    def copy(self, slot: str, volume: str, target: Path) -> None:
        """A copy of the disk's file, as sparse as it is. Nobody may write to the disk meanwhile."""
        with _told(target):
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.path(slot) in self.mounted():
            self._run([*IN_HOST, "sync", "--file-system", str(self.path(slot))])
        self._copy(self.file(slot, volume), target)

    def allocated(self, slot: str, volume: str) -> int:
        """How many bytes of the host's disk the file takes; 0 when there is none."""
        file = self.file(slot, volume)
        with _told(file):
            return file.stat().st_blocks * 512 if file.exists() else 0

    def usage(self, slot: str) -> Usage | None:
        """None when the disk is not mounted."""
        directory = self.path(slot)
        if directory not in self.mounted():
            return None
        with _told(directory):
            try:
                found = os.statvfs(self.host_path(slot))
            except FileNotFoundError:  # removed since
                return None
        return Usage((found.f_blocks - found.f_bfree) * found.f_frsize, found.f_blocks * found.f_frsize)

    def mounted(self) -> dict[Path, str]:
        """Our mounts as the host sees them: directory -> loop device."""
        with _told(self._mounts):
            return parse_mounts((self._root / "proc/1/mountinfo").read_text(), self._mounts)

    def slots(self) -> dict[str, float]:
        """The slots of which there is a file or a mount point, and when they were touched last, in Unix seconds.

        Files of other names are somebody else's, such as a copy that an operator made.
        """
        found: dict[str, float] = {}
        with _told(self._disks):
            for directory in (self._disks, self._mounts):
                for path in directory.iterdir() if directory.exists() else ():
                    if own := OWN.fullmatch(path.name):
                        with suppress(FileNotFoundError):  # removed since the directory was read
                            # Not the time of change, which a sandbox can set: of a mount point it is its /code's.
                            found[own[1]] = max(found.get(own[1], 0.0), path.lstat().st_ctime)
        return found

    def _make(self, file: Path, size_mb: int, owner: int) -> None:
        temporary = file.with_suffix(".new")  # a volume that was half made must not be taken for one
        with temporary.open("wb") as opened:
            os.fchmod(opened.fileno(), 0o600)
            opened.truncate(size_mb * MIB)
        self._run(mkfs_command(temporary, owner))
        os.replace(temporary, file)

    def _copy(self, source: Path, target: Path) -> None:
        temporary = target.with_suffix(".new")  # a copy that is not complete must not be taken for one
        self._run(["cp", "--sparse=always", "--reflink=auto", str(source), str(temporary)])
        with _told(target):
            os.replace(temporary, target)

    def _enlarge(self, file: Path, size_mb: int) -> None:
        """Of a disk that is not mounted."""
        with _told(file):
            if file.stat().st_size < size_mb * MIB:
                os.truncate(file, size_mb * MIB)
        self._check(file)
        self._run(resize_command(file, size_mb))

    def _check(self, file: Path) -> None:
        try:
            self._run(check_command(file))
        except HostError as error:
            if "lost+found is not a directory" not in str(error):
                raise
            raise Conflict(
                "the sandbox has something of its own at /code/lost+found, where a check of the disk wants its"
                " directory. Start the sandbox, rename or remove that, stop it, and try again."
            ) from error

    def wait_detached(self, file: Path) -> None:
        """A file system must not be checked or resized from outside while it is in use, in whatever mount namespace."""
        give_up = time.monotonic() + DETACHED_S
        while in_use := self._run([*IN_HOST, "losetup", "--associated", str(file)]).strip():
            if time.monotonic() >= give_up:
                raise HostError(f"{file} is still in use by a loop device ({in_use}). Try again in a moment.")
            time.sleep(POLL_S)

    def _write_directly(self, device: str) -> None:
        """Past the page cache of the host, where everything would stand twice: measured, twice as fast."""
        try:
            with (self._root / device.lstrip("/")).open("rb") as opened:  # systemd shows us no devices
                fcntl.ioctl(opened, LOOP_SET_DIRECT_IO, 1)
        except OSError:  # not every file system below can do it, and everything works without
            return


def _unlink(file: Path) -> None:
    """The file of a disk, and one that was not made to its end. None of either is fine."""
    for path in (file, file.with_suffix(".new")):
        with _told(path):
            path.unlink(missing_ok=True)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HostError(f"{error.filename or path}: {error.strerror}. Is the disk full? Look with: df -h") from error
