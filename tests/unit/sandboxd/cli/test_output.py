"""Bytes to a pipe, past every obstacle that a pipe can be."""

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from sandboxd.cli.output import OutputError, ReaderGone, unhurried, write_all, write_some
from tests.unit.sandboxd.cli.doubles import DEADLINE_S

DATA = os.urandom(1_000_000)  # many times what a pipe holds


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            continue  # the test has closed it


@pytest.mark.parametrize("blocking", [True, False])
def test_all_of_it_is_written(pipe: tuple[int, int], blocking: bool) -> None:
    reader, writer = pipe
    os.set_blocking(writer, blocking)
    received: list[bytes] = []

    def read() -> None:
        while sum(len(piece) for piece in received) < len(DATA):
            received.append(os.read(reader, 50_000))

    thread = threading.Thread(target=read)
    thread.start()
    write_all(writer, DATA)
    thread.join(DEADLINE_S)
    assert b"".join(received) == DATA


def test_nothing_is_nothing(pipe: tuple[int, int]) -> None:
    write_all(pipe[1], b"")


def test_a_reader_that_has_gone(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    with pytest.raises(ReaderGone):
        write_all(pipe[1], b"x")


def test_a_full_disk() -> None:
    with open("/dev/full", "wb") as full, pytest.raises(OutputError, match="No space left on device"):
        write_all(full.fileno(), b"x")


def test_as_much_as_fits(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    assert 0 < write_some(pipe[1], DATA) < len(DATA)
    assert write_some(pipe[1], DATA) == 0
    os.close(pipe[0])
    with pytest.raises(ReaderGone):
        write_some(pipe[1], b"x")


def test_a_terminal_that_shows_nothing_makes_nobody_wait() -> None:
    leader, terminal = os.openpty()
    display = unhurried(terminal)
    while write_some(display, b"x" * 4096):
        pass
    assert os.get_blocking(terminal), "for all others it is as before"
    assert os.read(leader, 10) == b"x" * 10
    for fd in (leader, terminal, display):
        os.close(fd)


def test_what_cannot_be_opened_again_is_used_as_it_is() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert unhurried(ours.fileno()) == ours.fileno()
