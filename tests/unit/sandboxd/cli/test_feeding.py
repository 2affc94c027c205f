"""Standard input on its way to a process of the real agent."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sandboxd.cli.agent import Agent
from sandboxd.cli.feeding import Feeder, wanted
from tests.unit.envd.client import eventually
from tests.unit.sandboxd.cli.doubles import DEADLINE_S, Relay


class Pipe:
    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self._open = [self.reader, self.writer]

    def close(self) -> None:
        for fd in self._open:
            os.close(fd)

    def end(self) -> None:
        os.close(self.writer)
        self._open.remove(self.writer)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


@pytest.fixture
def start(relayed: Agent) -> Iterator[Any]:
    """Starts a shell command of which nobody reads the output; returns its pid."""
    started: list[int] = []

    def begin(command: str) -> int:
        connection = relayed.connect()
        message = {"process": {"cmd": "/bin/bash", "args": ["-c", command]}, "stdin": True}
        pid = int(next(relayed.start(connection, message))["start"]["pid"])
        connection.close()
        started.append(pid)
        return pid

    yield begin
    alive = {process["pid"] for process in relayed.call("process.Process/List", {}).get("processes", [])}
    for pid in alive & set(started):
        with suppress(ProcessLookupError):  # it has ended since
            os.kill(pid, signal.SIGKILL)


def test_what_is_wanted(tmp_path: Path, pipe: Pipe) -> None:
    (tmp_path / "file").touch()
    assert wanted(pipe.reader)
    for path, expected in ((tmp_path / "file", True), (Path("/dev/zero"), True), (Path(os.devnull), False)):
        with path.open("rb") as file:
            assert wanted(file.fileno()) is expected, path
    assert not wanted(1_000_000), "closed"
    leader, terminal = os.openpty()
    assert not wanted(terminal)
    os.close(leader)
    os.close(terminal)


def test_all_of_it_arrives_and_then_its_end(start: Any, relayed: Agent, pipe: Pipe, tmp_path: Path) -> None:
    feeder = Feeder(
        relayed, pipe.reader, start(f"cat >{tmp_path}/part; mv {tmp_path}/part {tmp_path}/whole"), lambda: None
    )
    feeder.start()
    data = os.urandom(300_000)
    for begin in range(0, len(data), 50_000):
        os.write(pipe.writer, data[begin : begin + 50_000])
    assert not (tmp_path / "whole").exists()
    pipe.end()
    eventually((tmp_path / "whole").exists, "the process has read to the end")
    assert (tmp_path / "whole").read_bytes() == data and feeder.failure == ""


def test_an_end_without_input(start: Any, relayed: Agent, pipe: Pipe, tmp_path: Path) -> None:
    feeder = Feeder(relayed, pipe.reader, start(f"cat; touch {tmp_path}/done"), lambda: None)
    feeder.start()
    pipe.end()
    eventually((tmp_path / "done").exists, "the process has seen the end")
    assert feeder.failure == ""


@pytest.mark.parametrize("command", ["true", "exec <&-; sleep 300"])
def test_a_process_that_takes_no_more_is_no_failure(start: Any, relayed: Agent, command: str) -> None:
    with open("/dev/zero", "rb") as endless:
        feeder = Feeder(relayed, endless.fileno(), start(command), lambda: None)
        feeder.start()
        eventually(lambda: not feeder._thread.is_alive(), "it has given up")
    assert feeder.failure == ""


def test_the_pace_is_that_of_the_process(start: Any, relayed: Agent, relay: Relay) -> None:
    """One that does not read holds the input up, and no memory fills."""

    def rests() -> bool:
        before = relay.forwarded
        feeder._thread.join(0.05)
        return 0 < before == relay.forwarded

    pid = start("exec sleep 300")
    with open("/dev/zero", "rb") as endless:
        feeder = Feeder(relayed, endless.fileno(), pid, lambda: None)
        feeder.start()
        eventually(rests, "nothing moves any more")
        assert feeder._thread.is_alive() and feeder.failure == ""
        # Its thread must end before the file is closed: it would go on with whatever gets the same number next.
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not feeder._thread.is_alive(), "it has given up")


def test_a_connection_that_breaks_is_told(start: Any, relayed: Agent, relay: Relay, pipe: Pipe) -> None:
    told = threading.Event()
    feeder = Feeder(relayed, pipe.reader, start("sleep 300"), told.set)
    feeder.start()
    os.write(pipe.writer, b"first")
    eventually(lambda: relay.forwarded > 500, "the first piece is under way")
    relay.cut()
    os.set_blocking(pipe.writer, False)  # it may have noticed already, and then nobody empties the pipe

    def noticed() -> bool:
        with suppress(BlockingIOError):
            os.write(pipe.writer, bytes(1_000))
        return told.is_set()

    eventually(noticed, "the next pieces do not get through")
    assert feeder.failure


def test_an_input_that_cannot_be_read_is_told(start: Any, relayed: Agent, tmp_path: Path) -> None:
    told = threading.Event()
    fd = os.open(tmp_path, os.O_RDONLY)
    feeder = Feeder(relayed, fd, start("cat"), told.set)
    feeder.start()
    assert told.wait(DEADLINE_S) and "Is a directory" in feeder.failure
    os.close(fd)
