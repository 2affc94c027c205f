"""How far a copy has come, on standard error when that is a terminal; nothing at all when it is not."""

import sys
import time

from sandboxd.cli.printing import size

EVERY_S = 0.2


class Progress:
    """Use it in a `with` statement: its line is wiped at the end. `total_bytes` 0 means that the total is not known."""

    def __init__(self, verb: str, total_bytes: int = 0) -> None:
        self._verb, self._total, self._done = verb, total_bytes, 0
        self._shown = sys.stderr.isatty()
        self._began = self._next = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown and self._done:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def add(self, count_bytes: int) -> None:
        self._done += count_bytes
        now = time.monotonic()
        if self._shown and now >= self._next:
            self._next = now + EVERY_S
            of = f" of {size(self._total)}" if self._total else ""
            rate = size(self._done / max(now - self._began, 0.001))
            print(f"\r\033[K{self._verb} {size(self._done)}{of}, {rate}/s", end="", file=sys.stderr, flush=True)
