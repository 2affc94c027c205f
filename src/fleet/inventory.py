"""What a host says that it has, its GET /inventory, as values.

All of it that is used later is looked at here, when it is read: what a host of another release says, or one that is not
itself any more, breaks nothing afterwards, in requests that are not about that host at all.
"""

from dataclasses import dataclass, field
from typing import Any

from fleet.booking import WARM, Held
from fleet.config import Share

MOST_MB, MOST_CPUS = 2**31, 2**20
VERSIONS = 2**53  # the next one is given to hosts, which keep 64 bits of it
# What a list has of a sandbox when its host is lost, beside what is reserved for it.
SHOWN = {
    **dict.fromkeys(("templateID", "state", "owner", "clientID", "envdVersion", "startedAt", "endAt"), str),
    **dict.fromkeys(("cpuCount", "diskSizeMB"), int),
    **{"metadata": dict, "unlimited": bool},
}


@dataclass(frozen=True)
class Made:
    """What is known here of a sandbox that was made, or has ended (`present` false), since the host was read."""

    at: int
    present: bool
    template: str = ""
    owner: str = ""
    memory_mb: int = 0
    cpus: float = 0.0


@dataclass
class Contents:
    """What a host had when it was read last. `sandboxes` are rows of GET /v2/sandboxes by id, None for one that was
    made since; `held` is what is reserved for those; `warm` the same of members of its pools; `volumes` (owner, title)
    by name; `templates` (MB, CPUs) by name."""

    known: bool = False
    at: int = 0  # when it was asked, by the index's own clock
    sandboxes: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    held: dict[str, Held] = field(default_factory=dict)
    warm: dict[str, Held] = field(default_factory=dict)
    pools: bool = False
    volumes: dict[str, tuple[str, str]] = field(default_factory=dict)
    templates: dict[str, tuple[int, float]] = field(default_factory=dict)
    keys: tuple[int, str] = (0, "")  # version and fingerprint
    made: dict[str, Made] = field(default_factory=dict)


def parse(told: Any, share: Share) -> Contents:
    """Raises ValueError, LookupError, TypeError and AttributeError for what is none."""
    rows = {_text(row, "sandboxID"): row for row in told["sandboxes"]}
    return Contents(
        known=True,
        sandboxes=dict(rows),
        held={one: _used(row, share) for one, row in rows.items()},
        warm={_text(row, "sandboxID"): _warm(row, share) for row in told["warm"]},
        pools=_of(told, "pools", bool),
        volumes={_text(row, "name"): (_text(row, "owner"), _text(row, "title")) for row in told["volumes"]},
        templates={_text(row, "name"): _size(row) for row in told["templates"]},
        keys=(_number(told["keys"], "version", int, VERSIONS), _text(told["keys"], "fingerprint")),
    )


def _used(row: dict[str, Any], share: Share) -> Held:
    for key, kind in SHOWN.items():
        _of(row, key, kind)
    if "generation" in row:
        _of(row, "generation", int)
    ends = "" if row["unlimited"] else row["endAt"]
    about = (row["templateID"], row["state"], row["owner"], ends)
    return Held(row["sandboxID"], *about, *share.of(*_size(row)))


def _warm(row: dict[str, Any], share: Share) -> Held:
    return Held(row["sandboxID"], _text(row, "templateID"), WARM, "", "", *share.of(*_size(row)))


def _size(row: dict[str, Any]) -> tuple[int, float]:
    return _number(row, "memoryMB", int, MOST_MB), _number(row, "cpus", (int, float), MOST_CPUS)


def _text(row: dict[str, Any], key: str) -> str:
    value: str = _of(row, key, str)
    return value


def _number(row: dict[str, Any], key: str, kind: Any, most: int) -> Any:
    value = _of(row, key, kind)
    if not 0 <= value < most:
        raise ValueError(f"{key}: {value!r}")
    return value


def _of(row: dict[str, Any], key: str, kind: Any) -> Any:
    value = row[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{key}: {value!r}")
    return value
