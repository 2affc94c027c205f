"""What runs on the host, with what it uses: one look for all viewers together, and only while somebody looks.

However many pages are open, sandboxd is asked once in FRESH_S; a page gets what its viewer may see of it.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from console.daemon import Daemon
from console.errors import Refused

FRESH_S = 2.0
NS = 1_000_000_000


@dataclass(frozen=True)
class Usage:
    """Of one sandbox at the moment; None is what is not known. `cpu_percent` 100 is one processor."""

    cpu_percent: float | None = None
    cpu_limit: float | None = None
    memory_bytes: int | None = None
    memory_limit_bytes: int | None = None
    disk_bytes: int | None = None
    disk_size_bytes: int | None = None
    pids: int | None = None
    oom_kills: int = 0


@dataclass(frozen=True)
class Look:
    """`rows` are sandboxd's, oldest first; `usage` by id."""

    at: float
    rows: list[dict[str, Any]]
    usage: dict[str, Usage]


@dataclass
class Counters:
    """The last two answers of /stats that lie apart: their clock, and processor time in ns by id."""

    clock: float = 0.0
    cpu_ns: dict[str, int] = field(default_factory=dict)


class Board:
    def __init__(self, daemon: Daemon, clock: Callable[[], float] = time.monotonic) -> None:
        self._daemon, self._clock = daemon, clock
        self._asking = asyncio.Lock()
        self._look: Look | None = None
        self._before = Counters()

    async def look(self) -> Look:
        """What was seen not longer than FRESH_S ago. Raises Refused."""
        async with self._asking:
            if self._look is None or self._clock() - self._look.at >= FRESH_S:
                rows = await self._daemon.get("/v2/sandboxes")
                usage = await self._usage() if rows else {}
                self._look = Look(self._clock(), rows, usage)
            return self._look

    def forget(self) -> None:
        """Something was changed: the next look is a new one."""
        self._look = None

    async def _usage(self) -> dict[str, Usage]:
        try:
            answer = await self._daemon.get("/stats")
        except Refused:
            return {}  # the list is worth showing without
        elapsed_s, before = answer["clock"] - self._before.clock, self._before.cpu_ns
        samples = answer["sandboxes"]
        found = {one["sandboxID"]: usage_of(one, before.get(one["sandboxID"]), elapsed_s) for one in samples}
        cpu_ns = {one["sandboxID"]: one["usage"]["cpu_ns"] for one in samples if one["usage"]}
        self._before = Counters(answer["clock"], cpu_ns)
        return found


def usage_of(sample: dict[str, Any], before_ns: int | None, elapsed_s: float) -> Usage:
    """From one sandbox of /stats, and its processor time `elapsed_s` earlier. A restart begins to count anew."""
    usage, disk = sample["usage"] or {}, sample["disk"] or {}
    cpu_percent = None
    if usage and before_ns is not None and elapsed_s > 0 and usage["cpu_ns"] >= before_ns:
        cpu_percent = (usage["cpu_ns"] - before_ns) / NS / elapsed_s * 100
    return Usage(
        cpu_percent,
        usage.get("cpu_limit"),
        usage.get("memory_bytes"),
        usage.get("memory_limit_bytes"),
        disk.get("used_bytes"),
        disk.get("size_bytes"),
        usage.get("pids"),
        usage.get("oom_kills", 0),
    )
