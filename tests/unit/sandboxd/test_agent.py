"""Whether the agent inside a sandbox answers, asked over real connections."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from sandboxd import agent


@contextmanager
def answering(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> Iterator[list[bytes]]:
    """Something on the agent's port that answers so, once; yields what it was asked."""
    monkeypatch.setattr(agent, "PROBE_TIMEOUT_S", 60.0)  # it answers when its thread has its turn
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(agent, "AGENT_PORT", server.getsockname()[1])

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                asked.append(connection.recv(4096))
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield asked
        thread.join(60)


@pytest.mark.parametrize(
    ("answer", "alive"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"SSH-2.0-OpenSSH_9.2\r\n", False),
        (b"", False),
    ],
)
def test_only_a_204_is_an_agent(monkeypatch: pytest.MonkeyPatch, answer: bytes, alive: bool) -> None:
    with answering(monkeypatch, answer) as asked:
        assert agent.alive("127.0.0.1") is alive
    assert asked[0].startswith(b"GET /health HTTP/1.1\r\n")


def test_a_closed_port_is_no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(agent, "AGENT_PORT", server.getsockname()[1])
    assert not agent.alive("127.0.0.1")


def test_one_that_drips_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, and the answer never."""
    monkeypatch.setattr(agent, "PROBE_TIMEOUT_S", 0.2)
    enough, answers = threading.Event(), list[bool]()
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(agent, "AGENT_PORT", server.getsockname()[1])

        def drip() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                while not enough.wait(0.1):
                    connection.sendall(b"H")

        dripping = threading.Thread(target=drip)
        asking = threading.Thread(target=lambda: answers.append(agent.alive("127.0.0.1")), daemon=True)
        dripping.start()
        asking.start()
        asking.join(30)
        enough.set()
        dripping.join(30)
    assert answers == [False]


def test_one_that_accepts_and_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "PROBE_TIMEOUT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(agent, "AGENT_PORT", server.getsockname()[1])
        assert not agent.alive("127.0.0.1")


class Clock:
    """A time in which nothing passes but what is slept."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(agent, "time", made)
    return made


def test_it_is_asked_until_it_answers(clock: Clock) -> None:
    answers = iter([False, False, True])
    assert agent.wait_alive(lambda: next(answers), lambda: True, 5)


def test_it_is_given_up_at_the_deadline(clock: Clock) -> None:
    assert not agent.wait_alive(lambda: False, lambda: True, 30)
    assert 1030 < clock.now < 1031


def test_a_container_that_has_stopped_is_not_waited_for(clock: Clock) -> None:
    assert not agent.wait_alive(lambda: False, lambda: False, 30)
    assert clock.now < 1001
