"""Who may deploy, by real processes: a shell by the name of sshd stands for the one that serves a connection."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploys.turns import Turn


@pytest.fixture
def sshd(tmp_path: Path) -> Path:
    path = tmp_path / "sshd-session"
    os.symlink("/bin/bash", path)
    return path


@contextmanager
def connection(sshd: Path) -> Iterator[subprocess.Popen[str]]:
    """Runs each line that it is sent, and says `done` after what that has printed."""
    loop = 'while read -r line; do bash -c "$line; true"; echo done; done'
    with subprocess.Popen([sshd, "-c", loop], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def asked(process: subprocess.Popen[str], file: Path, wrapper: str = "") -> str:
    """What the fact says over a connection. `wrapper` stands between, as sudo does."""
    assert process.stdin is not None and process.stdout is not None
    script = file.with_name("command.sh")
    script.write_text(Turn().command(str(file)))
    process.stdin.write(f"{wrapper} sh {script}\n")
    process.stdin.flush()
    lines = list(iter(process.stdout.readline, "done\n"))
    return Turn().process(lines)


def test_one_has_the_turn_until_its_connection_ends(sshd: Path, tmp_path: Path) -> None:
    file = tmp_path / "turn"
    with connection(sshd) as second:
        with connection(sshd) as first:
            assert asked(first, file) == asked(first, file, "env") == ""
            holder, _, since = asked(second, file).partition(" ")
            assert holder == str(first.pid) and since.endswith("Z")
        assert asked(second, file) == ""
        with connection(sshd) as third:
            assert asked(third, file).startswith(f"{second.pid} ")


def test_another_process_with_the_same_number_does_not_have_it(sshd: Path, tmp_path: Path) -> None:
    file = tmp_path / "turn"
    file.write_text(f"{os.getpid()} 1 2026-01-01T00:00:00Z\n")
    with connection(sshd) as first:
        assert asked(first, file) == ""


def test_what_no_sshd_serves_has_no_turn(tmp_path: Path) -> None:
    file = tmp_path / "turn"
    run = subprocess.run(
        ["setsid", "--fork", "--wait", "sh", "-c", Turn().command(str(file))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, "")
