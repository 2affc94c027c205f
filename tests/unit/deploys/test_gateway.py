"""What the deploy of the gateway asks the host, asked of this one."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from deploys.gateway import WORKER_START, unread

TICKS_S = 0.05  # for what the clocks of the kernel leave out


def test_a_worker_did_not_start_earlier_however_slow_the_host_is(tmp_path: Path) -> None:
    """Else a file that it has read would be newer. Half a second passes in each program; the worker is this process."""
    texts = {name: f'sleep 0.5\nexec {shutil.which(name)} "$@"' for name in ("date", "getconf")}
    for name, text in (texts | {"pgrep": f"sleep 0.5\necho {os.getpid()}"}).items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    started = time.time() - float(Path("/proc/uptime").read_text().split()[0]) + ticks / os.sysconf("SC_CLK_TCK")
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    told = subprocess.run(["sh", "-c", WORKER_START], env={"PATH": path}, capture_output=True, text=True, check=True)
    assert float(told.stdout) >= started - TICKS_S


def test_files_alone_are_unread(tmp_path: Path) -> None:
    """The worker is this process: the directory has changed since it started, and the file in it has not."""
    programs, folder = tmp_path / "bin", tmp_path / "fleet"
    for made in (programs, folder):
        made.mkdir()
    (programs / "pgrep").write_text(f"#!/bin/sh\necho {os.getpid()}\n")
    (programs / "pgrep").chmod(0o755)

    def told() -> str:
        environment = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
        command = ["sh", "-c", unread(str(folder))]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    file = folder / "node.pem"
    file.touch()
    os.utime(file, (0, 0))
    (folder / "unread").touch()
    (folder / "unread").unlink()
    assert told() == ""
    os.utime(file)
    assert told() == f"{file}\n"
