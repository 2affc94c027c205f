"""The host's half runs alone, by any Python 3.11, from its zip file."""

import subprocess
import sys
from pathlib import Path

from tools.bench.__main__ import zipped

PROBE = """
import sys
sys.path.insert(0, sys.argv[1])
from tools.bench.host.run import CASES
print(*CASES)
"""


def test_the_zip_needs_nothing_but_the_standard_library(tmp_path: Path) -> None:
    file = tmp_path / "bench.pyz"
    file.write_bytes(zipped())
    # -S: no installed packages; -I: not this directory.
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROBE, str(file)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "init" in done.stdout.split() and "idle" in done.stdout.split()


def test_it_starts_with_its_main(tmp_path: Path) -> None:
    file = tmp_path / "bench.pyz"
    file.write_bytes(zipped())
    done = subprocess.run(
        [sys.executable, str(file), "no-such-host", "quick"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "/etc/no-such-host/config.toml" in done.stderr
