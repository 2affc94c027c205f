"""The Swarm's leader: one queue of writes. Knows nothing of what is written."""

from __future__ import annotations

from collections.abc import Iterable

from tools.fleetsim.times import Consensus


class Raft:
    """Moments in seconds, in the order in which they come. `gaps` are when there is no leader: from, and how long."""

    def __init__(self, consensus: Consensus, gaps: Iterable[tuple[float, float]]) -> None:
        self._consensus = consensus
        self._gaps = sorted((at, at + seconds) for at, seconds in gaps)
        self._free = 0.0
        self.writes = 0
        self.busy_s = 0.0
        self.longest_wait_s = 0.0

    def leads(self, now: float) -> bool:
        return not any(begin <= now < end for begin, end in self._gaps)

    def write(self, now: float, count: int = 1) -> float:
        """Adds so many writes, one after another. Returns when the last one is answered."""
        if not count:
            return now
        start = max(now, self._free)
        for begin, end in self._gaps:
            if begin <= start < end:
                start = end
        took = count * self._consensus.each
        self._free = start + took
        self.writes += count
        self.busy_s += took
        self.longest_wait_s = max(self.longest_wait_s, start - now)
        return self._free + self._consensus.more

    def forget(self) -> None:
        """Counts from now on."""
        self.writes, self.busy_s, self.longest_wait_s = 0, 0.0, 0.0
