"""Work that may hang, as NFS does while its server is away: whoever asked is told so, and the work is left behind.

Nothing can end a thread that waits for the kernel. So few are left behind: while that many wait, whoever asks is told
at once, and one more is tried now and then, which may find that there are answers again. Work that must not be done
for nobody, when there are answers again much later, asks `is_awaited` before it does anything for good.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from sandboxd.errors import HostError

T = TypeVar("T")
LEFT_MOST = 16
TRY_S = 60.0

_own = threading.local()


class NoAnswer(HostError):
    """It took too long."""


def is_awaited() -> bool:
    """Whether somebody waits for what this thread does: not once whoever asked a Patience for it was told NoAnswer."""
    given_up: threading.Event | None = getattr(_own, "given_up", None)
    return given_up is None or not given_up.is_set()


class Patience:
    """For `wait_s` seconds. `complaint` is what NoAnswer says then."""

    def __init__(self, wait_s: float, complaint: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.wait_s, self._complaint, self._clock = wait_s, complaint, clock
        self._left: list[Future[Any]] = []
        self._tried_at = 0.0
        self._guard = threading.Lock()

    def run(self, work: Callable[[], T]) -> T:
        """What the work returns or raises. Raises NoAnswer when that takes too long: it may still be done later."""
        with self._guard:
            self._left = [one for one in self._left if not one.done()]
            if len(self._left) >= LEFT_MOST and self._clock() < self._tried_at + TRY_S:
                raise NoAnswer(self._complaint)
            self._tried_at = self._clock()
        done: Future[T] = Future()
        given_up = threading.Event()

        def run() -> None:
            _own.given_up = given_up
            try:
                done.set_result(work())
            except BaseException as error:  # raised where somebody waits for it
                done.set_exception(error)

        threading.Thread(target=run, name="patience", daemon=True).start()
        try:
            return done.result(self.wait_s)
        except TimeoutError as error:
            given_up.set()
            with self._guard:
                self._left.append(done)
            raise NoAnswer(self._complaint) from error
