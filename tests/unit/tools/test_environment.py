"""The virtual environment that `make` creates for itself. That it is made and works shows in every test that runs."""

import sys

import pytest

from tools import environment


def test_only_what_the_lock_holds_by_hash_is_installed() -> None:
    assert environment.install_command(".venv", "requirements/dev.txt") == [
        *[".venv/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"],
        *["--require-hashes", "--requirement", "requirements/dev.txt"],
    ]


def test_an_old_python_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    assert environment.main("unused", "unused") == 1
    assert "needs 3.11 or newer" in capsys.readouterr().err
