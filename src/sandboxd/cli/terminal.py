"""Our own terminal: its size, its type, raw while a session uses it and restored after it. Touches its settings."""

import os
import signal
import termios
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

DEFAULT_TYPE = "xterm-256color"
# Of Debian's ncurses-base, so that every sandbox knows them. Others, such as kitty, understand the default.
KNOWN_TYPES = {"ansi", "dumb", "linux", "rxvt", "rxvt-unicode", "rxvt-unicode-256color", "screen", "screen-256color"}
KNOWN_TYPES |= {"tmux", "tmux-256color", "vt100", "vt102", "vt220", "xterm", "xterm-256color", "xterm-color"}
IFLAG, OFLAG, CFLAG, LFLAG, CHARACTERS = 0, 1, 2, 3, 6  # places in what tcgetattr returns


def terminal_type(ours: str | None) -> str:
    """The TERM of a program in a sandbox, for ours."""
    return ours if ours is not None and ours in KNOWN_TYPES else DEFAULT_TYPE


class Terminal:
    """The terminal `fd`. In a `with` statement, in the main thread: `changed` is called from then on when its size may
    have changed, and at the end its settings are as they were."""

    def __init__(self, fd: int, changed: Callable[[], None]) -> None:
        self._fd, self._changed = fd, changed
        self._saved: list[Any] = []
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Terminal":
        self._before[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, self._resized)
        self._before[signal.SIGCONT] = signal.signal(signal.SIGCONT, self._continued)
        return self

    def __exit__(self, *_: object) -> None:
        self.restore()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def size(self) -> tuple[int, int]:
        """Columns and rows; (0, 0) when it does not know, or is gone."""
        try:
            return os.get_terminal_size(self._fd)
        except OSError:
            return 0, 0

    def make_raw(self) -> None:
        """From now on each key comes as it is typed, and means nothing here."""
        with suppress(termios.error):  # it is gone: whoever reads from it will learn that
            self._saved = termios.tcgetattr(self._fd)
            self._apply(raw(self._saved))

    def restore(self) -> None:
        if self._saved:
            self._apply(self._saved)
            self._saved = []

    def _apply(self, settings: list[Any]) -> None:
        if self._is_ours():
            with suppress(termios.error):  # it is gone
                termios.tcsetattr(self._fd, termios.TCSADRAIN, settings)

    def _is_ours(self) -> bool:
        """Not while another job has it: our shell has restored it then, and would stop us if we did."""
        try:
            return os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:  # nobody has: it is not the terminal that controls us
            return True

    def _resized(self, _: int, __: FrameType | None) -> None:
        self._changed()

    def _continued(self, _: int, __: FrameType | None) -> None:
        """Meanwhile our shell had the terminal, with its own settings and perhaps another size."""
        if self._saved:
            self._apply(raw(self._saved))
        self._changed()


def raw(settings: list[Any]) -> list[Any]:
    """The settings of a terminal, as tcgetattr returns them, but raw as `ssh` makes it."""
    made = [*settings[:CHARACTERS], [*settings[CHARACTERS]]]
    made[IFLAG] |= termios.IGNPAR
    made[IFLAG] &= ~(termios.ISTRIP | termios.INLCR | termios.IGNCR | termios.ICRNL)
    made[IFLAG] &= ~(termios.IXON | termios.IXANY | termios.IXOFF)
    made[OFLAG] &= ~termios.OPOST
    made[LFLAG] &= ~(termios.ISIG | termios.ICANON | termios.IEXTEN)
    made[LFLAG] &= ~(termios.ECHO | termios.ECHOE | termios.ECHOK | termios.ECHONL)
    made[CHARACTERS][termios.VMIN], made[CHARACTERS][termios.VTIME] = 1, 0
    return made
