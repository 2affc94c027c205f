"""What a program says that cannot start; what it does otherwise is in test_main."""

import os
import subprocess
import sys
from pathlib import Path

from tests.unit.envd.client import DEADLINE_S, SOURCE, Running


def refused(tmp_path: Path, **environment: str) -> str:
    """Start an agent that must not come up; return what it says."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ENVD_")}
    kept |= {"PYTHONPATH": str(SOURCE), "ENVD_AGENT_FILE": str(tmp_path / "agent.json"), **environment}
    done = subprocess.run([sys.executable, "-m", "envd"], env=kept, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 1
    return done.stderr


def test_it_does_not_serve_without_a_token(tmp_path: Path) -> None:
    assert "ENVD_ACCESS_TOKEN is not set" in refused(tmp_path)
    (tmp_path / "agent.json").write_text("{}")
    assert "not a valid agent file" in refused(tmp_path, ENVD_ACCESS_TOKEN="t")


def test_a_port_in_use_and_a_wrong_address_are_told(agent: Running, tmp_path: Path) -> None:
    said = refused(tmp_path, ENVD_ACCESS_TOKEN="t", ENVD_LISTEN=f"127.0.0.1:{agent.port}")
    assert "address already in use" in said and "Traceback" not in said
    assert "Traceback" not in refused(tmp_path, ENVD_ACCESS_TOKEN="t", ENVD_LISTEN="127.0.0.1:http")
