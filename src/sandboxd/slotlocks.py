"""One thread at a time works on a slot. Touches nothing."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sandboxd.errors import Conflict

DEADLINE_S = 60.0


class SlotLocks:
    def __init__(self) -> None:
        self._held: set[str] = set()
        self._changed = threading.Condition()

    def held(self, slot: str) -> bool:
        with self._changed:
            return slot in self._held

    @contextmanager
    def hold(self, slot: str) -> Iterator[None]:
        """Waits while another thread works on the slot. Raises Conflict after DEADLINE_S."""
        with self._changed:
            if not self._changed.wait_for(lambda: slot not in self._held, DEADLINE_S):
                raise Conflict(f"slot {slot} is being changed by another request for {DEADLINE_S:.0f} s already.")
            self._held.add(slot)
        try:
            yield
        finally:
            with self._changed:
                self._held.discard(slot)
                self._changed.notify_all()
