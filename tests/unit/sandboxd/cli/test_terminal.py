"""A real pseudo-terminal as ours: raw, and as before."""

import os
import signal
import termios
from collections.abc import Iterator
from typing import Any

import pytest

from sandboxd.cli.terminal import Terminal, raw, terminal_type


@pytest.fixture
def pair() -> Iterator[tuple[int, int]]:
    """The end that a person has, and the end that programs have."""
    leader, terminal = os.openpty()
    yield leader, terminal
    for fd in (leader, terminal):
        try:
            os.close(fd)
        except OSError:
            continue  # the test has closed it


def settings(fd: int) -> list[Any]:
    return termios.tcgetattr(fd)


def nothing() -> None:
    return


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("xterm", "xterm"),
        ("tmux-256color", "tmux-256color"),
        ("dumb", "dumb"),
        ("xterm-kitty", "xterm-256color"),
        ("", "xterm-256color"),
        (None, "xterm-256color"),
    ],
)
def test_a_sandbox_knows_the_type(ours: str | None, theirs: str) -> None:
    assert terminal_type(ours) == theirs


def test_raw_passes_every_byte(pair: tuple[int, int]) -> None:
    leader, terminal = pair
    before = settings(terminal)
    every = bytes(range(256))
    with Terminal(terminal, nothing) as tested:
        tested.make_raw()
        assert settings(terminal) == raw(before) != before
        os.write(leader, every)
        assert b"".join(os.read(terminal, 1) for _ in every) == every
        os.write(terminal, every)
        assert b"".join(os.read(leader, 1) for _ in every) == every, "nothing was echoed, nothing is changed"
    assert settings(terminal) == before


def test_what_was_typed_before_is_not_lost(pair: tuple[int, int]) -> None:
    leader, terminal = pair
    os.write(leader, b"early")
    with Terminal(terminal, nothing) as tested:
        tested.make_raw()
        assert os.read(terminal, 100) == b"early"


def test_restored_after_an_error_and_only_once(pair: tuple[int, int]) -> None:
    before = settings(pair[1])
    with pytest.raises(ZeroDivisionError), Terminal(pair[1], nothing) as tested:
        tested.make_raw()
        raise ZeroDivisionError
    assert settings(pair[1]) == before
    changed = raw(before)
    termios.tcsetattr(pair[1], termios.TCSANOW, changed)
    tested.restore()
    assert settings(pair[1]) == changed, "somebody else has made it so since"


def test_one_that_was_never_raw_is_left_alone(pair: tuple[int, int]) -> None:
    with Terminal(pair[1], nothing):
        changed = raw(settings(pair[1]))
        termios.tcsetattr(pair[1], termios.TCSANOW, changed)
    assert settings(pair[1]) == changed


def test_the_size_and_its_changes(pair: tuple[int, int]) -> None:
    calls: list[str] = []
    handlers = [signal.getsignal(number) for number in (signal.SIGWINCH, signal.SIGCONT)]
    with Terminal(pair[1], lambda: calls.append("changed")) as tested:
        termios.tcsetwinsize(pair[0], (30, 100))
        assert tested.size() == (100, 30)
        os.kill(os.getpid(), signal.SIGWINCH)
        assert calls == ["changed"]
    assert [signal.getsignal(number) for number in (signal.SIGWINCH, signal.SIGCONT)] == handlers


def test_raw_again_when_it_goes_on(pair: tuple[int, int]) -> None:
    calls: list[str] = []
    before = settings(pair[1])
    with Terminal(pair[1], lambda: calls.append("changed")) as tested:
        os.kill(os.getpid(), signal.SIGCONT)
        assert settings(pair[1]) == before, "it has not begun"
        tested.make_raw()
        termios.tcsetattr(pair[1], termios.TCSANOW, before)
        os.kill(os.getpid(), signal.SIGCONT)
        assert settings(pair[1]) == raw(before) and calls == ["changed", "changed"]


def test_a_terminal_that_is_gone_raises_nothing(pair: tuple[int, int]) -> None:
    leader, terminal = pair
    with Terminal(terminal, nothing) as tested:
        tested.make_raw()
        os.close(leader)
        assert tested.size() == (0, 0)
    with Terminal(terminal, nothing) as tested:
        tested.make_raw()
