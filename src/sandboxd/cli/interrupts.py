"""Signals to the command while something remote runs: noted by the handler, acted upon where it is safe.

The first one is a request: `wait_readable` hands it to the caller between two reads. The second one raises at once,
unless whoever asks has patience.
"""

import select
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Use it in a `with` statement, in the main thread. `received` is the first signal, None so far.

    It can be waited for, as for a file that has something to read; `clear` after that.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.received: int | None = None
        self._patient = patient
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupts":
        for number in FORWARDED:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._reader.close()
        self._writer.close()

    def wake(self) -> None:
        """Makes `wait_readable` call `look`; from any thread, and without effect when nobody waits any more."""
        with suppress(OSError):
            self._writer.send(b"\0")

    def fileno(self) -> int:
        return self._reader.fileno()

    def clear(self) -> None:
        self._reader.recv(4096)

    def wait_readable(self, connected: socket.socket, look: Callable[[], float]) -> None:
        """Returns when there is input. `look` is called first and after each wake; it may raise, and says how many
        seconds it wants to wait at most before it is called again."""
        while True:
            timeout_s = look()
            sources: list[Any] = [connected, self]
            readable, _, _ = select.select(sources, [], [], timeout_s)
            if self in readable:
                self.clear()
            elif connected in readable:
                return

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.received is None:
            self.received = number
        elif not self._patient:
            raise KeyboardInterrupt
        self.wake()


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM and SIGHUP end the command like Ctrl-C does: what it has begun is cleaned up first.

    One that is ignored stays so: that is what `nohup` does with SIGHUP.
    """

    def stop(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    caught = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
