"""The virtual environment that `make` creates for itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploys import ROOT


@pytest.fixture
def made(tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """What the program says when it makes an environment from an empty lock file."""
    lock = tmp_path / "lock.txt"
    lock.write_text("# nothing\n")
    command = [sys.executable, "-m", "tools.environment", str(tmp_path / "venv"), str(lock)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_it_makes_one_and_says_so(made: subprocess.CompletedProcess[str], tmp_path: Path) -> None:
    assert made.returncode == 0, made.stderr
    assert f"Making {tmp_path / 'venv'}" in made.stderr
    subprocess.run([str(tmp_path / "venv/bin/python"), "-c", "import sys"], check=True)


def test_a_lock_without_hashes_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("jinja2==3.1.6\n")
    command = [sys.executable, "-m", "tools.environment", str(tmp_path / "venv"), str(lock)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "hash" in done.stderr


def test_an_old_python_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from tools import environment

    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    assert environment.main("unused", "unused") == 1
    assert "needs 3.11 or newer" in capsys.readouterr().err
