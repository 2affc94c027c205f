"""The verbs `backup` and `restore`: by root, on the host itself. They read its files, and not what the API tells."""

import glob
import os
import pwd
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from sandboxd import config as configuration
from sandboxd.audit import Actor, Audit, acting
from sandboxd.auditlog import AuditLog
from sandboxd.backup import IMAGES, making, reading, restoring
from sandboxd.backup.places import Places, userns_uid
from sandboxd.backup.services import Services, occupants
from sandboxd.cli import place, printing
from sandboxd.cli.control import ControlPlane, sandbox_path
from sandboxd.cli.exits import NOT_FOUND, OK, USAGE, CliError
from sandboxd.cli.interrupts import terminable
from sandboxd.cli.progress import Progress
from sandboxd.errors import SandboxdError

HALF_DONE = "The restore is half done, and sandboxd may be stopped. Run the same command again."


def run(options: Namespace, config: str) -> int:
    try:
        places = Places(configuration.load(Path(config)))
        return (backup if options.verb == "backup" else restore)(options, places, config)
    except (SandboxdError, EOFError) as error:
        if isinstance(error, CliError):
            raise
        raise CliError(str(error)) from error


def backup(options: Namespace, places: Places, config: str) -> int:
    if options.file == "-" and options.json:
        raise CliError("--json and the backup cannot both go to standard output. Name a file.", USAGE)
    if options.file == "-" and sys.stdout.isatty():
        raise CliError("a backup is no text for a terminal. Name a file, or: docker-sandbox backup - >")
    permitted(places)
    without = tuple(sorted(set(options.without)))
    with (
        terminable(),
        recorded(places, "backup", options.file),
        target(options.file) as stream,
        Progress("backed up") as progress,
    ):
        made = making.make(places, without, progress.add, stream)
    members = made["members"]
    moving = [one["name"] for one in members if one.get("still") is False]
    for name in moving:
        printing.warn(f"{name} was written to while it was copied, for it took too long: it is as after a power cut")
    summary = summary_of({key: made[key] for key in made if key != "members"}, members)
    printing.show(options, summary, lambda: "" if options.file == "-" else told("backed up", options.file, summary))
    return OK


def restore(options: Namespace, places: Places, config: str) -> int:
    if options.check:
        with source(options.file) as (stream, size), Progress("checked", size) as progress:
            content = reading.read(stream, progress.add, lambda head: None)
        summary = summary_of(content.head, list(content.members.values()))
        printing.show(options, summary, lambda: told("whole and undamaged:", options.file, summary))
        return OK
    permitted(places)
    uid = userns_uid()
    check_free(places, options.force)
    services = Services(places, Path(place.read_browser(config).scripts).parent / "internal-certificate")
    with (
        terminable(),
        recorded(places, "restore", options.file),
        restoring.working(places) as work,
        source(options.file) as (stream, size),
    ):
        with Progress("read", size) as progress:
            content = restoring.unpack(places, stream, progress.add, uid, options.force, work)
        restoring.load_images(work)  # the last that may well fail, and nobody misses anything then
        services.start_daemon()
        check_free(places, options.force)  # again: reading takes its time
        end_sandboxes(places)
        before = restoring.mark(places, services.stop())
        try:
            aside = restoring.put(places, work, content)
            services.start(before)
        except (SandboxdError, OSError) as error:
            raise CliError(f"{error}\n{HALF_DONE}") from error
        except BaseException:
            printing.warn(HALF_DONE)
            raise
        restoring.done(places)
    summary = {**summary_of(content.head, list(content.members.values())), "before": str(aside) if aside else None}
    printing.show(options, summary, lambda: told("restored from", options.file, summary))
    if aside and not options.json:
        printing.say(f"What was here before is in {aside}. Remove it when nobody misses it: it holds secrets.")
    return OK


def check_free(places: Places, force: bool) -> None:
    """Raises CliError for a host that people use, unless that was said, or a restore of it is half done."""
    found = {what: names for what, names in occupants(places.config.ledger).items() if names}
    if found and not force and not restoring.marked(places):
        shown = "; ".join(f"{what}: {' '.join(names[:5])}{' ...' * (len(names) > 5)}" for what, names in found.items())
        raise CliError(
            f"this host is in use ({shown}). A restore ends its sandboxes, and puts the rest aside. Nothing was"
            " changed. If that is meant: --force."
        )


def end_sandboxes(places: Places) -> None:
    """All that are in use, and the members of pools; in a fleet those of this host. Raises CliError."""
    control = ControlPlane(str(places.config.own_socket))
    for sandbox_id in occupants(places.config.ledger)["sandboxes"]:
        try:
            control.call("DELETE", sandbox_path(sandbox_id))
        except CliError as error:
            if error.exit_code != NOT_FOUND:  # else it has ended by itself
                raise
    # Its unit does so as well when it is stopped, but after an interrupted restore that is stopped already.
    control.post("/pool", {"enabled": False})


def permitted(places: Places) -> None:
    """Raises CliError unless we may read what only root reads."""
    if not os.access(places.config.secrets_dir, os.R_OK | os.X_OK) or not os.access(places.config.state_dir, os.W_OK):
        raise CliError(f"{places.config.secrets_dir}: permission denied. Only root makes and restores backups: sudo.")


@contextmanager
def recorded(places: Places, action: str, file: str) -> Iterator[None]:
    """In the audit log: a backup has all secrets of the host."""
    log = AuditLog(places.config.audit_log)
    user = Actor("user", str(os.getuid()), user_name(os.getuid()))
    try:
        with acting(user), Audit(log, time.time, lambda action, error: None).doing(action, detail=file):
            yield
    finally:
        log.close()


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


@contextmanager
def source(file: str) -> Iterator[tuple[BinaryIO, int]]:
    """The backup to read, and its size; 0 for one that is not known."""
    if file == "-":
        yield sys.stdin.buffer, 0
        return
    with open(file, "rb") as opened:
        yield opened, os.fstat(opened.fileno()).st_size


@contextmanager
def target(file: str) -> Iterator[BinaryIO]:
    """Where the backup is written: a file that only we read, and that has its name once all of it is there."""
    if file == "-":
        with open(sys.stdout.fileno(), "wb", closefd=False) as opened:
            yield opened
        return
    if os.path.exists(file) and not os.path.isfile(file):
        raise CliError(f"{file}: is no plain file. Name the file that becomes the backup, or - for standard output.")
    final = os.path.realpath(file)
    remove_left_over(final)
    temporary = f"{final}.part-{os.getpid()}"
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as opened:
            yield opened
            opened.flush()
            os.fsync(opened.fileno())
        os.replace(temporary, final)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def remove_left_over(final: str) -> None:
    """What one that was killed had written by then: nobody can restore it, and it holds secrets."""
    for path in Path(final).parent.glob(f"{glob.escape(Path(final).name)}.part-*"):
        pid = path.suffix.removeprefix(".part-")
        if pid.isdecimal() and not os.path.exists(f"/proc/{pid}"):
            path.unlink(missing_ok=True)


def summary_of(head: dict[str, Any], members: list[dict[str, Any]]) -> dict[str, Any]:
    """What is in a backup, for people and programs."""
    names = [str(one["name"]) for one in members]

    def disks(kind: str) -> list[str]:
        return [name.partition("/")[2].removesuffix(".img") for name in names if name.startswith(f"{kind}/")]

    return {
        **head,
        "size": sum(int(one["size"]) for one in members),
        "volumes": disks("volumes"),
        "snapshots": disks("snapshots"),
        "images": IMAGES in names,
        "secrets": sum(name.startswith("secrets/") for name in names),
    }


def told(what: str, file: str, summary: dict[str, Any]) -> str:
    without = f", without {' and '.join(summary['without'])}" if summary["without"] else ""
    names = f" ({' '.join(summary['volumes'])})" if summary["volumes"] else ""
    volumes = f"{len(summary['volumes'])} volumes{names}"
    return (
        f"{what} {file}: {summary['domain']} of {summary['made']}, release {summary['version']}"
        f" (schema {summary['schema']}); {volumes}, {len(summary['snapshots'])} snapshots,"
        f" {'images of templates' if summary['images'] else 'no images'}{without}"
    )
