"""The table: what it says, and what it leaves out on a narrow terminal."""

from typing import Any

import pytest

from sandboxd.cli.statstable import COLUMNS, binary, busiest_first, lines, total

NOW = 1_800_000_000.0
USAGE = {
    "cpu_limit": 2.0,
    "memory_bytes": 120 * 1024**2,
    "memory_limit_bytes": 2 * 1024**3,
    "pids": 9,
    "pids_limit": 1024,
    "oom_kills": 0,
}
RATES = {
    "cpu_percent": 101.83,
    "cpu_percent_of_limit": 50.9,
    "received_bytes_per_s": 2150.0,
    "sent_bytes_per_s": 0.0,
}
NO_RATES = dict.fromkeys(RATES)


def row(**changes: Any) -> dict[str, Any]:
    return {
        "sandboxID": "4f1c0a9be2d7",
        "name": "demo",
        "state": "running",
        "startedAt": "2027-01-15T07:58:50.000Z",
        "usage": USAGE,
        "disk": None,
        "rates": RATES,
        **changes,
    }


def test_everything() -> None:
    disk = {"used_bytes": 3 * 1024**3, "size_bytes": 10 * 1024**3}
    head, line = lines([row(disk=disk)], NOW)
    assert head.split("  ")[:1] == ["ID"]
    cells = "4f1c0a9be2d7 demo running 101.8% 50.9% 120M/2.0G 9/1024 2.1K 0B 3.0G/10.0G 1m10s"
    assert line.split() == cells.split()
    assert head.index("CPU") + 3 == line.index("101.8%") + 6, "figures end below the end of their head"


def test_a_disk_that_nobody_knows_has_no_column() -> None:
    assert "DISK" not in lines([row()], NOW)[0]


def test_what_is_not_known() -> None:
    line = lines([row(usage=None, name="", state="stopped", rates=NO_RATES)], NOW)[1]
    assert line.split() == ["4f1c0a9be2d7", "-", "stopped", "-", "-", "-", "-", "-", "-", "1m10s"]


def test_no_limits() -> None:
    usage = {**USAGE, "memory_limit_bytes": None, "pids_limit": None}
    assert {"120M", "9"} <= set(lines([row(usage=usage)], NOW)[1].split())


def test_processes_that_were_killed_for_memory_are_seen() -> None:
    assert "running, 3 OOM" in lines([row(usage={**USAGE, "oom_kills": 3})], NOW)[1]


def test_a_name_is_cut_and_cannot_act() -> None:
    line = lines([row(name="a" * 30)], NOW)[1]
    assert "a" * 19 + "…" in line and "a" * 20 not in line
    assert "\033" not in lines([row(name="\033[2J")], NOW)[1]


@pytest.mark.parametrize("width", range(1, 130))
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert all(0 < len(line) <= width for line in lines([row(), row(name="")], NOW, width))


def test_what_matters_least_goes_first() -> None:
    gone = []
    for width in range(120, 32, -1):
        head = lines([row(disk={"used_bytes": 1, "size_bytes": 2})], NOW, width)[0]
        gone += [column.head for column in COLUMNS if column.head not in head and column.head not in gone]
    assert gone == ["NET IN/s", "NET OUT/s", "DISK", "PIDS", "AGE", "STATE", "OF LIMIT", "NAME"]


def test_the_busiest_first_and_idle_ones_in_order() -> None:
    rows = [
        row(sandboxID="a", rates={**RATES, "cpu_percent": 0.0}),
        row(sandboxID="b", rates=NO_RATES),
        row(sandboxID="c", rates={**RATES, "cpu_percent": 5.0}),
    ]
    assert [one["sandboxID"] for one in busiest_first(rows)] == ["c", "a", "b"]


def test_the_sum() -> None:
    assert total([row(), row(), row(usage=None, rates=NO_RATES)]) == "3 sandboxes: CPU 204%, memory 240M"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1.0K"),
        (1536, "1.5K"),
        (99.94 * 1024, "99.9K"),
        (99.96 * 1024, "100K"),
        (1023 * 1024, "1.0M"),
        (2 * 1024**3, "2.0G"),
        (5 * 1024**5, "5120T"),
    ],
)
def test_sizes(value: float, text: str) -> None:
    assert binary(value) == text
