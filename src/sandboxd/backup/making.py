"""Makes a backup of this host while it is in use. Reads what is in it, and writes beside it only what it removes again.

The ledger is copied by SQLite, a disk that is mounted is held still while it is copied, and one that is not is copied
again if somebody mounted it meanwhile.
"""

import os
import re
import shutil
import socket
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, BinaryIO

from sandboxd import __version__, ledgercopy
from sandboxd.backup import DISKS, FORMAT, IMAGES, LEDGER, MARK, TABLES
from sandboxd.backup.freezing import Unmounted, frozen, mounted_at
from sandboxd.backup.places import Places, image_bytes, run, userns_uid
from sandboxd.backup.workspace import workspace
from sandboxd.backup.writing import Writer
from sandboxd.disks import VOLUME_NAME
from sandboxd.errors import HostError
from sandboxd.templatetable import NAMED
from sandboxd.times import rfc3339

WORK = "backup.new"  # below state_dir: copies of disks, one at a time, and the images
ANOTHER = "another backup of this host is being made. Wait for its end."
TRIES = 3
SPACE_LEFT = 256 * 1024 * 1024


def make(
    places: Places,
    without: tuple[str, ...],
    told: Callable[[int], None],
    stream: BinaryIO,
) -> dict[str, Any]:
    """Writes a backup to `stream`, and returns what is in it: the head, with `members` as the manifest has them.

    `told` gets the bytes of each piece. Raises HostError, OSError.
    """
    if (places.config.state_dir / MARK).exists():
        raise HostError("a restore of this host was interrupted, or is under way: there is no whole host to back up.")
    with workspace(places.config.state_dir / WORK, ANOTHER) as work:
        images = copy_ledger(places, work / LEDGER, without)
        disks = [path for kind in kinds(without) for path in places.files(kind) if is_disk(path)]
        sizes = [image_bytes(images), *(path.stat().st_blocks * 512 for path in disks)]
        check_space(work, max(sizes))
        head = {
            "format": FORMAT,
            "version": __version__,
            "schema": version_of(work / LEDGER),
            "project": places.config.project,
            "domain": places.config.domain,
            "host": socket.gethostname(),
            "made": rfc3339(time.time()),
            "userns_uid": userns_uid(),
            "without": list(without),
            "bytes": sum(sizes),
        }
        with Writer(stream, head, told) as writer:
            writer.file(LEDGER, work / LEDGER)
            for name, path in places.vital().items():
                writer.content(name, steady(path))
            for path in disks:
                still = copy_disk(path, work / path.name)
                writer.image(f"{path.parent.name}/{path.name}", work / path.name, still=still)
                (work / path.name).unlink()
            if images:
                run("docker", "save", "--output", str(work / IMAGES), *images)
                writer.file(IMAGES, work / IMAGES)
        return {**head, "members": writer.members}


def kinds(without: tuple[str, ...]) -> list[str]:
    """The directories whose disks are in it."""
    return [directory for directory, kind in DISKS.items() if kind not in without]


def is_disk(path: Path) -> bool:
    """Whole ones, and not what is being made."""
    return re.fullmatch(rf"{VOLUME_NAME}\.img", path.name) is not None


def copy_ledger(places: Places, target: Path, without: tuple[str, ...]) -> list[str]:
    """The ledger as it is now, without what is left out. Returns the images that it names."""
    file = places.config.ledger
    if not file.exists():
        raise HostError(f"{file}: there is no ledger. Is sandboxd running? systemctl status '*-sandboxd'")
    with closing(sqlite3.connect(f"file:{file}?mode=rw", uri=True, timeout=10)) as db:
        ledgercopy.write(db, target)
    with closing(sqlite3.connect(target, isolation_level=None)) as db:
        for kind in without:
            for table in TABLES[kind]:
                db.execute(f"DELETE FROM {table}")
        return sorted(str(row[0]) for row in db.execute(NAMED))


def version_of(ledger: Path) -> int:
    with closing(sqlite3.connect(ledger)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def check_space(work: Path, needed: int) -> None:
    found = os.statvfs(work)
    free = found.f_bavail * found.f_frsize
    if free < needed + SPACE_LEFT:
        raise HostError(
            f"{work}: the largest part of the backup is copied there first, about {needed // 1_000_000} MB, and"
            f" {free // 1_000_000} MB are free. Make room, or leave out volumes or templates with --without."
        )


def steady(path: Path) -> bytes:
    """Of a small file that somebody may be writing anew. Raises HostError when it does not come to rest."""
    for _ in range(TRIES):
        before = path.stat()
        found = path.read_bytes()
        after = path.stat()
        if (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino) and len(found) == after.st_size:
            return found
    raise HostError(f"{path}: it is being written all the time. Make the backup again.")


def copy_disk(source: Path, target: Path) -> bool:
    """A copy of a disk as of one moment. False when it could not be held still for long enough.

    Raises HostError, also for one that was removed meanwhile: the ledger of this backup has it.
    """
    for _ in range(TRIES):
        target.unlink(missing_ok=True)
        if not source.exists():
            raise HostError(f"{source}: it was removed while the backup was made. Make the backup again.")
        mounted = mounted_at(source)
        with suppress(Unmounted):
            if mounted is not None:
                with frozen(mounted) as still:
                    copy(source, target)
                    return still()
            before = source.stat().st_mtime_ns
            copy(source, target)
            if mounted_at(source) is None and source.stat().st_mtime_ns == before:
                return True
    if not target.exists():
        copy(source, target)
    return False


def copy(source: Path, target: Path) -> None:
    run("cp", "--sparse=always", "--reflink=auto", str(source), str(target))
    with suppress(OSError):  # of a volume that grows: what is behind the copy's end is not in it
        shutil.copymode(source, target)
