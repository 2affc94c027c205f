"""The directory of a sandbox on the host, which it sees read-only at /run/sandbox, and what the agent reads there.

Owned by the container's root (the base uid of the user namespace), readable by nobody else inside.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sandboxd.errors import HostError
from sandboxd.tokens import agent_token

AGENT_FILE = "agent.json"
USER, WORKDIR = "user", "/code"
VITE = "__VITE_ADDITIONAL_SERVER_ALLOWED_HOSTS"


def agent_text(
    sandbox_id: str, template: str, envs: dict[str, str], domain: str, key: bytes, workdir: str = WORKDIR
) -> str:
    """What the agent reads: who it is, its token, and the environment of everything that it starts.

    Vite answers only to hosts that it knows, which the URLs of a sandbox are not unless its settings, or this variable
    of the environment, name them (a leading dot: all below that domain). `workdir` "" is the user's home.
    """
    values = {
        "sandboxID": sandbox_id,
        "templateID": template,
        "accessToken": agent_token(key, sandbox_id),
        "envs": {VITE: f".{domain}", **envs},
        "user": USER,
        "workdir": workdir,
    }
    return json.dumps(values)


class SlotDirs:
    """All slot directories below `<state_dir>/sandboxes`. Every method raises HostError when the disk refuses."""

    def __init__(self, state_dir: Path) -> None:
        self._root = state_dir / "sandboxes"

    def path(self, slot: str) -> Path:
        return self._root / slot

    def create(self, slot: str, owner: int) -> None:
        path = self.path(slot)
        with _told(path):
            # The runtime enters the user namespace before it mounts, so that uid must be able to pass through.
            self._root.mkdir(mode=0o711, parents=True, exist_ok=True)
            path.mkdir(mode=0o500)
            os.chown(path, owner, owner)

    def write(self, slot: str, text: str) -> None:
        """Writes agent.json, or replaces it in one step: the agent sees the old file or the new one."""
        path = self.path(slot)
        with _told(path):
            owner = path.stat()
            temporary = path / f".{AGENT_FILE}.new"
            temporary.unlink(missing_ok=True)
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "w") as file:
                file.write(text)
            os.chown(temporary, owner.st_uid, owner.st_gid)
            os.replace(temporary, path / AGENT_FILE)

    def read(self, slot: str) -> str:
        """The present agent.json, empty when there is none. Bytes that are no text come as U+FFFD."""
        path = self.path(slot) / AGENT_FILE
        with _told(path):
            return path.read_text(errors="replace") if path.exists() else ""

    def slots(self) -> dict[str, float]:
        """Of which slots there is a directory, and when it was touched last, in Unix seconds."""
        with _told(self._root):
            found = {}
            for path in self._root.iterdir() if self._root.exists() else ():
                with suppress(FileNotFoundError):  # removed since the directory was read
                    found[path.name] = path.lstat().st_mtime
            return found

    def remove(self, slot: str) -> None:
        path = self.path(slot)
        with _told(path):
            if path.exists():
                shutil.rmtree(path)


def let_pass(directory: Path, group: int) -> None:
    """Lets a group of the host pass through a directory, and nobody else: gVisor looks for what it mounts as the root
    of the user namespace, while other runtimes have opened it before they enter. Raises HostError."""
    with _told(directory):
        os.chown(directory, -1, group)
        directory.chmod(0o710)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HostError(f"{error.filename or path}: {error.strerror}. Is the disk full? Look with: df -h") from error
