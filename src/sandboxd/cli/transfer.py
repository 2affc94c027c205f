"""The verbs `upload` and `download`: what goes where, by the rules of `cp -r`; files and directories, streamed."""

import binascii
import os
import posixpath
import shutil
import stat
import sys
import tempfile
from argparse import Namespace

from sandboxd.cli import packing, place, remote, streams, unpacking
from sandboxd.cli.agent import Agent
from sandboxd.cli.control import ControlPlane
from sandboxd.cli.exits import OK, CliError
from sandboxd.cli.interrupts import terminable
from sandboxd.cli.output import write_all
from sandboxd.cli.progress import Progress
from sandboxd.cli.streams import BYTES, accepted, connected, refusable

TAR = "application/x-tar"
DEFAULT_MODE = 0o644  # what a new file gets in a sandbox


def run(options: Namespace, config: str) -> int:
    where = place.read(config)
    if options.verb == "upload" and options.source != "-" and not os.path.exists(options.source):
        raise CliError(f"{options.source}: no such file or directory here.")
    agent = Agent(where.gateway, ControlPlane(where.socket).sandbox(options.id), options.user)
    with terminable(), agent.doubted():
        (upload if options.verb == "upload" else download)(agent, options.source, options.target)
    return OK


def upload(agent: Agent, source: str, target: str) -> None:
    there = remote.entry(agent, target)
    found = remote.kind_of(there)
    into = found == "directory" or (target.endswith("/") and not found)
    if source == "-":
        if into:
            raise CliError(f"{target}: is a directory in the sandbox. Name the file that standard input becomes.")
        streams.write(agent, target, streams.pieces_of(sys.stdin.fileno()), timeout_s=None)
    elif os.path.isfile(source):
        if into:
            target = posixpath.join(target, os.path.basename(source))
            there = remote.entry(agent, target) if found else None
        upload_file(agent, source, target, there["mode"] if there else DEFAULT_MODE)
    elif not os.path.isdir(source):
        raise CliError(f"{source}: is no file and no directory. Use: docker-sandbox upload ID - REMOTE < {source}")
    elif found == "file":
        raise CliError(f"{target}: is a file in the sandbox, and a directory would take its place. Remove it first.")
    else:
        upload_directory(agent, source, posixpath.join(target, own_name(source)) if found else target)


def own_name(source: str) -> str:
    """Under which name a directory lands in another one; "" for `DIR/.` and the like: only its content does."""
    name = os.path.basename(source.rstrip("/"))
    return "" if name in ("", ".", "..") else name


def upload_file(agent: Agent, source: str, target: str, mode: int = DEFAULT_MODE) -> None:
    """`mode` is what the file in the sandbox has, or will have when it is made."""
    with open(source, "rb") as file, connected(agent) as connection:
        found = os.fstat(file.fileno())
        with Progress("uploaded", found.st_size) as progress:
            headers = agent.file_headers(Content_Type=BYTES)
            connection.begin("POST", agent.file_target(target), headers, found.st_size)
            with refusable():
                packing.send_file(connection, file, found.st_size, progress)
        written = agent.decoded(accepted(agent, connection.response()))
    wanted = stat.S_IMODE(found.st_mode) & 0o777
    if wanted != mode:
        run_quietly(agent, "/bin/chmod", [f"{wanted:o}", "--", written[0]["path"]])


def upload_directory(agent: Agent, source: str, target: str) -> None:
    with connected(agent) as connection, Progress("uploaded") as progress:
        connection.begin("POST", agent.file_target(target), agent.file_headers(Content_Type=TAR), None)
        with refusable():
            packing.send_directory(connection, source, ".", progress)
        accepted(agent, connection.response())


def download(agent: Agent, source: str, target: str) -> None:
    if target == "-":
        for piece in streams.read(agent, source):
            write_all(sys.stdout.fileno(), piece)
        return
    with connected(agent) as connection, Progress("downloaded") as progress:
        response = connection.request("GET", agent.file_target(source), agent.file_headers(Accept=f"{BYTES}, {TAR}"))
        if response.status != 200:
            accepted(agent, response)
        keep(unpacking.Body(response, progress), source, target)


def keep(body: unpacking.Body, source: str, target: str) -> None:
    """Unpacks beside the place where the copy belongs, and moves it there once all of it has arrived.

    The name of a file is the one that was asked for. The sandbox, which is not trusted, has no say in it.
    """
    into = os.path.isdir(target)
    if os.path.islink(target) and not into:
        target = os.path.realpath(target)  # as `cp` does, a link that the user names is followed
    directory = os.path.join(target, own_name(source)) if into else target  # where a directory would go
    base = directory if os.path.isdir(directory) else os.path.dirname(os.path.abspath(directory))
    if target.endswith("/") and not into:
        base = os.path.dirname(os.path.abspath(target))
    os.makedirs(base, exist_ok=True)
    work = tempfile.mkdtemp(prefix=".docker-sandbox-", dir=base)
    try:
        name = posixpath.basename(posixpath.normpath(source))
        if unpacking.is_file(body):
            unpacking.store(body, os.path.join(work, name))
        elif unpacking.unpack(body, work):
            unpacking.put_in_place(work, directory)
            return
        found = os.listdir(work)
        if found != [name] or not os.path.isfile(os.path.join(work, name)):
            raise CliError(f"refused: asked for the file {name!r}, the sandbox sent {sorted(found)!r}.")
        if target.endswith("/"):
            os.makedirs(target, exist_ok=True)
        final = os.path.join(target, name) if into or target.endswith("/") else target
        unpacking.put_in_place(os.path.join(work, name), final)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def run_quietly(agent: Agent, program: str, arguments: list[str]) -> None:
    with connected(agent) as connection:
        message = {"process": {"cmd": program, "args": arguments}, "stdin": False}
        words = b""
        for event in agent.start(connection, message):
            words += binascii.a2b_base64(event.get("data", {}).get("stderr", ""))
            if event.get("end", {}).get("exitCode"):
                raise CliError(f"{program} {' '.join(arguments)}: {words.decode(errors='replace').strip()}")
