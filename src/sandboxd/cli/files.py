"""The verbs `files` that ask for names and not for content: ls, rm, mv, mkdir, exists, info."""

import posixpath
from argparse import Namespace
from typing import Any

from sandboxd.cli import place, printing, remote
from sandboxd.cli.agent import Agent, AgentError
from sandboxd.cli.control import ControlPlane
from sandboxd.cli.exits import FAILED, OK, CliError
from sandboxd.cli.remote import SERVICE, about


def run(options: Namespace, config: str) -> int:
    where = place.read(config)
    agent = Agent(where.gateway, ControlPlane(where.socket).sandbox(options.id), options.user)
    with agent.doubted():
        return ACTIONS[options.verb](options, agent)


def ls(options: Namespace, agent: Agent) -> int:
    """A file is listed as itself, as `ls` does."""
    with about(agent, options.path):
        try:
            found = agent.call(f"{SERVICE}/ListDir", {"path": options.path, "depth": options.depth})["entries"]
            base = posixpath.dirname(found[0]["path"]) if found else ""
        except AgentError as error:
            if error.code != "invalid_argument":
                raise
            found = [agent.call(f"{SERVICE}/Stat", {"path": options.path})["entry"]]
            base = posixpath.dirname(found[0]["path"])
    rows = [remote.described(entry) for entry in found]
    printing.show(options, rows, lambda: file_table(rows, base))
    return OK


def rm(options: Namespace, agent: Agent) -> int:
    """Every path is tried; the exit code is that of the first failure."""
    removed, code = [], OK
    for path in options.paths:
        try:
            removed.append(remove(agent, path, options.recursive))
        except CliError as error:
            printing.complain(str(error))
            code = code or error.exit_code
    printing.show(options, {"removed": removed}, lambda: "")
    return code


def remove(agent: Agent, path: str, recursive: bool) -> str:
    """Returns the whole path of what was removed. Raises CliError."""
    with about(agent, path):
        found = remote.entry(agent, path)
        if found is None:
            raise CliError(remote.absent(agent.id, path))
        shown = remote.described(found)
        if shown["type"] == "directory" and not recursive:
            raise CliError(f"{path}: is a directory. To remove it with all that is in it, add -r.")
        if not shown["path"].strip("/"):
            raise CliError(f"{path}: is the whole sandbox. To remove that: docker-sandbox kill {agent.id}")
        agent.call(f"{SERVICE}/Remove", {"path": path})
    whole: str = shown["path"]
    return whole


def mv(options: Namespace, agent: Agent) -> int:
    source, target = options.source, options.target
    with about(agent, target):
        found = remote.kind(agent, target)
    if found == "directory" or (target.endswith("/") and not found):
        target = posixpath.join(target, posixpath.basename(source.rstrip("/")))
    with about(agent, source):
        moved = remote.described(agent.call(f"{SERVICE}/Move", {"source": source, "destination": target})["entry"])
    printing.show(options, {"path": moved["path"]}, lambda: "")
    return OK


def mkdir(options: Namespace, agent: Agent) -> int:
    created = True
    with about(agent, options.path):
        try:
            agent.call(f"{SERVICE}/MakeDir", {"path": options.path})
        except AgentError as error:
            if error.code != "already_exists":
                raise
            created = False
    if not created and not options.json:
        printing.warn(f"{options.path}: exists already")
    printing.show(options, {"created": created}, lambda: "")
    return OK


def exists(options: Namespace, agent: Agent) -> int:
    with about(agent, options.path):
        try:
            there = remote.entry(agent, options.path) is not None
        except AgentError as error:
            if "not a directory" not in str(error):  # a file where the path has a directory: nothing can be below it
                raise
            there = False
    printing.show(options, {"exists": there}, lambda: "")
    return OK if there else FAILED


def info(options: Namespace, agent: Agent) -> int:
    with about(agent, options.path):
        found = remote.entry(agent, options.path)
    if found is None:
        raise CliError(remote.absent(agent.id, options.path))
    shown = remote.described(found)
    printing.show(options, shown, lambda: file_fields(shown))
    return OK


def file_table(rows: list[dict[str, Any]], base: str) -> str:
    """Names are relative to `base`. Nothing for an empty directory."""
    lines = []
    for row in rows:
        name = named(row, posixpath.relpath(row["path"], base))
        cells = (row["permissions"], row["owner"], str(row["size"]), moment(row), name)
        lines.append([printing.plain(cell) for cell in cells])
    return printing.table(("MODE", "OWNER", "SIZE", "MODIFIED", "NAME"), lines) if lines else ""


def file_fields(row: dict[str, Any]) -> str:
    size = f"{row['size']} B" if row["size"] < 1000 else f"{row['size']} B ({printing.size(row['size'])})"
    lines = {
        "path": named(row, row["path"]),
        "type": row["type"],
        "size": size,
        "mode": f"{row['mode']} ({row['permissions']})",
        "owner": f"{row['owner']}:{row['group']}",
        "modified": moment(row),
    }
    return printing.fields([(name, printing.plain(value)) for name, value in lines.items()])


def named(row: dict[str, Any], name: str) -> str:
    return f"{name} -> {row['symlinkTarget']}" if "symlinkTarget" in row else name


def moment(row: dict[str, Any]) -> str:
    """To the second; the agent says nanoseconds."""
    return f"{row['modifiedTime'][:19]}Z"


ACTIONS = {
    "files ls": ls,
    "files rm": rm,
    "files mv": mv,
    "files mkdir": mkdir,
    "files exists": exists,
    "files info": info,
}
