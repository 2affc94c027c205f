"""What a sandbox's main process wrote, followed through restarts of its container until the sandbox ends.

The log is Docker's; what the ledger knows of the sandbox's life is woven in on request.
"""

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from heapq import merge

from sandboxd.dockerlog import Frames, lines
from sandboxd.engine import Engine, timestamp
from sandboxd.errors import EngineDown
from sandboxd.history import ENDED, Event, end, history, restart
from sandboxd.ledger import Ledger
from sandboxd.records import Sandbox

POLL_S = 0.5
DOCKER_BACK_S = 60.0  # how long Docker may be away while it is followed: it restarts in some seconds


@dataclass(frozen=True)
class Wish:
    """How many of the last lines (None: all), whether to go on, and whether events are wanted, too."""

    lines: int | None
    follow: bool
    events: bool


class Log:
    """One reading. `read` runs in one thread; `stop`, from another, ends it soon."""

    def __init__(self, ledger: Ledger, engine: Engine, row: Sandbox, wish: Wish) -> None:
        self._ledger, self._engine, self._row, self._wish = ledger, engine, row, wish
        self._stopped = threading.Event()
        self._frames: Frames | None = None
        self._lock = threading.Lock()
        self._last = ""  # time of the last line, as Docker writes it

    def stop(self) -> None:
        with self._lock:
            self._stopped.set()
            if self._frames is not None:
                self._frames.close()

    def read(self) -> Generator[Event]:
        """Lines of the log have the kind "line". When a sandbox ends while it is followed, that is the last event.

        Raises EngineDown and EngineError.
        """
        began = time.time()
        events = history(self._row, began) if self._wish.events or self._row.state in ENDED else []
        if self._row.state in ENDED:
            yield from events
            return
        yield from merge(self._lines(self._wish.lines, 0.0, follow=False), events, key=lambda event: event.at)
        row: Sandbox | None = self._row if self._wish.follow else None
        while row is not None and not self._stopped.is_set():
            # A moment earlier, since a float is less exact than Docker's times; what was seen is told by its time.
            since = timestamp(self._last) - 0.001 if self._last else began
            with suppress(EngineDown):  # whether it comes back is seen next
                yield from self._lines(None, since, follow=True)
            row = yield from self._next_boot(row.booted)

    def _next_boot(self, boot: str) -> Generator[Event, None, Sandbox | None]:
        """Waits until the container runs again, and says so. None when the sandbox has ended, or nobody listens."""
        give_up = time.monotonic() + DOCKER_BACK_S
        while not self._stopped.wait(POLL_S):
            row = self._ledger.get(self._row.slot)
            if row is None or row.state in ENDED:
                yield end(row or self._row, time.time())
                return None
            try:
                container = self._engine.container(row.docker)
            except EngineDown:
                if time.monotonic() > give_up:
                    raise
                continue
            give_up = time.monotonic() + DOCKER_BACK_S
            if container is not None and container.running and container.booted == row.booted:
                if row.booted != boot and self._wish.events:
                    yield restart(timestamp(row.booted))
                return row
        return None

    def _lines(self, count: int | None, since: float, follow: bool) -> Iterator[Event]:
        frames = self._engine.log(self._row.docker, count, since, follow)
        with self._lock:
            self._frames = frames
            if self._stopped.is_set():
                frames.close()
        try:
            before = self._last
            for stamp, text in lines(frames):
                if stamp > before:
                    self._last = stamp
                    yield Event(timestamp(stamp), "line", text)
        finally:
            frames.close()
