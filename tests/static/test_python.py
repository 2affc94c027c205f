"""mypy and ruff over all Python. mypy is one run over everything, and first, since it takes longest."""

from __future__ import annotations

import functools
import json
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from tests.static.tree import ROOT, check, named, tool

PYTHON = named("*.py")


def test_mypy() -> None:
    """Strict, as pyproject.toml says; its cache makes the second run short."""
    check([tool("mypy"), "--no-error-summary"])


@functools.cache
def complaints() -> dict[str, list[str]]:
    """What `ruff check` says, by file."""
    command = [tool("ruff"), "check", "--output-format", "json", "--exit-zero", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(done.stderr, pytrace=False)
    found = defaultdict(list)
    for entry in json.loads(done.stdout):
        path = str(Path(entry["filename"]).relative_to(ROOT))
        found[path].append(f"{path}:{entry['location']['row']}: {entry['code']} {entry['message']}")
    return found


@functools.cache
def unformatted() -> dict[str, str]:
    """The files that `ruff format` would change."""
    command = [tool("ruff"), "format", "--check", "--output-format", "concise", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        pytest.fail(done.stderr, pytrace=False)
    return {
        path: line
        for path in PYTHON
        for line in done.stdout.splitlines()
        if line.startswith((f"{path}:", f"Would reformat: {path}"))
    }


@pytest.mark.parametrize("path", PYTHON)
def test_ruff(path: str) -> None:
    if found := complaints().get(path):
        pytest.fail("\n".join(found), pytrace=False)


@pytest.mark.parametrize("path", PYTHON)
def test_format(path: str) -> None:
    if path in unformatted():
        pytest.fail(f"ruff format {path}", pytrace=False)
