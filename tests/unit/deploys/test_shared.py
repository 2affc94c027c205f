"""The mark on shared storage: made once, by one, and only where something is mounted. The shell's part is run."""

import os
import subprocess
from pathlib import Path

import pytest

from deploys.shared import MARKER, command, missing
from sandboxd import sharedstore


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `mountpoint` that says yes for a directory which has the file `mounted`."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "mountpoint").write_text('#!/bin/sh\n[ -e "$2/mounted" ]\n')
    (programs / "mountpoint").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    made = tmp_path / "volumes"
    made.mkdir()
    return made


def shell(text: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False)


def test_where_nothing_is_mounted_nothing_is_written(path: Path) -> None:
    assert shell(missing(str(path))).stdout == "missing\n"
    done = shell(command(str(path)))
    assert done.returncode == 1 and "nothing is mounted there" in done.stderr and list(path.iterdir()) == []


def test_the_mark_is_made_once(path: Path) -> None:
    (path / "mounted").touch()
    assert shell(missing(str(path))).stdout == "missing\n"
    assert shell(command(str(path))).returncode == 0
    mark = (path / MARKER).read_text()
    assert len(mark.strip()) == 32 and shell(missing(str(path))).stdout == ""
    assert shell(command(str(path))).returncode == 0, "another host was a moment later"
    assert (path / MARKER).read_text() == mark and {one.name for one in path.iterdir()} == {MARKER, "mounted"}


def test_hosts_whose_shells_have_the_same_number_write_to_files_of_their_own(path: Path, tmp_path: Path) -> None:
    """Both are there at the same time, as parts of one shell have its number."""
    (path / "mounted").touch()
    written = tmp_path / "written"
    (tmp_path / "bin/openssl").write_text(
        f"#!/bin/sh\nexec 3>&1\nreadlink /proc/self/fd/3 >>{written}\n"
        f"for _ in $(seq 200); do [ $(wc -l <{written}) = 2 ] && break; sleep 0.05; done\n"
        'echo "mark of $PPID"\n'
    )
    (tmp_path / "bin/openssl").chmod(0o755)
    one = f"({command(str(path))})"
    assert shell(f"{one} & first=$!; {one} && wait $first").returncode == 0
    assert len(set(written.read_text().splitlines())) == 2
    assert (path / MARKER).read_text().startswith("mark of ")
    assert {file.name for file in path.iterdir()} == {MARKER, "mounted"}


def test_sandboxd_reads_the_same() -> None:
    assert MARKER == sharedstore.MARKER
