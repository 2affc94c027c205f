"""A terminal that shows one picture after the other, without flicker, and listens for q.

Each picture is one write: home, its lines each with "clear the rest", "clear below". The terminal is given back as it
was, also to the shell in between (Ctrl-Z).
"""

import os
import select
import signal
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from sandboxd.cli.output import write_all

STDIN, STDOUT = 0, 1
ENTER = b"\033[?1049h\033[?25l\033[H"  # the alternate screen, no cursor
LEAVE = b"\033[?25h\033[?1049l"
DEFAULT_COLUMNS, DEFAULT_ROWS = 80, 24

Picture = Callable[[int, int], list[str]]  # columns and rows of the terminal -> at most so many lines


class Screen:
    """Use it in a `with` statement, in the main thread, when standard output is a terminal."""

    def __init__(self) -> None:
        self._before: list[Any] | None = None
        self._picture: Picture = lambda columns, rows: []
        self._reader, self._writer = os.pipe()  # a new size, or the return from the shell, ends a wait
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "Screen":
        os.set_blocking(self._writer, False)
        self._enter()
        self._handlers = {
            signal.SIGWINCH: signal.signal(signal.SIGWINCH, self._wake),
            signal.SIGTSTP: signal.signal(signal.SIGTSTP, self._pause),
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._leave()
        os.close(self._reader)
        os.close(self._writer)

    def show(self, picture: Picture) -> None:
        self._picture = picture
        columns, rows = 0, 0
        with suppress(OSError):
            columns, rows = os.get_terminal_size(STDOUT)
        lines = picture(columns or DEFAULT_COLUMNS, rows or DEFAULT_ROWS)  # some terminals do not know theirs
        body = "\n".join(f"{line}\033[K" for line in lines)
        write_all(STDOUT, f"\033[H{body}\033[J".encode(errors="replace"))

    def quit_within(self, seconds: float) -> bool:
        """Waits so long, or until somebody types q or closes the input: True."""
        until = time.monotonic() + seconds
        inputs = [self._reader] + ([STDIN] if self._before is not None else [])
        while (left := until - time.monotonic()) > 0:
            readable, _, _ = select.select(inputs, [], [], left)
            if self._reader in readable:
                os.read(self._reader, 64)
                self.show(self._picture)
            if STDIN in readable:
                typed = os.read(STDIN, 64)
                if not typed or b"q" in typed or b"Q" in typed:
                    return True
        return False

    def _enter(self) -> None:
        if os.isatty(STDIN):
            self._before = termios.tcgetattr(STDIN)
            wanted = termios.tcgetattr(STDIN)
            wanted[3] &= ~(termios.ECHO | termios.ICANON)  # keys come at once; Ctrl-C and Ctrl-Z stay signals
            termios.tcsetattr(STDIN, termios.TCSADRAIN, wanted)
        write_all(STDOUT, ENTER)

    def _leave(self) -> None:
        with suppress(OSError, termios.error):  # the terminal may be gone
            if self._before is not None:
                termios.tcsetattr(STDIN, termios.TCSADRAIN, self._before)
            os.write(STDOUT, LEAVE)

    def _wake(self, *_: object) -> None:
        with suppress(BlockingIOError):
            os.write(self._writer, b"\0")

    def _pause(self, number: int, _: FrameType | None) -> None:
        self._leave()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # stops here, until the shell says go on
        signal.signal(number, self._pause)
        self._enter()
        self._wake()
