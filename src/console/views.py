"""How things look: from what sandboxd says to the words and figures of a page. Values in, values out.

Nothing here is HTML, and nothing is escaped here: the templates do that with everything.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from console.board import Usage

NONE = "—"
EXTENSIONS = {"900": "15 minutes", "3600": "1 hour", "14400": "4 hours", "43200": "12 hours", "86400": "24 hours"}
ENDLESS = "none"
STATES = ("running", "paused", "stopped")  # what can be asked of each is in ACTIONS
ACTIONS = {"running": ("pause", "stop"), "paused": ("resume", "stop"), "stopped": ("start",)}
VERBS = {
    "pause": ("Pause", "paused: its processes are frozen, its memory stays"),
    "resume": ("Resume", "running again"),
    "stop": ("Stop", "stopped: its processes have ended, its files stay"),
    "start": ("Start", "running again"),
    "kill": ("Kill", "killed"),
}


@dataclass(frozen=True)
class Meter:
    """`percent` of the limit, at most 100; None when there is no limit, or nothing is known."""

    text: str
    percent: float | None

    @property
    def level(self) -> str:
        return "" if self.percent is None or self.percent < 75 else "high" if self.percent < 90 else "full"


@dataclass(frozen=True)
class Shown:
    """One sandbox. `ends` is empty for one without an end."""

    id: str
    name: str
    state: str
    template: str
    url: str
    owner: str
    age: str
    started: str
    ends: str
    ends_at: str
    cpu: Meter
    memory: Meter
    disk: Meter
    pids: str
    oom_kills: int
    reason: str
    actions: tuple[str, ...]
    row: dict[str, Any]


def shown(row: dict[str, Any], usage: Usage, now: float) -> Shown:
    """`now` in Unix seconds."""
    started, ends = seconds(row["startedAt"]), seconds(row["endAt"])
    ending = row["state"] == "running" and not row["unlimited"]
    cpu_of_limit = None if usage.cpu_percent is None else share(usage.cpu_percent, (usage.cpu_limit or 0) * 100)
    return Shown(
        id=row["sandboxID"],
        name=row["name"],
        state=row["state"],
        template=row["templateID"],
        url=row["url"],
        owner=row["owner"],
        age=span(now - started),
        started=moment(row["startedAt"]),
        ends=span(ends - now) if ending else "",
        ends_at=moment(row["endAt"]) if ending else "",
        cpu=Meter(NONE if usage.cpu_percent is None else f"{usage.cpu_percent:.0f}%", cpu_of_limit),
        memory=meter(usage.memory_bytes, usage.memory_limit_bytes),
        disk=meter(usage.disk_bytes, usage.disk_size_bytes),
        pids=NONE if usage.pids is None else str(usage.pids),
        oom_kills=usage.oom_kills,
        reason=row["reason"],
        actions=ACTIONS.get(row["state"], ()),
        row=row,
    )


def meter(used: int | None, limit: int | None) -> Meter:
    if used is None:
        return Meter(NONE, None)
    return Meter(size(used), share(used, limit) if limit else None)


def share(part: float, whole: float) -> float | None:
    return min(100.0, part / whole * 100) if whole else None


def summary(rows: list[dict[str, Any]]) -> str:
    """4 running, 1 paused"""
    counts = {state: sum(row["state"] == state for row in rows) for state in STATES}
    return ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "none"


def span(length_s: float) -> str:
    """The largest unit and the next: 3d 4h, 2h 10m, 5m 3s, 12s."""
    rest = max(0, int(length_s))
    parts = []
    for unit, unit_s in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, unit_s)
        parts.append((count, unit))
    first = next((number for number, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count}{unit}" for count, unit in parts[first : first + 2] if count) or "0s"


def size(count_bytes: float) -> str:
    """In units of 1024, as limits are: 812 B, 1.5 KB, 120 MB, 2.0 GB."""
    units = iter(("B", "KB", "MB", "GB", "TB"))
    unit = next(units)
    while count_bytes >= 999.5 and unit != "TB":
        count_bytes, unit = count_bytes / 1024, next(units)
    return f"{count_bytes:.0f} {unit}" if unit == "B" or count_bytes >= 99.95 else f"{count_bytes:.1f} {unit}"


def mebibytes(count: float) -> str:
    return size(count * 1024 * 1024)


def seconds(text: str) -> float:
    """Unix seconds of a time in RFC 3339."""
    return datetime.fromisoformat(text).timestamp()


def moment(text: str) -> str:
    """2026-01-31 12:00:05 UTC"""
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S} UTC"


def milliseconds(value: float | None) -> str:
    return NONE if value is None else f"{value:.0f} ms"


def rate(hits: int, misses: int) -> str:
    return f"{hits / (hits + misses):.0%}" if hits + misses else NONE
