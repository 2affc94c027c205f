"""The table of `stats`: which columns fit, how figures look. Values in, lines out.

Sizes are in powers of 1024, as limits are: 2.0G is what `memory_mb = 2048` gives.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from sandboxd.cli.printing import seconds, span, visible

UNKNOWN = "-"
NAME_WIDTH = 20
GAP = "  "


class Column(NamedTuple):
    """`stays` says how long a column is kept when the terminal is narrow: the lowest goes first, 9 never."""

    head: str
    stays: int
    right: bool
    cell: Callable[[dict[str, Any], float], str]


def lines(rows: list[dict[str, Any]], now: float, width: int = 0) -> list[str]:
    """Head and rows, in as many columns as fit into `width`; 0 is a width without end. `now` in Unix seconds."""
    columns = [column for column in COLUMNS if column.head != "DISK" or any(row["disk"] for row in rows)]
    while True:
        cells = [[column.head for column in columns], *([column.cell(row, now) for column in columns] for row in rows)]
        widths = [max(map(len, one)) for one in zip(*cells, strict=True)]
        lowest = min(columns, key=lambda column: column.stays)
        if not width or sum(widths) + len(GAP) * (len(widths) - 1) <= width or lowest.stays == 9:
            break
        columns.remove(lowest)
    made = [
        GAP.join(
            cell.rjust(size) if column.right else cell.ljust(size)
            for column, cell, size in zip(columns, line, widths, strict=True)
        ).rstrip()
        for line in cells
    ]
    return [line[:width] for line in made] if width else made


def busiest_first(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By processor time as it is shown, so that idle ones keep their order."""
    return sorted(rows, key=lambda row: -(row["rates"]["cpu_percent"] or 0.0))


def total(rows: list[dict[str, Any]]) -> str:
    cpu = sum(row["rates"]["cpu_percent"] or 0.0 for row in rows)
    memory = sum(row["usage"]["memory_bytes"] for row in rows if row["usage"])
    return f"{len(rows)} {'sandbox' if len(rows) == 1 else 'sandboxes'}: CPU {cpu:.0f}%, memory {binary(memory)}"


def binary(count_bytes: float) -> str:
    """In units of 1024: 812B, 1.5K, 120M, 2.0G."""
    units = iter("BKMGT")
    unit = next(units)
    while count_bytes >= 999.5 and unit != "T":
        count_bytes, unit = count_bytes / 1024, next(units)
    return f"{count_bytes:.0f}{unit}" if unit == "B" or count_bytes >= 99.95 else f"{count_bytes:.1f}{unit}"


def _name(row: dict[str, Any], _: float) -> str:
    name = visible(row["name"]) or UNKNOWN
    return name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 1] + "…"


def _state(row: dict[str, Any], _: float) -> str:
    kills = (row["usage"] or {}).get("oom_kills", 0)
    return f"{row['state']}, {kills} OOM" if kills else str(row["state"])


def _cpu(row: dict[str, Any], _: float) -> str:
    return _percent(row["rates"]["cpu_percent"])


def _of_limit(row: dict[str, Any], _: float) -> str:
    return _percent(row["rates"]["cpu_percent_of_limit"])


def _percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.1f}%"


def _memory(row: dict[str, Any], _: float) -> str:
    usage = row["usage"]
    return _of(usage["memory_bytes"], usage["memory_limit_bytes"], binary) if usage else UNKNOWN


def _pids(row: dict[str, Any], _: float) -> str:
    usage = row["usage"]
    return _of(usage["pids"], usage["pids_limit"], str) if usage else UNKNOWN


def _of(used: int, limit: int | None, form: Callable[[int], str]) -> str:
    return form(used) if limit is None else f"{form(used)}/{form(limit)}"


def _received(row: dict[str, Any], _: float) -> str:
    return _bytes_rate(row["rates"]["received_bytes_per_s"])


def _sent(row: dict[str, Any], _: float) -> str:
    return _bytes_rate(row["rates"]["sent_bytes_per_s"])


def _bytes_rate(value: float | None) -> str:
    return UNKNOWN if value is None else binary(value)


def _disk(row: dict[str, Any], _: float) -> str:
    disk = row["disk"]
    return _of(disk["used_bytes"], disk["size_bytes"], binary) if disk else UNKNOWN


def _age(row: dict[str, Any], now: float) -> str:
    return span(now - seconds(row["startedAt"]))


COLUMNS = (
    Column("ID", 9, False, lambda row, _: row["sandboxID"]),
    Column("NAME", 8, False, _name),
    Column("STATE", 6, False, _state),
    Column("CPU", 9, True, _cpu),
    Column("OF LIMIT", 7, True, _of_limit),
    Column("MEMORY", 9, True, _memory),
    Column("PIDS", 4, True, _pids),
    Column("NET IN/s", 2, True, _received),
    Column("NET OUT/s", 2, True, _sent),
    Column("DISK", 3, True, _disk),
    Column("AGE", 5, True, _age),
)
