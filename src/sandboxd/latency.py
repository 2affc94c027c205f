"""How long the last claims took. In memory: after a restart it begins anew."""

import math
import threading
from collections import deque

KEPT = 1000


class Latencies:
    """Of the last KEPT claims. Safe to use from several threads."""

    def __init__(self) -> None:
        self._ms: deque[float] = deque(maxlen=KEPT)
        self._lock = threading.Lock()

    def add(self, seconds: float) -> None:
        with self._lock:
            self._ms.append(seconds * 1000)

    def percentile_ms(self, percent: int) -> float | None:
        """The smallest that is not below `percent` of all, in milliseconds; None when there was no claim."""
        with self._lock:
            ordered = sorted(self._ms)
        return round(ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)], 1) if ordered else None
