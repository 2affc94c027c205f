"""What the unit runs: the real program, against an nft and an ip that write down what they are told.

Its sysctl says what the unit has set before.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandboxd import iprules
from tests.unit.sandboxd.test_config import GOOD

PROJECT = Path(__file__).parents[3]
PROGRAM = """#!/bin/sh
{ echo "$(basename "$0") $*"; [ "$1" != -f ] || cat; } >>"$TOLD"
[ ! -e "$TOLD.refuse" ] || { echo refused >&2; exit 1; }
[ "$(basename "$0")" != sysctl ] || echo 1
"""


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("nft", "ip", "sysctl", "nsenter"):
        (programs / name).write_text(PROGRAM)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("TOLD", str(tmp_path / "told"))
    return tmp_path / "told"


def raised(tmp_path: Path, text: str = GOOD) -> "subprocess.CompletedProcess[str]":
    file = tmp_path / "config.toml"
    file.write_text(text)
    command = [sys.executable, "-m", "sandboxd.firewall", "--config", str(file)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "src")}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)


def test_the_wall_is_raised_and_routing_follows(tmp_path: Path, told: Path) -> None:
    done = raised(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = told.read_text().splitlines()
    assert lines[:2] == ["nft -f -", "add table inet acme-policies"]
    assert [line for line in lines if "sysctl" in line] == ["sysctl -n net.ipv4.conf.all.src_valid_mark"]
    assert any("ip daddr 10.9.0.0/16 accept" in line for line in lines)
    routing = [line for line in lines if line.startswith("ip -4 rule add")]
    assert len(routing) == len(iprules.wanted(["10.200.0.0/16"])) and lines.index(routing[0]) > 2


def test_a_host_that_refuses_and_a_file_that_is_wrong(tmp_path: Path, told: Path) -> None:
    told.with_suffix(".refuse").touch()
    done = raised(tmp_path)
    assert done.returncode == 1 and done.stderr == "firewall: nft -f -: refused\n"
    done = raised(tmp_path, GOOD.replace("10.200.0.0/16", "10.200.0.0/99"))
    assert done.returncode == 1 and "network.sources = ['10.200.0.0/99']: must be a list of IPv4" in done.stderr
