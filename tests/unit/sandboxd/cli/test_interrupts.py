"""Signals, sent to this process itself."""

import os
import select
import signal
import socket
import threading
from collections.abc import Iterator

import pytest

from sandboxd.cli.interrupts import FORWARDED, Interrupts, terminable


@pytest.fixture
def wire() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def forever() -> float:
    return 10.0


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in FORWARDED]


@pytest.mark.parametrize("number", FORWARDED)
def test_the_first_signal_is_noted_and_the_second_raises(number: signal.Signals) -> None:
    with Interrupts() as interrupts:
        assert interrupts.received is None
        os.kill(os.getpid(), number)
        assert interrupts.received == number
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.received == number


def test_the_handlers_are_restored() -> None:
    before = handlers()
    with Interrupts():
        assert handlers() != before
    assert handlers() == before


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interrupts.received is None
        with terminable():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_input_ends_the_wait(wire: tuple[socket.socket, socket.socket]) -> None:
    wire[1].sendall(b"x")
    with Interrupts() as interrupts:
        interrupts.wait_readable(wire[0], forever)


def test_a_signal_during_the_wait_makes_it_look(wire: tuple[socket.socket, socket.socket]) -> None:
    looks: list[int | None] = []

    with Interrupts() as interrupts:

        def look() -> float:
            looks.append(interrupts.received)
            if len(looks) == 1:
                threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)).start()
                return 10.0  # whether it has come already or not
            if interrupts.received is not None:
                raise InterruptedError
            return 10.0

        with pytest.raises(InterruptedError):
            interrupts.wait_readable(wire[0], look)
    assert looks == [None, signal.SIGINT]


def test_a_signal_before_the_wait_is_seen_by_the_first_look(wire: tuple[socket.socket, socket.socket]) -> None:
    wire[1].sendall(b"x")
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        seen: list[int | None] = []

        def look() -> float:
            seen.append(interrupts.received)
            return 10.0

        interrupts.wait_readable(wire[0], look)
    assert seen == [signal.SIGINT, signal.SIGINT]


def test_it_looks_again_after_the_time_that_look_wants(wire: tuple[socket.socket, socket.socket]) -> None:
    looks = 0

    def look() -> float:
        nonlocal looks
        looks += 1
        if looks == 3:
            wire[1].sendall(b"x")
        return 0.001

    with Interrupts() as interrupts:
        interrupts.wait_readable(wire[0], look)
    assert looks == 3


def test_waking_when_nobody_waits_any_more_is_harmless() -> None:
    with Interrupts() as interrupts:
        for _ in range(100_000):  # more than the pair of sockets holds
            interrupts.wake()
    interrupts.wake()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_terminable_cleans_up(number: signal.Signals) -> None:
    before = handlers()
    with pytest.raises(SystemExit) as ended, terminable():
        os.kill(os.getpid(), number)
    assert ended.value.code == 128 + number and handlers() == before


def test_whoever_has_patience_keeps_the_first_signal() -> None:
    with Interrupts(patient=True) as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)
        assert interrupts.received == signal.SIGTERM


def test_it_can_be_waited_for_like_a_file() -> None:
    with Interrupts() as interrupts:
        assert select.select([interrupts], [], [], 0)[0] == []
        interrupts.wake()
        assert select.select([interrupts], [], [], 0)[0] == [interrupts]
        interrupts.clear()
        assert select.select([interrupts], [], [], 0)[0] == []
