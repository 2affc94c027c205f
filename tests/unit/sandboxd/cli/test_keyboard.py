"""Keys: the escape among them, and their way to a terminal of the real agent."""

import hashlib
import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sandboxd.cli import keyboard
from sandboxd.cli.agent import Agent, AgentError
from sandboxd.cli.keyboard import PENDING_BYTES, Escapes, Keyboard
from tests.unit.envd.client import eventually
from tests.unit.sandboxd.cli.doubles import DEADLINE_S, Relay, Scripted, answer_of

Start = Callable[[str], int]


def take(*pieces: bytes) -> tuple[bytes, bool]:
    """What passes of all of them, and whether the last one leaves."""
    escapes = Escapes()
    results = [escapes.take(piece) for piece in pieces]
    assert not any(leave for _, leave in results[:-1])
    return b"".join(passed for passed, _ in results), results[-1][1]


@pytest.mark.parametrize(
    ("typed", "passed", "leave"),
    [
        (b"", b"", False),
        (b"ls -l\r", b"ls -l\r", False),
        (b"~.", b"", True),
        (b"ls\r~.", b"ls\r", True),
        (b"ls\n~.", b"ls\n", True),
        (b"ls\r~.more", b"ls\r", True),
        (b"a~.", b"a~.", False),
        (b"~~", b"~", False),
        (b"~~.", b"~.", False),
        (b"~/bin\r", b"~/bin\r", False),
        (b"~\r~.", b"~\r", True),
        (b"\r~", b"\r", False),  # held until it is known what it means
        (b"~x~.", b"~x~.", False),
        (bytes(range(256)), bytes(range(256)), False),
    ],
)
def test_escapes(typed: bytes, passed: bytes, leave: bool) -> None:
    assert take(typed) == (passed, leave)
    assert take(*(bytes([key]) for key in typed), b"") == (passed, False) if not leave else True


def test_an_escape_may_come_in_pieces() -> None:
    assert take(b"ls\r", b"~", b".") == (b"ls\r", True)
    assert take(b"ls", b"\r~", b".") == (b"ls\r", True)
    assert take(b"ls", b"~", b".") == (b"ls~.", False)
    assert take(b"~", b"~", b".") == (b"~.", False)


@pytest.fixture
def start(relayed: Agent) -> Iterator[Start]:
    """Starts a shell command in a terminal that nobody watches; returns its pid once it is ready for keys."""
    started: list[int] = []

    def begin(command: str) -> int:
        connection = relayed.connect()
        process = {"cmd": "/bin/bash", "args": ["-c", f"stty raw -echo; echo ready; {command}"]}
        events = relayed.start(connection, {"process": process, "pty": {}})
        pid = int(next(events)["start"]["pid"])
        next(events)
        connection.close()
        started.append(pid)
        return pid

    yield begin
    alive = {process["pid"] for process in relayed.call("process.Process/List", {}).get("processes", [])}
    for pid in alive & set(started):
        with suppress(ProcessLookupError):  # it has ended since
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def typing(relayed: Agent) -> Iterator[Callable[[int], Keyboard]]:
    made: list[Keyboard] = []

    def begin(pid: int) -> Keyboard:
        made.append(Keyboard(relayed, pid))
        return made[-1]

    yield begin
    for each in made:
        each.close()


def send_all(tested: Keyboard) -> None:
    while tested.pending:
        assert select.select([], [tested], [], DEADLINE_S)[1]
        tested.send()


def test_keys_arrive_in_order(start: Start, typing: Callable[[int], Keyboard], tmp_path: Path) -> None:
    keys = os.urandom(200_000)
    tested = typing(start(f"head -c {len(keys)} | sha256sum >{tmp_path}/sum; mv {tmp_path}/sum {tmp_path}/done"))
    for begin in range(0, len(keys), 7_000):
        tested.type(keys[begin : begin + 7_000])
    tested.type(b"")
    send_all(tested)
    eventually((tmp_path / "done").exists, "the program has read all of them")
    assert (tmp_path / "done").read_text().split()[0] == hashlib.sha256(keys).hexdigest()


def test_a_program_that_does_not_read_makes_nobody_wait(start: Start, typing: Callable[[int], Keyboard]) -> None:
    tested = typing(start("exec sleep 300"))
    for _ in range(2_000):
        tested.type(bytes(16_384))
        if tested.full:
            break
    assert tested.full and tested.pending and tested.open
    assert len(tested._pending) < PENDING_BYTES + 50_000


def test_a_program_that_has_ended_takes_no_more(start: Start, typing: Callable[[int], Keyboard]) -> None:
    pid = start("exec sleep 300")
    tested = typing(pid)
    os.kill(pid, signal.SIGKILL)

    def noticed() -> bool:
        tested.type(b"x")
        if select.select([tested], [], [], 0.01)[0]:
            tested.read_answer()
        return not tested.open

    eventually(noticed, "the agent says so")
    tested.type(b"x")
    assert not tested.pending and not tested.full


def test_a_connection_that_breaks_is_told(start: Start, typing: Callable[[int], Keyboard], relay: Relay) -> None:
    tested = typing(start("exec sleep 300"))
    eventually(lambda: relay.forwarded > 500, "the stream has begun")
    relay.cut()
    assert select.select([tested], [], [], DEADLINE_S)[0]
    with pytest.raises(OSError):
        tested.read_answer()


def test_another_refusal_is_told(sandbox: dict[str, Any]) -> None:
    gateway = Scripted(answer_of(401, {"code": "unauthenticated", "message": "no token"}))
    tested = Keyboard(Agent(gateway.address, sandbox), 1)
    assert select.select([tested], [], [], DEADLINE_S)[0]
    with pytest.raises(AgentError, match="no token"):
        tested.read_answer()
    tested.close()
    gateway.stop()


def test_silence_is_filled(
    start: Start, typing: Callable[[int], Keyboard], relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyboard, "KEEPALIVE_S", 0.01)
    tested = typing(start("exec sleep 300"))
    before = relay.forwarded

    def forwarded() -> bool:
        assert 0 < tested.keep_alive() < 0.02
        return relay.forwarded > before + 1_000

    eventually(forwarded, "many keepalives have gone")
    assert tested.open and not select.select([tested], [], [], 0)[0]
