"""The virtual environment that `make` creates for itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploys import ROOT


def test_it_makes_one_says_so_and_refuses_a_lock_without_hashes(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("jinja2==3.1.6\n")
    command = [sys.executable, "-m", "tools.environment", str(tmp_path / "venv"), str(lock)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert f"Making {tmp_path / 'venv'}" in done.stderr
    subprocess.run([str(tmp_path / "venv/bin/python"), "-c", "import sys"], check=True)
    assert done.returncode != 0 and "hash" in done.stderr


def test_an_old_python_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from tools import environment

    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    assert environment.main("unused", "unused") == 1
    assert "needs 3.11 or newer" in capsys.readouterr().err
