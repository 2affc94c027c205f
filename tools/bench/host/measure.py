"""Values only: samples with their successes, percentiles, goals, and the rows that they make."""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass
class Samples:
    """What one side took, in the row's unit; `failed` attempts gave no value."""

    values: list[float] = field(default_factory=list)
    failed: int = 0
    last_error: str = ""

    def time(self, work: Callable[[], T]) -> T | None:
        """Adds the milliseconds that `work` takes and returns its result; None, and one more failure, when it raises.

        A Ctrl-C passes through.
        """
        start = time.perf_counter()
        try:
            result = work()
        except Exception as error:
            self.failed += 1
            self.last_error = str(error)
            return None
        self.values.append((time.perf_counter() - start) * 1000)
        return result

    @property
    def count(self) -> int:
        return len(self.values) + self.failed

    def summary(self) -> dict[str, Any] | None:
        """Median, p95 and success rate (0 to 1); None when there was no attempt."""
        if not self.count:
            return None
        rate = len(self.values) / self.count
        if not self.values:
            return {"median": None, "p95": None, "success": rate}
        p95 = percentile(self.values)
        return {"median": rounded(statistics.median(self.values)), "p95": rounded(p95), "success": rate}


def percentile(values: list[float], part: float = 0.95) -> float:
    """By nearest rank: with fewer than 20 values, the p95 is the largest."""
    return sorted(values)[math.ceil(part * len(values)) - 1]


def rounded(value: float) -> float:
    return round(value, 1 if abs(value) < 1000 else 0)


@dataclass(frozen=True)
class Goal:
    """What a row is to reach; limits that are None do not apply. `ratio` is ours to the peer's, by medians.

    `at_least`: more is better, as for requests per second, so the limits are lower ones. Without a limit, `met` says.
    """

    median: float | None = None
    p95: float | None = None
    ratio: float | None = None
    at_least: bool = False
    text: str = ""
    met: bool | None = None

    def describe(self) -> str:
        sign = ">=" if self.at_least else "<="
        limits = {"median": self.median, "p95": self.p95, "ratio": self.ratio}
        return self.text or ", ".join(f"{what} {sign} {limit:g}" for what, limit in limits.items() if limit is not None)

    def judge(self, ours: dict[str, Any], ratio: float | None) -> bool | None:
        """None when what the goal is about was not measured."""
        if self.met is not None:
            return self.met
        pairs = ((self.median, ours["median"]), (self.p95, ours["p95"]), (self.ratio, ratio))
        wanted = [(limit, value) for limit, value in pairs if limit is not None]
        known = [(limit, value) for limit, value in wanted if value is not None]
        if not wanted or len(known) < len(wanted):
            return None
        return all(value >= limit if self.at_least else value <= limit for limit, value in known)


def row(
    what: str,
    ours: Samples,
    peer: Samples | None = None,
    peer_is: str = "",
    goal: Goal | None = None,
    unit: str = "ms",
    more_is_better: bool = False,
) -> dict[str, Any]:
    """One line of the table, as JSON has it."""
    mine, other = ours.summary(), peer.summary() if peer else None
    if mine is None:
        raise ValueError(f"{what}: nothing was measured")
    ratio = None
    if other and mine["median"] is not None and other["median"]:
        ratio = round(mine["median"] / other["median"], 3)
    return {
        "what": what,
        "n": ours.count,
        "unit": unit,
        "ours": mine,
        "peer": other,
        "peer_is": peer_is,
        "ratio": ratio,
        "more_is_better": more_is_better,
        "goal": goal.describe() if goal else None,
        "met": goal.judge(mine, ratio) if goal else None,
        "errors": sorted({one.last_error for one in (ours, peer) if one and one.last_error}),
    }


@dataclass(frozen=True)
class Scale:
    """How much is measured. `levels` are numbers of idle sandboxes, in order."""

    rounds: int = 20
    cold_rounds: int = 10
    megabytes: int = 100
    transfers: int = 5
    parallel: int = 50
    levels: tuple[int, ...] = (10, 25, 50, 100)
    restarts: int = 3
    load_s: int = 8
    loads: int = 3


QUICK = Scale(rounds=5, cold_rounds=2, megabytes=20, transfers=2, parallel=8, levels=(3, 6), restarts=1, load_s=2)
