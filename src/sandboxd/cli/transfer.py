"""The verbs `upload` and `download`: what goes where, by the rules of `cp -r`; files and directories, streamed."""

import binascii
import os
import posixpath
import shutil
import stat
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from sandboxd.cli import packing, place, unpacking
from sandboxd.cli.agent import Agent, AgentError
from sandboxd.cli.control import ControlPlane
from sandboxd.cli.exits import OK, CliError
from sandboxd.cli.http1 import Connection, ConnectionBroken, Response
from sandboxd.cli.interrupts import terminable
from sandboxd.cli.output import write_all
from sandboxd.cli.progress import Progress

PIECE_BYTES = 256 * 1024
TAR, BYTES = "application/x-tar", "application/octet-stream"
DEFAULT_MODE = 0o644  # what a new file gets in a sandbox


def run(options: Namespace, config: str) -> int:
    where = place.read(config)
    if options.verb == "upload" and options.source != "-" and not os.path.exists(options.source):
        raise CliError(f"{options.source}: no such file or directory here.")
    agent = Agent(where.gateway, ControlPlane(where.socket).sandbox(options.id), options.user)
    with terminable():
        (upload if options.verb == "upload" else download)(agent, options.source, options.target)
    return OK


def upload(agent: Agent, source: str, target: str) -> None:
    found = remote_type(agent, target)
    into = found == "directory" or (target.endswith("/") and not found)
    if source == "-":
        if into:
            raise CliError(f"{target}: is a directory in the sandbox. Name the file that standard input becomes.")
        upload_stream(agent, sys.stdin.buffer, target)
    elif os.path.isfile(source):
        upload_file(agent, source, posixpath.join(target, os.path.basename(source)) if into else target, bool(found))
    elif not os.path.isdir(source):
        raise CliError(f"{source}: is no file and no directory. Use: docker-sandbox upload ID - REMOTE < {source}")
    elif found == "file":
        raise CliError(f"{target}: is a file in the sandbox, and a directory would take its place. Remove it first.")
    else:
        upload_directory(agent, source, posixpath.join(target, own_name(source)) if found else target)


def remote_type(agent: Agent, path: str) -> str:
    """What is at that path in the sandbox: "directory", "file", or "" for nothing."""
    try:
        entry = agent.call("filesystem.Filesystem/Stat", {"path": path})["entry"]
    except AgentError as error:
        if error.code == "not_found":
            return ""
        raise
    return "directory" if entry.get("type") == "FILE_TYPE_DIRECTORY" else "file"


def own_name(source: str) -> str:
    """Under which name a directory lands in another one; "" for `DIR/.` and the like: only its content does."""
    name = os.path.basename(source.rstrip("/"))
    return "" if name in ("", ".", "..") else name


def upload_file(agent: Agent, source: str, target: str, may_exist: bool) -> None:
    with open(source, "rb") as file, connected(agent) as connection:
        found = os.fstat(file.fileno())
        with Progress("uploaded", found.st_size) as progress:
            headers = agent.file_headers(Content_Type=BYTES)
            connection.begin("POST", agent.file_target(target), headers, found.st_size)
            with refusable():
                packing.send_file(connection, file, found.st_size, progress)
        written = agent.decoded(accepted(agent, connection.response()))
    mode = stat.S_IMODE(found.st_mode) & 0o777
    if mode != DEFAULT_MODE or may_exist:
        run_quietly(agent, "/bin/chmod", [f"{mode:o}", "--", written[0]["path"]])


def upload_stream(agent: Agent, source: BinaryIO, target: str) -> None:
    with connected(agent) as connection, Progress("uploaded") as progress:
        connection.socket.settimeout(None)  # whoever feeds us may take his time
        connection.begin("POST", agent.file_target(target), agent.file_headers(Content_Type=BYTES), None)
        with refusable():
            while piece := os.read(source.fileno(), PIECE_BYTES):
                connection.send_chunk(piece)
                progress.add(len(piece))
                if connection.answered():
                    raise packing.Refused
            connection.end_chunks()
        accepted(agent, connection.response())


def upload_directory(agent: Agent, source: str, target: str) -> None:
    with connected(agent) as connection, Progress("uploaded") as progress:
        connection.begin("POST", agent.file_target(target), agent.file_headers(Content_Type=TAR), None)
        with refusable():
            packing.send_directory(connection, source, ".", progress)
        accepted(agent, connection.response())


def download(agent: Agent, source: str, target: str) -> None:
    with connected(agent) as connection, Progress("downloaded") as progress:
        accept = BYTES if target == "-" else TAR
        response = connection.request("GET", agent.file_target(source), agent.file_headers(Accept=accept))
        if response.status != 200:
            accepted(agent, response)
        if target != "-":
            keep(unpacking.Body(response, progress), source, target)
            return
        while piece := response.read(PIECE_BYTES):
            write_all(sys.stdout.fileno(), piece)
            progress.add(len(piece))


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
        if unpacking.unpack(body, work):
            unpacking.put_in_place(work, directory)
            return
        name, found = posixpath.basename(posixpath.normpath(source)), os.listdir(work)
        if found != [name] or not os.path.isfile(os.path.join(work, name)):
            raise CliError(f"refused: asked for the file {name!r}, the sandbox sent {sorted(found)!r}.")
        if target.endswith("/"):
            os.makedirs(target, exist_ok=True)
        final = os.path.join(target, name) if into or target.endswith("/") else target
        unpacking.put_in_place(os.path.join(work, name), final)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def connected(agent: Agent) -> Iterator[Connection]:
    """A connection to the agent; when it breaks, that is a CliError."""
    connection = agent.connect()
    try:
        yield connection
    except (ConnectionError, ConnectionBroken, TimeoutError) as error:
        raise agent.broken(error) from error
    finally:
        connection.close()


@contextmanager
def refusable() -> Iterator[None]:
    """Ends early when the other side has answered, or hung up, before it had all: its answer says why."""
    with suppress(packing.Refused, BrokenPipeError, ConnectionResetError):
        yield


def accepted(agent: Agent, response: Response) -> bytes:
    """The content of an answer of success. Raises AgentError for another one."""
    content = response.read_all()
    if response.status != 200:
        raise agent.refused(response.status, content)
    return content


def run_quietly(agent: Agent, program: str, arguments: list[str]) -> None:
    with connected(agent) as connection:
        message = {"process": {"cmd": program, "args": arguments}, "stdin": False}
        words = b""
        for event in agent.start(connection, message):
            words += binascii.a2b_base64(event.get("data", {}).get("stderr", ""))
            if event.get("end", {}).get("exitCode"):
                raise CliError(f"{program} {' '.join(arguments)}: {words.decode(errors='replace').strip()}")
