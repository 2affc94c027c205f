"""Puts a backup in place of what this host has. All of it was read, and was right, before the first change.

What was there is moved aside, not removed. Whatever breaks off in the middle, the same restore is simply run again.
"""

import json
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from itertools import chain, count
from pathlib import Path
from typing import Any, BinaryIO

from sandboxd import ledgercopy
from sandboxd.backup import DISKS, IMAGES, LEDGER, MARK, TABLES
from sandboxd.backup.places import Places, run
from sandboxd.backup.reading import SPACE_LEFT, Content, read
from sandboxd.backup.services import Running
from sandboxd.backup.workspace import workspace
from sandboxd.errors import Conflict, HostError, LedgerError
from sandboxd.recovery import DONE, MAY_SWEEP, PENDING, SIDES
from sandboxd.schema import MIGRATIONS, migrate

WORK = "restore.new"  # below state_dir, so that disks are moved and not copied
ANOTHER = "another restore of this host is under way. Wait for its end."
PUBLIC = ("ca.pem",)  # what others than root read
REASON = "not in the backup, which a host was restored from: sandboxes have no copy"


def working(places: Places) -> AbstractContextManager[Path]:
    """Where a restore reads a backup into. Raises HostError while another does."""
    return workspace(places.config.state_dir / WORK, ANOTHER)


def unpack(places: Places, stream: BinaryIO, told: Callable[[int], None], uid: int, force: bool, work: Path) -> Content:
    """Reads all of a backup into `work`. Raises Damaged, Conflict, NoSpace, HostError; nothing was changed then."""

    def accept(head: dict[str, Any]) -> None:
        fits(head, places, uid, force)
        found = os.statvfs(work)
        free = found.f_bavail * found.f_frsize
        if free < head["bytes"] + SPACE_LEFT:
            raise HostError(
                f"{work}: what is in the backup takes about {head['bytes'] // 1_000_000} MB, and"
                f" {free // 1_000_000} MB are free. Make room: df -h {places.config.state_dir}"
            )

    content = read(stream, told, accept, work)
    _adapt(work / LEDGER, content.head["schema"])
    return content


def fits(head: dict[str, Any], places: Places, uid: int, force: bool) -> None:
    """Raises Conflict when this host is another one than that the backup can be for."""
    if head["schema"] > len(MIGRATIONS):
        raise Conflict(
            f"the backup is of a newer release (schema {head['schema']}, this host knows {len(MIGRATIONS)})."
            " Deploy that release here first."
        )
    if head["project"] != places.config.project:
        raise Conflict(
            f"the backup is of the project {head['project']!r}, and this host is {places.config.project!r}:"
            " names of images would not fit. Deploy with that setting `project` first."
        )
    if head["userns_uid"] != uid:
        raise Conflict(
            f"on the host of the backup root in sandboxes was uid {head['userns_uid']}, here it is {uid}: files on"
            " volumes would be nobody's. Make the line of dockremap in /etc/subuid and /etc/subgid the same, and"
            " restart Docker."
        )
    if head["domain"] != places.config.domain and not force:
        raise Conflict(
            f"the backup is of the domain {head['domain']}, and this host has {places.config.domain}: links that were"
            " given out lead elsewhere. If that is meant: --force."
        )


def marked(places: Places) -> bool:
    """Whether a restore of this host was begun and not ended."""
    return (places.config.state_dir / MARK).exists()


def mark(places: Places, running: Running) -> Running:
    """From here on the host is half restored. Returns what ran before, also before an earlier try."""
    file = places.config.state_dir / MARK
    if file.exists() and file.stat().st_size:
        running = Running(**json.loads(file.read_text()))
    else:
        temporary = file.with_name(f"{MARK}.new")
        temporary.write_text(json.dumps(vars(running)))
        os.replace(temporary, file)
    return running


def put(places: Places, work: Path, content: Content) -> Path | None:
    """Puts what was unpacked in its place. The daemon must not run. Returns where that is now what was there before.

    Raises HostError and OSError half-way; then it is to be done again, from the beginning.
    """
    state = places.config.state_dir
    aside = _unused(state / time.strftime("before-restore-%Y%m%dT%H%M%SZ", time.gmtime()))
    left_out = content.head["without"]
    for kind, directory in places.directories().items():
        if kind in DISKS and DISKS[kind] not in left_out:
            for path in places.files(kind):
                _aside(path, aside / kind)
        for path in sorted((work / kind).iterdir()) if (work / kind).is_dir() else ():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _aside(directory / path.name, aside / kind)
            path.chmod(0o644 if path.name in PUBLIC else 0o600)
            os.replace(path, directory / path.name)
    ledger = places.config.ledger
    _keep_rows(ledger, work / LEDGER, left_out)
    for side in SIDES:
        _aside(Path(f"{ledger}{side}"), aside)
    os.replace(work / LEDGER, ledger)
    _aside(ledgercopy.following(ledger), aside)  # last: without a ledger it is what the daemon goes on with
    return aside if aside.exists() else None


def done(places: Places) -> None:
    (places.config.state_dir / MARK).unlink(missing_ok=True)


def load_images(work: Path) -> None:
    """Gives the engine the images of the templates. Such as it has already are left alone by it."""
    if (work / IMAGES).exists():
        run("docker", "load", "--quiet", "--input", str(work / IMAGES))
        (work / IMAGES).unlink()


def _adapt(ledger: Path, schema: int) -> None:
    """Makes it one of this host. Sandboxes in use have ended, and their rows say why; those that were in nobody's hands
    never were. It is of this release, and has to see the host in order before anything is swept by it."""
    with closing(sqlite3.connect(ledger, isolation_level=None)) as db:
        try:
            db.execute("PRAGMA trusted_schema = OFF")
            fault, version = db.execute(ledgercopy.CHECK).fetchone()[0], db.execute("PRAGMA user_version").fetchone()[0]
            if (fault, version) != ("ok", schema):
                raise HostError(f"the ledger in the backup cannot be used: {fault}, schema {version}, not {schema}")
            db.execute("PRAGMA journal_mode = DELETE")
            migrate(db, ledger)
            db.execute("BEGIN IMMEDIATE")
            db.execute("DELETE FROM sandboxes WHERE state IN ('creating', 'warm')")
            db.execute(
                "UPDATE sandboxes SET state = 'gone', gone_at = ?, reason = ?, container = NULL, envs = '{}'"
                " WHERE state <> 'gone'",
                (time.time(), REASON),
            )
            db.executemany("DELETE FROM settings WHERE key = ?", [(key,) for key in (MAY_SWEEP, PENDING, DONE)])
            db.execute("COMMIT")
        except (LedgerError, sqlite3.Error) as error:
            raise HostError(f"the ledger in the backup cannot be used: {error}") from error


def _keep_rows(here: Path, ledger: Path, left_out: list[str]) -> None:
    """What the backup left out stays on this host, so its ledger goes on knowing it. Raises HostError."""
    if not left_out or not here.exists():
        return
    with closing(sqlite3.connect(ledger, isolation_level=None)) as db:
        try:
            db.execute("ATTACH ? AS here", (str(here),))
            for table in (table for kind in left_out for table in TABLES[kind]):
                db.execute(f"INSERT OR REPLACE INTO main.{table} SELECT * FROM here.{table}")
        except sqlite3.Error as error:
            raise HostError(f"{here}: what the backup left out cannot be taken over from it: {error}") from error


def _unused(path: Path) -> Path:
    """That, or with a number behind it: what an earlier restore has put aside is not written over."""
    names = (path.with_name(f"{path.name}-{number}") for number in count(2))
    return next(one for one in chain([path], names) if not one.exists())


def _aside(path: Path, directory: Path) -> None:
    if path.exists():
        for made in (directory.parent, directory):
            made.mkdir(mode=0o700, exist_ok=True)
        os.replace(path, directory / path.name)
