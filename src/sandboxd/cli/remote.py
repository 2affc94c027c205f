"""What is at a path in a sandbox, as its agent says, and what to do when the agent refuses. Calls the agent only."""

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sandboxd.cli.agent import Agent, AgentError

SERVICE = "filesystem.Filesystem"
DIRECTORY = "FILE_TYPE_DIRECTORY"
KINDS = {DIRECTORY: "directory", "FILE_TYPE_FILE": "file"}


def entry(agent: Agent, path: str) -> dict[str, Any] | None:
    """The protocol's EntryInfo of what is there, of a link its own; None for nothing. Raises AgentError."""
    try:
        found: dict[str, Any] = agent.call(f"{SERVICE}/Stat", {"path": path})["entry"]
    except AgentError as error:
        if error.code == "not_found":
            return None
        raise
    return found


def kind(agent: Agent, path: str) -> str:
    """See `kind_of`. Raises AgentError."""
    return kind_of(entry(agent, path))


def kind_of(found: dict[str, Any] | None) -> str:
    """What an entry is: "directory", also by way of a link; "file" for anything else; "" for nothing."""
    return "" if found is None else "directory" if found.get("type") == DIRECTORY else "file"


def described(found: dict[str, Any]) -> dict[str, Any]:
    """An EntryInfo in plain words: what --json prints. `size` is in bytes; `mode` is octal, of a link its target's."""
    shown = {
        "name": found["name"],
        "path": found["path"],
        "type": "symlink" if found.get("isSymlink") else KINDS.get(found.get("type", ""), "other"),
        "size": int(found["size"]),
        "mode": f"{found['mode']:04o}",
        "permissions": found["permissions"],
        "owner": found["owner"],
        "group": found["group"],
        "modifiedTime": found["modifiedTime"],
    }
    return shown | ({"symlinkTarget": found["symlinkTarget"]} if found.get("symlinkTarget") else {})


@contextmanager
def about(agent: Agent, path: str) -> Iterator[None]:
    """A refusal becomes a message that names the path and says what to do."""
    try:
        yield
    except AgentError as error:
        raise AgentError(
            explained(error, agent.id, path), error.code, exit_code=error.exit_code, status=error.status
        ) from error


def explained(error: AgentError, sandbox_id: str, path: str) -> str:
    if error.status == 404:
        return absent(sandbox_id, path)
    message = str(error)
    if path not in message and error.status != 502:  # that one is the gateway's, and about the whole sandbox
        message = f"{path}: {message}"
    if error.status == 401 and "username" in message:
        return f"{message}. The users of the sandbox: docker-sandbox exec {sandbox_id} 'getent passwd'"
    if error.status == 403:
        return f"{message}. As another user: --user root"
    if error.status == 507:
        return f"{message}. What fills it: docker-sandbox exec {sandbox_id} 'df -h; du -xd1 /code'"
    return message


def absent(sandbox_id: str, path: str) -> str:
    """The message for a path at which there is nothing."""
    import shlex  # only here: most commands never need it

    parent = shlex.quote(posixpath.dirname(path.rstrip("/")) or ("/" if path.startswith("/") else "."))
    return f"{path}: nothing is there in the sandbox. Look with: docker-sandbox files ls {sandbox_id} {parent}"
