"""`docker-sandbox shell` on a host, over SSH with a terminal, as a person uses it."""

import os
import select
import subprocess
import termios
import time
from collections.abc import Iterator

import pytest

from tests.host.machine import Machine, Sandbox

DEADLINE_S = 60


class Seat:
    """A terminal of ours with `ssh -tt` in it."""

    def __init__(self, machine: Machine, command: str) -> None:
        self._leader, terminal = os.openpty()
        self.resize(100, 30)
        ssh, *words = machine.command(f"{command}; echo code $?")
        self._ssh = subprocess.Popen(
            ["setsid", "--ctty", ssh, "-tt", "-e", "none", *words],  # with -e none the escape is not ssh's
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**os.environ, "TERM": "xterm"},
        )
        os.close(terminal)
        self._shown = b""

    def resize(self, columns: int, rows: int) -> None:
        termios.tcsetwinsize(self._leader, (rows, columns))

    def type(self, keys: str) -> None:
        os.write(self._leader, keys.encode())

    def read_until(self, words: str) -> str:
        """What was shown before `words`."""
        deadline = time.monotonic() + DEADLINE_S
        while words.encode() not in self._shown:
            left_s = deadline - time.monotonic()
            assert left_s > 0 and select.select([self._leader], [], [], left_s)[0], f"no {words!r} in {self._shown!r}"
            self._shown += os.read(self._leader, 65536)
        before, _, self._shown = self._shown.partition(words.encode())
        return before.decode(errors="replace")

    def close(self) -> None:
        os.close(self._leader)
        self._ssh.terminate()
        self._ssh.wait(DEADLINE_S)


@pytest.fixture
def sandbox(machine: Machine) -> Iterator[Sandbox]:
    with machine.sandbox() as made:
        yield made


@pytest.fixture
def seat(machine: Machine, sandbox: Sandbox) -> Iterator[Seat]:
    made = Seat(machine, f"docker-sandbox shell {sandbox.id}")
    made.type("PS1='rea''dy> '\r")
    made.read_until("ready> ")
    yield made
    made.close()


def test_a_terminal_in_a_sandbox(seat: Seat) -> None:
    seat.type("id -un; pwd; stty size; tty; echo $TERM $LANG; test -O $(tty) && echo mi''ne\r")
    shown = seat.read_until("mine\r\n").split()
    assert shown[-7:-3] == ["user", "/code", "30", "100"] and shown[-2:] == ["xterm", "C.UTF-8"]
    assert shown[-3].startswith("/dev/pts/")
    seat.resize(120, 40)
    seat.type("until stty size | grep '40 120'; do sleep 0.1; done\r")
    seat.read_until("40 120\r\n")
    seat.type("sh -c 'echo be\"\"gun; exec sleep 300'\r")
    seat.read_until("begun\r\n")
    seat.type("\x03")
    seat.read_until("ready> ")
    seat.type("less /etc/passwd\r")
    seat.read_until("\x1b[?1049h")
    seat.type("q")
    seat.read_until("\x1b[?1049l")
    seat.type("exit 7\r")
    seat.read_until("code 7\r\n")


def test_the_escape_leaves_nothing_behind(seat: Seat, sandbox: Sandbox) -> None:
    seat.type("sleep 300 & sh -c 'echo be\"\"gun; exec sleep 301'\r")
    seat.read_until("begun\r\n")
    seat.type("\r~.")
    seat.read_until("code 129\r\n")
    sandbox.run("timeout 20 sh -c 'while pgrep sleep; do :; done'")


def test_without_a_terminal_it_is_refused(machine: Machine, sandbox: Sandbox) -> None:
    done = machine.run(f"docker-sandbox shell {sandbox.id}", check=False)
    assert done.returncode == 2 and "docker-sandbox exec" in done.stderr
