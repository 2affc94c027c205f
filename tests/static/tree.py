"""The files of the project, the programs that check them, and how to run one."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def files() -> tuple[str, ...]:
    """All files of the project, relative to its root, as git sees them: tracked, or new and not ignored."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return tuple(sorted(path for path in set(found.split("\0")) if path and (ROOT / path).is_file()))


def named(*patterns: str) -> list[str]:
    """The files whose path matches one of the patterns, such as `*.yml`."""
    return [path for path in files() if any(Path(path).match(pattern) for pattern in patterns)]


def first_line(path: str) -> str:
    with open(ROOT / path, "rb") as file:
        return file.readline(200).decode(errors="replace")


def tool(name: str) -> str:
    """The program's path. A check that cannot run has failed."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.fail(f"{name} is not installed: make the environment anew with `make test-fast`", pytrace=False)
    return found


def check(command: list[str], stdin: str | None = None) -> None:
    """Run a checker in the project's root; what it says is the failure. It must say nothing.

    How long it may take is for pytest to say: mypy without its cache, on a busy machine, takes minutes.
    """
    done = subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).strip()
    if done.returncode or said:
        pytest.fail(f"{said or 'no output'}\n(exit status {done.returncode} of: {' '.join(command)})", pytrace=False)
