from pathlib import Path

import pytest

from envd import metrics
from envd.metrics import Metrics


def test_the_limits_of_a_cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "CGROUP", str(tmp_path))
    for name, text in {
        "cpu.stat": "usage_usec 1000000\nuser_usec 1\n",
        "cpu.max": "200000 100000\n",
        "memory.max": "2147483648\n",
        "memory.current": "1048576\n",
    }.items():
        (tmp_path / name).write_text(text)
    tested = Metrics()
    (tmp_path / "cpu.stat").write_text("usage_usec 1500000\n")
    sample = tested.sample("/")
    assert (sample["cpu_count"], sample["mem_total"], sample["mem_used"]) == (2, 2 * 1024**3, 1024**2)
    assert sample["cpu_used_pct"] > 0
    assert 0 < sample["disk_used"] <= sample["disk_total"]
    assert tested.sample("/")["cpu_used_pct"] == 0


def test_without_limits_the_machine_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "CGROUP", str(tmp_path))
    sample = Metrics().sample("/")
    assert sample["cpu_count"] >= 1 and 0 < sample["mem_used"] < sample["mem_total"]
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert Metrics().sample("/")["mem_total"] == sample["mem_total"]
