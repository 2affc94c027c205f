"""What the deploy of the gateway asks the host, asked of this one."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from deploys.gateway import WORKER_START

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
