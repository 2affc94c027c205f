"""What there is to say of the pools, as values."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PoolStatus:
    """One pool. Latencies are those of the last claims from it, None when there was none since the daemon started."""

    template: str
    enabled: bool
    size: int
    configured: int  # the size that the configuration says; another one than `size` after a resize
    warm: int
    starting: int
    hits: int
    misses: int
    p50_ms: float | None
    p95_ms: float | None
    trouble: str  # why the last fill failed, empty when it did not
    limit: str  # the setting that leaves no room for more members, when that is why


@dataclass(frozen=True)
class PoolsStatus:
    """All pools that have a size or members, and their sums."""

    enabled: bool
    size: int
    warm: int
    starting: int
    hits: int
    misses: int
    pools: list[PoolStatus]
