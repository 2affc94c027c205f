"""The verbs `files read`, `files write` and `files edit`: the content of one file of a sandbox."""

import os
import sys
from argparse import Namespace

from sandboxd.cli import place, printing, streams
from sandboxd.cli.agent import Agent, AgentError
from sandboxd.cli.control import ControlPlane
from sandboxd.cli.exits import OK, USAGE, CliError
from sandboxd.cli.output import write_all
from sandboxd.cli.remote import about

EDIT_MAX_BYTES = 64_000_000  # an edit holds the file in memory, and the sandbox says how large it is
UNTOUCHED = (400, 401, 403, 404)  # the agent refused before it opened the file


def run(options: Namespace, config: str) -> int:
    if options.verb == "files edit" and not options.old:
        raise CliError("--old is empty: give the text that is to be replaced.", USAGE)
    if options.verb == "files edit" and options.old == options.new:
        raise CliError("--old and --new are the same: there is nothing to change.", USAGE)
    where = place.read(config)
    agent = Agent(where.gateway, ControlPlane(where.socket).sandbox(options.id), options.user)
    with agent.doubted(), about(agent, options.path):
        return ACTIONS[options.verb](options, agent)


def read(options: Namespace, agent: Agent) -> int:
    for piece in streams.read(agent, options.path):
        write_all(sys.stdout.fileno(), piece)
    return OK


def write(options: Namespace, agent: Agent) -> int:
    if options.path.endswith("/"):
        raise CliError(f"{options.path}: names a directory. Add the name of the file.")
    if options.content is None:
        written = streams.write(agent, options.path, streams.pieces_of(sys.stdin.fileno()), timeout_s=None)
    else:
        written = streams.write(agent, options.path, [os.fsencode(options.content)])
    printing.show(options, {"path": written["path"]}, lambda: "")
    return OK


def edit(options: Namespace, agent: Agent) -> int:
    old, new = os.fsencode(options.old), os.fsencode(options.new)
    before = whole(agent, options.path)
    count = before.count(old)
    if count == 0:
        look = f"Look with: docker-sandbox files read {agent.id} {options.path}"
        raise CliError(f"{options.path}: the text of --old is not in it. It must be the same to the last space. {look}")
    if count > 1 and not options.all:
        more = "Give more of what surrounds it, so that it is there once, or --all."
        raise CliError(f"{options.path}: the text of --old is in it {count} times. {more}")
    replace(agent, options.path, before, before.replace(old, new))
    printing.show(options, {"replaced": count}, lambda: f"replaced {count}")
    return OK


def whole(agent: Agent, path: str) -> bytes:
    """The content of a file. Raises CliError when that is more than EDIT_MAX_BYTES."""
    content = bytearray()
    for piece in streams.read(agent, path):
        content += piece
        if len(content) > EDIT_MAX_BYTES:
            raise CliError(
                f"{path}: is larger than {printing.size(EDIT_MAX_BYTES)}. Use: docker-sandbox exec ID 'sed ...'"
            )
    return bytes(content)


def replace(agent: Agent, path: str, before: bytes, after: bytes) -> None:
    """Written in place, so owner, mode and links stay. When that fails half-way, what was there is put back."""
    try:
        streams.write(agent, path, slices(after))
    except CliError as error:
        if isinstance(error, AgentError) and error.status in UNTOUCHED:
            raise
        try:
            streams.write(agent, path, slices(before))
        except CliError as second:
            why = f"{str(error).rstrip('.')}; what was there could not be put back: {str(second).rstrip('.')}"
            raise CliError(f"{path}: {why}. The file is damaged.") from error
        raise


def slices(content: bytes) -> list[bytes]:
    return [content[at : at + streams.PIECE_BYTES] for at in range(0, len(content), streams.PIECE_BYTES)]


ACTIONS = {"files read": read, "files write": write, "files edit": edit}
