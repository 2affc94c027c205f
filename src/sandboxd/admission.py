"""How many containers are made at the same time on this host, and who waits.

Creating is the one dear thing here; a hundred at once take minutes and fail in odd ways. Requests go before pool fills,
and when too many requests wait, the next one is refused at once instead of timing out. Whether the host has room for
what is made is another question: `capacity`.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sandboxd.errors import HostBusy

MAX_WAITING = 100


class Admission:
    """At most `parallel` holders. Claimers wait in `for_claim`, the pool in `for_pool`."""

    def __init__(self, parallel: int, max_waiting: int = MAX_WAITING) -> None:
        self._parallel = self._free = parallel
        self._max_waiting = max_waiting
        self._waiting = 0
        self._changed = threading.Condition()

    @property
    def inside(self) -> int:
        """How many hold a place now."""
        with self._changed:
            return self._parallel - self._free

    @contextmanager
    def for_claim(self) -> Iterator[None]:
        """Raises HostBusy when `max_waiting` others wait already."""
        with self._changed:
            if self._free == 0 and self._waiting >= self._max_waiting:
                raise HostBusy(f"{self._waiting} sandboxes wait to be created already. Try again in some seconds.")
            self._waiting += 1
            self._changed.wait_for(lambda: self._free > 0)
            self._waiting -= 1
            self._free -= 1
            self._changed.notify_all()  # the pool looked while we waited, and went to sleep again: is a place left?
        try:
            yield
        finally:
            self._release()

    @contextmanager
    def for_pool(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._free > 0 and self._waiting == 0)
            self._free -= 1
        try:
            yield
        finally:
            self._release()

    def _release(self) -> None:
        with self._changed:
            self._free += 1
            self._changed.notify_all()
