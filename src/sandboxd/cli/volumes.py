"""The verbs `volume ls`, `rm`, `export`, `import`.

An archive is made and read by the agent of a throwaway sandbox that has the volume; here its bytes are only passed on.
"""

import os
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from sandboxd.cli import place, printing, streams
from sandboxd.cli.agent import Agent
from sandboxd.cli.control import ControlPlane
from sandboxd.cli.exits import NOT_FOUND, OK, CliError
from sandboxd.cli.http1 import quote
from sandboxd.cli.interrupts import FORWARDED, terminable
from sandboxd.cli.output import write_all
from sandboxd.cli.progress import Progress
from sandboxd.cli.remote import SERVICE
from sandboxd.cli.several import each

CODE = "/code"
READER = "root"  # reads all files, whoever owns them
TAR = "application/x-tar"
LIFE_S = 6 * 3600.0  # of the throwaway sandbox, should we be killed before we can remove it
MB = 1024 * 1024


def run(options: Namespace, config: str) -> int:
    return ACTIONS[options.verb](options, config)


def ls(options: Namespace, config: str) -> int:
    rows = listed(ControlPlane(place.read(config).socket))
    printing.show(options, rows, lambda: volume_table(rows, time.time()))
    return OK


def rm(options: Namespace, config: str) -> int:
    """Every name is tried; the exit code is that of the first failure."""
    control = ControlPlane(place.read(config).socket)
    removed, code = each(options.names, lambda name: control.call("DELETE", f"/volumes/{quote(name)}"))
    printing.show(options, {"removed": removed}, lambda: "")
    return code


def export(options: Namespace, config: str) -> int:
    where = place.read(config)
    control = ControlPlane(where.socket)
    if options.file == "-" and sys.stdout.isatty():
        raise CliError("an archive is no text for a terminal. Name a file, or: docker-sandbox volume export NAME - >")
    if found(control, options.name) is None:
        raise CliError(f"volume {options.name!r} not found. Those there are: docker-sandbox volume ls", NOT_FOUND)
    with terminable(), target(options.file) as fd, borrowed(control, where.gateway, options.name, 0, READER) as agent:
        receive(agent, fd)
    return OK


def import_(options: Namespace, config: str) -> int:
    where = place.read(config)
    control = ControlPlane(where.socket)
    with source(options.file) as file:
        before = found(control, options.name)
        if before and options.size:
            raise CliError(
                f"volume {options.name!r} is there already, with {before['sizeMB']} MB: leave out --size."
                " A volume grows with the sandbox that has it: docker-sandbox resize."
            )
        with terminable(), borrowed(control, where.gateway, options.name, options.size, "", before is None) as agent:
            if not options.force and agent.call(f"{SERVICE}/ListDir", {"path": CODE}).get("entries"):
                raise CliError(
                    f"volume {options.name!r} has files. With --force the archive goes over them: those of the same"
                    " name are replaced. Look first: docker-sandbox volume export."
                )
            send(agent, file)
    return OK


def listed(control: ControlPlane) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = control.get("/volumes")
    return rows


def found(control: ControlPlane, name: str) -> dict[str, Any] | None:
    return next((row for row in listed(control) if row["name"] == name), None)


@contextmanager
def borrowed(
    control: ControlPlane, gateway: tuple[str, int], volume: str, size_mb: int, user: str, new: bool = False
) -> Iterator[Agent]:
    """The agent, as that user, of a sandbox that has the volume; it is removed in any case. Raises CliError.

    A signal that comes while it is made waits: only the answer says what must be removed. A `new` volume goes, too,
    when the block fails: one that holds half an archive would be taken for the whole.
    """
    wanted = {"volume": volume, "diskMB": size_mb, "timeout": LIFE_S, "name": f"copies volume {volume}"}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    try:
        made = control.post("/v2/sandboxes", wanted)
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            yield Agent(gateway, {**made, "state": "running"}, user)
        except BaseException:
            discard(control, f"/sandboxes/{made['sandboxID']}", f"docker-sandbox kill {made['sandboxID']}")
            if new:
                discard(control, f"/volumes/{quote(volume)}", f"docker-sandbox volume rm {volume}")
            raise
        discard(control, f"/sandboxes/{made['sandboxID']}", f"docker-sandbox kill {made['sandboxID']}")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def discard(control: ControlPlane, target: str, remedy: str) -> None:
    """Removes what we have made. A failure must not hide the one that we come from."""
    try:
        control.call("DELETE", target)
    except CliError as error:
        printing.warn(f"{error} Remove it by hand: {remedy}")


def receive(agent: Agent, fd: int) -> None:
    with streams.connected(agent) as connection, Progress("exported") as progress:
        response = connection.request("GET", agent.file_target(CODE), agent.file_headers(Accept=TAR))
        if response.status != 200:
            streams.accepted(agent, response)
        while piece := response.read(streams.PIECE_BYTES):
            write_all(fd, piece)
            progress.add(len(piece))


def send(agent: Agent, file: BinaryIO) -> None:
    size = os.fstat(file.fileno()).st_size
    with streams.connected(agent) as connection, Progress("imported", size) as progress:
        connection.socket.settimeout(None)  # whoever feeds us may take his time
        connection.begin("POST", agent.file_target(CODE), agent.file_headers(Content_Type=TAR), None)
        with streams.refusable():
            for piece in streams.pieces_of(file.fileno()):
                connection.send_chunk(piece)
                progress.add(len(piece))
                if connection.answered():
                    raise streams.Refused
            connection.end_chunks()
        streams.accepted(agent, connection.response())


@contextmanager
def source(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
    else:
        with open(file, "rb") as opened:
            yield opened


@contextmanager
def target(file: str) -> Iterator[int]:
    """Where the archive is written. A file gets its name once all of it is there; devices and pipes are written to."""
    if file == "-":
        yield sys.stdout.fileno()
        return
    if os.path.exists(file) and not os.path.isfile(file):
        if os.path.isdir(file):
            raise CliError(f"{file}: is a directory. Name the file that becomes the archive.")
        with open(file, "wb", buffering=0) as opened:
            yield opened.fileno()
        return
    final = os.path.realpath(file)  # a link that the user names is followed
    temporary = f"{final}.part-{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        yield fd
        os.fchmod(fd, os.stat(final).st_mode & 0o777 if os.path.exists(final) else 0o600)
        os.replace(temporary, final)
    finally:
        os.close(fd)
        if os.path.exists(temporary):
            os.unlink(temporary)


def volume_table(rows: list[dict[str, Any]], now: float) -> str:
    if not rows:
        return "no volumes; make one with: docker-sandbox init --volume NAME"
    elsewhere = any(row.get("shared") or row.get("node") for row in rows)
    lines = [
        (
            row["name"],
            printing.size(row["sizeMB"] * MB),
            "-" if row["usedBytes"] is None else printing.size(row["usedBytes"]),
            row["sandboxID"] or "-",
            printing.span(now - printing.seconds(row["createdAt"])),
            *([_where(row)] if elsewhere else []),
        )
        for row in rows
    ]
    return printing.table(("NAME", "SIZE", "USED", "SANDBOX", "AGE", *(["WHERE"] if elsewhere else [])), lines)


def _where(row: dict[str, Any]) -> str:
    """The host that has it; of one on shared storage also while none has."""
    node = row.get("node", "")
    if row.get("shared"):
        return f"shared, on {node}" if node else "shared"
    return node or "this host"


ACTIONS = {"volume ls": ls, "volume rm": rm, "volume export": export, "volume import": import_}
