"""The one place that runs `docker` and other programs. Knows nothing of labs."""

import json
import logging
import subprocess
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from lab.errors import LabError, NoEngine

log = logging.getLogger("lab")

NO_ANSWER = ("cannot connect to the docker daemon", "failed to connect to the docker api")
REMEDY = "run: python3 -m lab up   which starts an engine where it may"


def run(
    command: Sequence[str],
    *,
    stdin: str | None = None,
    check: bool = True,
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `command` to its end and return what it printed.

    With `check`, a failure raises LabError with the command and the end of what it said on stderr; NoEngine when no
    Docker engine answered it.
    """
    log.debug("run: %s", " ".join(command))
    try:
        done = subprocess.run(
            list(command), input=stdin, capture_output=True, text=True, check=False, env=env, timeout=timeout_s
        )
    except FileNotFoundError:
        if command[0] == "docker":
            raise NoEngine("Docker is not installed", REMEDY) from None
        raise LabError(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{' '.join(command[:3])} ... did not end within {timeout_s} s") from None
    if check and done.returncode != 0:
        said = tail(done.stderr or done.stdout)
        if command[0] == "docker" and any(words in said.lower() for words in NO_ANSWER):
            raise NoEngine(f"no Docker engine answers:\n{said}", REMEDY)
        shown = textwrap.shorten(" ".join(command), 160, placeholder=" ...")
        raise LabError(f"{shown} failed with exit code {done.returncode}:\n{said}")
    return done


def tail(text: str, lines: int = 20) -> str:
    """Return the last `lines` lines of `text`, indented."""
    return "\n".join(f"  {line}" for line in text.strip().splitlines()[-lines:])


def docker(*arguments: str, stdin: str | None = None, check: bool = True) -> str:
    """Run `docker` and return its standard output without the last newline."""
    return run(["docker", *arguments], stdin=stdin, check=check).stdout.strip()


def info() -> dict[str, Any]:
    """Return what the engine says about itself; LabError when none answers."""
    return dict(json.loads(docker("info", "--format", "{{json .}}")))


def inspect_containers(*labels: str) -> list[dict[str, Any]]:
    """Return `docker inspect` of every container, running or not, that carries all `labels` (`key` or `key=value`)."""
    filters = [word for label in labels for word in ("--filter", f"label={label}")]
    ids = docker("ps", "--all", "--quiet", *filters).split()
    if not ids:
        return []
    return list(json.loads(docker("inspect", *ids)))


def volumes(*labels: str) -> list[str]:
    """Return the names of the volumes that carry all `labels` (`key` or `key=value`), whether used or not."""
    return docker("volume", "ls", "--quiet", *(f"--filter=label={label}" for label in labels)).split()


def image_exists(tag: str) -> bool:
    """Say whether the engine has the image `tag`."""
    return run(["docker", "image", "inspect", "--format", "{{.Id}}", tag], check=False).returncode == 0
