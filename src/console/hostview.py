"""The host as its page shows it: figures against limits, and what an examination found. Values in, values out."""

from dataclasses import dataclass
from typing import Any

from console.views import Meter, mebibytes, share, span

CERTIFICATE = "certificate-life"  # the check of the examination that knows the days
BAD = ("fail", "warn", "blocked")


@dataclass(frozen=True)
class Figure:
    """One tile: a title, the figure, how full it is, and what stands behind it."""

    title: str
    meter: Meter
    note: str


def figures(overview: dict[str, Any]) -> list[Figure]:
    return [
        _sandboxes(overview),
        _memory(overview),
        *(_disk(space, overview["disk_reserve_mb"]) for space in overview["disks"]),
        _load(overview),
    ]


def _sandboxes(overview: dict[str, Any]) -> Figure:
    present, most = overview["present"], overview["max_sandboxes"]
    there = sum(present.values())
    used = sum(present.get(state, 0) for state in ("running", "paused", "stopped"))
    parts = [f"{used} in use", f"{present.get('warm', 0)} warm", f"{present.get('creating', 0)} being made"]
    return Figure(
        "Sandboxes", Meter(f"{there} of {most}" if most else str(there), share(there, most)), ", ".join(parts)
    )


def _memory(overview: dict[str, Any]) -> Figure:
    size, free, reserve = (overview[f"memory_{name}"] for name in ("mb", "available_mb", "reserve_mb"))
    note = f"available of {mebibytes(size)}; new sandboxes are refused below {mebibytes(reserve)}"
    return Figure("Memory", Meter(mebibytes(free), share(size - free, size - reserve)), note)


def _disk(space: dict[str, Any], reserve_mb: int) -> Figure:
    size, free = space["size_mb"], space["free_mb"]
    note = f"free of {mebibytes(size)} at {space['path']}; new sandboxes are refused below {mebibytes(reserve_mb)}"
    return Figure("Disk", Meter(mebibytes(free), share(size - free, size - reserve_mb)), note)


def _load(overview: dict[str, Any]) -> Figure:
    load, processors = overview["load"], overview["processors"]
    note = f"{processors} processors; up for {span(overview['uptime_s'])}"
    return Figure("Load", Meter(f"{load:.2f}", share(load, processors)), note)


def versions(overview: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("Release", overview["release"] or "unknown: no deploy has come to its end"),
        ("Docker engine", overview["engine"] or "does not answer"),
        ("Kernel", overview["kernel"]),
    ]


@dataclass(frozen=True)
class Examination:
    """`at` in Unix seconds. `bad` and `good` are findings {"name", "level", "seen", "remedy"}; `certificate` is one."""

    at: float
    bad: list[dict[str, str]]
    good: list[dict[str, str]]
    certificate: dict[str, str] | None


def examination(findings: list[dict[str, str]], at: float) -> Examination:
    return Examination(
        at,
        [one for one in findings if one["level"] in BAD],
        [one for one in findings if one["level"] not in BAD],
        next((one for one in findings if one["name"] == CERTIFICATE), None),
    )
