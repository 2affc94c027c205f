"""How many sandboxes a key may have, and requests that must not be done twice."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from sandboxd.errors import Conflict, NotFound, QuotaReached
from sandboxd.ledger import Ledger
from sandboxd.records import USED, ApiKey, Sandbox


class Quota:
    """How many sandboxes a key's name may have, those that are being made included; and one at a time per request."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._making: Counter[str] = Counter()
        self._requests: set[tuple[str, str]] = set()
        self._changed = threading.Condition()

    @contextmanager
    def place(self, key: ApiKey, request: str) -> Iterator[Sandbox | None]:
        """Gives the sandbox that the same request has made before, if any. Raises QuotaReached, Conflict, NotFound."""
        named = (key.name, request)
        with self._changed:
            while named in self._requests or ((before := self._repeated(key, request)) is None and not self._room(key)):
                self._changed.wait()
            self._making[key.name] += 1
            if request:
                self._requests.add(named)
        try:
            yield before
        finally:
            with self._changed:
                self._making[key.name] -= 1
                self._requests.discard(named)
                self._changed.notify_all()

    def _room(self, key: ApiKey) -> bool:
        """False where it cannot be known: one that is being made may be in the ledger already, or fail."""
        present, making = self._ledger.count_of(key.name), self._making[key.name]
        if not key.max_sandboxes or present + making < key.max_sandboxes:
            return True
        if present < key.max_sandboxes:
            return False
        raise QuotaReached(
            f"the key {key.name!r} may have {key.max_sandboxes} sandboxes at a time, and has {present}."
            " Kill one, or ask for a key with a higher limit."
        )

    def _repeated(self, key: ApiKey, request: str) -> Sandbox | None:
        if not request:
            return None
        found = self._ledger.made_by(key.name, request.partition(":")[0] + ":")
        if found is None:
            return None
        if found.request != request:
            raise Conflict("this Idempotency-Key came with another body before. Take a new one for a new request.")
        if found.state not in USED:
            raise NotFound(f"the sandbox {found.id} of this Idempotency-Key has ended: {found.reason}")
        return found
