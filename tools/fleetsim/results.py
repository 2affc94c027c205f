"""What is counted while time runs, and what comes out of it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from statistics import fmean, pstdev

from tools.fleetsim.raft import Raft
from tools.fleetsim.scene import Scene

REFUSED = ("full", "busy", "no leader", "late")


@dataclass(frozen=True)
class Result:
    """Times in milliseconds. `arrivals` is the sum of served, refused, failed and waiting.

    refused, by reason: `full`, no node has room; `busy`, too many wait on the node; `no leader`; `late`, the Swarm
    would have assigned no node in time. failed: the node died meanwhile. waiting: not answered at the end. stale: how
    often a node was asked for a member that it no longer had. lost: sandboxes in use on nodes that failed. `load_...`:
    sandboxes in use per node that is up. Those that are being made for a request are in use. A round is one of a
    manager: it reads all nodes, and all leases.
    """

    policy: str
    arrivals: int
    served: int
    hits: int
    refused: dict[str, int]
    failed: int
    waiting: int
    stale: int
    lost: int
    hit_rate: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    load_mean: float
    load_deviation: float
    load_most: float
    raft_writes_per_s: float
    raft_busy: float
    raft_longest_wait_ms: float
    calls_to_managers_per_s: float
    calls_to_nodes_per_s: float
    bytes_of_nodes_per_round: int
    bytes_of_leases_per_round: int


@dataclass
class Counts:
    arrivals: int = 0
    hits: int = 0
    failed: int = 0
    stale: int = 0
    lost: int = 0
    kills: int = 0
    asked: int = 0
    latencies_s: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    means: list[float] = field(default_factory=list)
    deviations: list[float] = field(default_factory=list)
    mosts: list[int] = field(default_factory=list)
    present: list[int] = field(default_factory=list)

    @property
    def answered(self) -> int:
        return len(self.latencies_s) + self.failed + self.refused.total()

    def sample(self, used: list[int], present: int) -> None:
        """What each of the nodes that are up has in use; and how many there are of all, members of pools included."""
        self.present.append(present)
        if used:
            self.means.append(fmean(used))
            self.deviations.append(pstdev(used))
            self.mosts.append(max(used))


def percentile(ordered: list[float], percent: float) -> float:
    """By nearest rank; 0 of nothing."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else 0.0


def mean(values: list[float] | list[int]) -> float:
    return fmean(values) if values else 0.0


def result(policy: str, scene: Scene, counts: Counts, raft: Raft) -> Result:
    times, seconds = scene.times, scene.duration_s
    ordered = sorted(counts.latencies_s)
    served, present = len(ordered), mean(counts.present)
    reads_per_s = scene.managers * scene.nodes / times.poll_every + served / seconds
    return Result(
        policy=policy,
        arrivals=counts.arrivals,
        served=served,
        hits=counts.hits,
        refused={reason: counts.refused[reason] for reason in REFUSED},
        failed=counts.failed,
        waiting=counts.arrivals - counts.answered,
        stale=counts.stale,
        lost=counts.lost,
        hit_rate=counts.hits / served if served else 0.0,
        p50_ms=percentile(ordered, 50) * 1000,
        p95_ms=percentile(ordered, 95) * 1000,
        p99_ms=percentile(ordered, 99) * 1000,
        load_mean=mean(counts.means),
        load_deviation=mean(counts.deviations),
        load_most=mean(counts.mosts),
        raft_writes_per_s=raft.writes / seconds,
        raft_busy=raft.busy_s / seconds,
        raft_longest_wait_ms=raft.longest_wait_s * 1000,
        calls_to_managers_per_s=(counts.arrivals + counts.kills) / seconds,
        calls_to_nodes_per_s=(counts.asked + counts.kills) / seconds + reads_per_s,
        bytes_of_nodes_per_round=round(present * times.row_bytes + scene.nodes * times.read_bytes),
        bytes_of_leases_per_round=round(present * times.lease_bytes),
    )
