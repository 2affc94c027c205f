"""Parts of a session; a whole one is in test_shell, from both ends of a terminal."""

import os
import select
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from sandboxd.cli import session
from sandboxd.cli.agent import Agent
from sandboxd.cli.exits import CliError
from sandboxd.cli.interrupts import Interrupts
from sandboxd.cli.session import Session, Window
from sandboxd.cli.terminal import Terminal
from tests.unit.envd.client import eventually
from tests.unit.sandboxd.cli.doubles import DEADLINE_S, Relay, Scripted

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"


@pytest.fixture
def pid(relayed: Agent) -> Iterator[int]:
    """A program in a terminal of 80x24."""
    connection = relayed.connect()
    message = {"process": {"cmd": "sleep", "args": ["300"]}, "pty": session.pty((80, 24))}
    found = int(next(relayed.start(connection, message))["start"]["pid"])
    yield found
    os.kill(found, signal.SIGKILL)
    connection.close()


def size_of_terminal(pid: int) -> tuple[int, int]:
    with open(f"/proc/{pid}/fd/0", "rb") as terminal:
        return os.get_terminal_size(terminal.fileno())


def settle(window: Window) -> None:
    """Reads answers until none is due."""
    while window.busy:
        assert select.select([window], [], [], DEADLINE_S)[0]
        window.read_answer()


def test_a_new_size_is_told_and_an_old_one_is_not(relayed: Agent, relay: Relay, pid: int) -> None:
    window = Window(relayed, pid, (80, 24))
    for same in ((80, 24), (0, 0)):
        window.tell(same)
        assert not window.busy
    window.tell((100, 30))
    assert window.busy
    settle(window)
    assert size_of_terminal(pid) == (100, 30)


def test_only_the_last_of_many_sizes_counts(relayed: Agent, relay: Relay, pid: int) -> None:
    window = Window(relayed, pid, (80, 24))
    relay.answering.clear()
    window.tell((81, 24))
    before = relay.forwarded
    for columns in range(82, 200):
        window.tell((columns, 24))
    relay.answering.set()
    settle(window)
    window.tell((199, 24))
    settle(window)
    assert size_of_terminal(pid) == (199, 24)
    eventually(lambda: before < relay.forwarded < before + 3_000, "two requests were made, or three")


def test_a_size_that_cannot_be_told_ends_nothing(relayed: Agent, relay: Relay, pid: int) -> None:
    window = Window(relayed, pid, (80, 24))
    relay.answering.clear()
    window.tell((81, 24))
    relay.cut()
    relay.answering.set()
    settle(window)
    window.tell((82, 24))
    settle(window)
    assert size_of_terminal(pid) == (82, 24)
    window.close()


def test_a_size_for_a_program_that_has_gone(relayed: Agent) -> None:
    window = Window(relayed, 2**31 - 1, (80, 24))
    window.tell((81, 24))
    settle(window)


@pytest.fixture
def alone(sandbox: dict[str, Any]) -> Iterator[tuple[Session, Scripted]]:
    """A session of which nobody types, and a gateway that says what a test wants."""
    gateway = Scripted(b"")
    leader, terminal = os.openpty()
    with Interrupts() as interrupts, Terminal(terminal, interrupts.wake) as ours:
        yield Session(Agent(gateway.address, sandbox), ours, interrupts), gateway
    gateway.stop()
    os.close(leader)
    os.close(terminal)


def test_a_stream_without_an_end_is_an_error(alone: tuple[Session, Scripted]) -> None:
    alone[1].script = HEAD + b"\x02\x00\x00\x00\x02{}"
    with pytest.raises(CliError, match="without the end"):
        alone[0].run({"cmd": "true"})


def test_an_agent_that_is_silent_is_gone(alone: tuple[Session, Scripted], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "SILENCE_S", 0.2)

    def talk(connection: Any) -> None:
        while connection.recv(65536):
            pass

    monkeypatch.setattr(alone[1], "talk", talk)
    with pytest.raises(TimeoutError, match="silent for 0 s"):
        alone[0].run({"cmd": "true"})


def test_the_size_in_the_words_of_the_protocol() -> None:
    assert session.pty((80, 24)) == {"size": {"cols": 80, "rows": 24}}
