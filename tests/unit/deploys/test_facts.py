"""What a deploy asks a host, asked of this one, with doubles of the programs that would tell of its services."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from deploys.facts import Unit, UnitState


@pytest.mark.parametrize(("newer_s", "stale"), [(-0.1, False), (5, True)])
def test_a_file_is_newer_than_the_start_of_its_unit_or_not_however_slow_the_host_is(
    tmp_path: Path, newer_s: float, stale: bool
) -> None:
    """Half a second passes in each program that tells a time."""
    programs, file = tmp_path / "bin", tmp_path / "config"
    programs.mkdir()
    uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    shown = f"ActiveState=active\nActiveEnterTimestampMonotonic={uptime_s * 1e6:.0f}\n"
    texts = {"systemctl": f"printf '{shown}'"}
    texts |= {name: f'sleep 0.5\nexec {shutil.which(name)} "$@"' for name in ("date", "cut")}
    for name, text in texts.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    file.touch()
    changed_ns = file.stat().st_mtime_ns + int(newer_s * 1e9)
    os.utime(file, ns=(changed_ns, changed_ns))
    command = ["sh", "-c", Unit().command("one.service", (str(file),))]
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    told = subprocess.run(command, env={"PATH": path}, capture_output=True, text=True, check=True).stdout
    assert Unit().process(told.splitlines()) == UnitState("active", "", False, str(file) if stale else "")
