"""How much of something is under way at a time: of one key, and of all."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Places:
    def __init__(self, most: int, most_of_a_key: int) -> None:
        self._most, self._most_of_a_key = most, most_of_a_key
        self._taken = Counter[str]()

    def free(self, key: str) -> bool:
        return self._taken.total() < self._most and self._taken[key] < self._most_of_a_key

    @contextmanager
    def taken(self, key: str) -> Iterator[None]:
        """The key has one place less until the end of the block."""
        self._taken[key] += 1
        try:
            yield
        finally:
            self._taken[key] -= 1
            self._taken += Counter()  # forgets who has none
