"""Where on a host the parts of a backup are, and the programs that are asked about them. Reads the configuration."""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sandboxd import description
from sandboxd.backup import FILES
from sandboxd.config import Config
from sandboxd.errors import HostError

TIMEOUT_S = 3600  # of `docker save` and `load`, which move gigabytes


@dataclass(frozen=True)
class Places:
    """Of the host of this configuration."""

    config: Config

    @property
    def etc(self) -> Path:
        return self.config.secrets_dir.parent

    def directories(self) -> dict[str, Path]:
        """The directories that are in a backup, by their name there."""
        state = self.config.state_dir
        return {
            "secrets": self.config.secrets_dir,
            "ca": self.etc / "ca",
            "acme": state / "acme",
            "volumes": state / "volumes",
            "snapshots": state / "snapshots",
        }

    def files(self, kind: str) -> list[Path]:
        """The plain files of one of those, by name."""
        directory = self.directories()[kind]
        found = directory.iterdir() if directory.is_dir() else ()
        return sorted(path for path in found if path.is_file() and not path.is_symlink())

    def vital(self) -> dict[str, Path]:
        """The files without which the host would be another one, by their names in a backup.

        Of ACME only the accounts with their certificates: beside them Traefik writes its log. A file with a name that
        no part of us gives, such as an editor's, is nobody's.
        """
        found = {f"{kind}/{path.name}": path for kind in ("secrets", "ca", "acme") for path in self.files(kind)}
        return {
            name: path
            for name, path in found.items()
            if re.fullmatch(FILES, path.name) and (path.suffix == ".json" or not name.startswith("acme/"))
        }


def run(*command: str) -> str:
    """The output of a program. Raises HostError with what it said."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"{' '.join(command)}: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        raise HostError(f"{' '.join(command)}: {said or f'exit code {done.returncode}'}")
    return done.stdout.decode(errors="replace")


def userns_uid() -> int:
    """The uid on the host that is root in sandboxes: files on disks belong to it and those after it."""
    info: dict[str, Any] = json.loads(run("docker", "info", "--format", "{{json .}}"))
    return description.base_uid(info)


def image_bytes(images: list[str]) -> int:
    """About how much they take together; layers that they share count once for each. Raises HostError."""
    if not images:
        return 0
    try:
        sizes = run("docker", "image", "inspect", "--format", "{{.Size}}", *images).split()
    except HostError as error:
        raise HostError(
            f"{error}. If the image of a template is gone, remove that template (docker-sandbox template rm NAME), or"
            " leave templates out with --without."
        ) from error
    return sum(int(one) for one in sizes)
