"""The screen where the input is no terminal; what it does on one is seen with `stats`."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from sandboxd.cli import screen
from sandboxd.cli.screen import ENTER, LEAVE, Screen
from tests.unit.envd.client import eventually


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """What goes to standard output; standard input is /dev/null."""
    made: list[bytes] = []
    real = os.write

    def write(fd: int, data: Any) -> int:
        if fd != screen.STDOUT:
            return real(fd, data)
        made.append(bytes(data))
        return len(data)

    monkeypatch.setattr("os.write", write)
    with open(os.devnull, "rb") as null:
        monkeypatch.setattr(screen, "STDIN", null.fileno())
        yield made


def test_it_gives_back_what_it_took(written: list[bytes]) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGWINCH, signal.SIGTSTP)]
    with pytest.raises(KeyboardInterrupt), Screen():
        raise KeyboardInterrupt
    assert written == [ENTER, LEAVE]
    assert [signal.getsignal(number) for number in (signal.SIGWINCH, signal.SIGTSTP)] == before


def test_a_picture_is_one_write(written: list[bytes]) -> None:
    with Screen() as shown:
        shown.show(lambda columns, rows: ["first", "second"])
    assert written[1:-1] == [b"\033[Hfirst\033[K\nsecond\033[K\033[J"]


def test_without_a_terminal_for_input_nothing_is_read(written: list[bytes]) -> None:
    """/dev/null is always readable, and its end is no wish to quit."""
    with Screen() as shown:
        assert not shown.quit_within(0.0)
        assert not shown.quit_within(0.02)


def test_a_new_size_shows_the_picture_again(written: list[bytes]) -> None:
    def pictures() -> int:
        return sum(b"once" in one for one in written)

    with Screen() as shown:
        shown.show(lambda columns, rows: ["once"])
        os.kill(os.getpid(), signal.SIGWINCH)
        eventually(lambda: not shown.quit_within(0.02) and pictures() == 2, "it is shown again")
    assert pictures() == 2
