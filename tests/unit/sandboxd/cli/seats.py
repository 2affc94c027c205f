"""A person at a terminal: `docker-sandbox` on one end of a real pseudo-terminal, a test on the other."""

import os
import select
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.unit.sandboxd.cli.doubles import DEADLINE_S, Cli

PROMPT = b"ready> "


class Seat:
    """`read_until` returns what was shown since its last call. `settings` are those of the terminal from before."""

    def __init__(self, cli: Cli, *arguments: str, **environment: str) -> None:
        self._leader, self._terminal = os.openpty()
        self._closed = False
        self._shown = b""
        self.resize(80, 24)
        self.settings = self.settings_now()
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *cli.words(*arguments)],
            stdin=self._terminal,
            stdout=self._terminal,
            stderr=self._terminal,
            env={**os.environ, "TERM": "xterm", **environment},
        )

    def settings_now(self) -> list[Any]:
        return termios.tcgetattr(self._terminal)

    def is_raw(self) -> bool:
        return not self.settings_now()[3] & (termios.ECHO | termios.ICANON | termios.ISIG)

    def set(self, settings: list[Any]) -> None:
        termios.tcsetattr(self._terminal, termios.TCSANOW, settings)

    def resize(self, columns: int, rows: int) -> None:
        termios.tcsetwinsize(self._leader, (rows, columns))

    def type(self, keys: bytes) -> None:
        while keys:
            keys = keys[os.write(self._leader, keys) :]

    def run(self, line: str) -> None:
        self.type(line.encode() + b"\r")

    def read_until(self, words: bytes) -> bytes:
        """What was shown before `words`."""
        deadline = time.monotonic() + DEADLINE_S
        while words not in self._shown:
            left_s = deadline - time.monotonic()
            assert left_s > 0 and select.select([self._leader], [], [], left_s)[0], f"no {words!r} in {self._shown!r}"
            self._shown += os.read(self._leader, 65536)
        before, _, self._shown = self._shown.partition(words)
        return before

    def prompt(self) -> None:
        """Waits for the login shell, and gives it a prompt that a test can wait for, without decoration."""
        self.run("bind 'set enable-bracketed-paste off'; PS1='rea''dy> '")
        self.read_until(PROMPT)

    def end(self) -> int:
        """Waits for the end, as what is shown is read. Returns the exit code."""
        deadline = time.monotonic() + DEADLINE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it goes on; it has shown {self._shown!r}"
            if select.select([self._leader], [], [], 0.01)[0]:
                self._shown += os.read(self._leader, 65536)
        while select.select([self._leader], [], [], 0)[0]:
            self._shown += os.read(self._leader, 65536)
        return self.process.returncode

    def rest(self) -> str:
        """What was shown and not read yet."""
        shown, self._shown = self._shown, b""
        return shown.decode()

    def hang_up(self) -> None:
        """The window is closed."""
        os.close(self._terminal)
        os.close(self._leader)
        self._closed = True

    def close(self) -> None:
        if not self._closed:
            self.hang_up()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise


@contextmanager
def seated(cli: Cli, *arguments: str, **environment: str) -> Iterator[Seat]:
    seat = Seat(cli, *arguments, **environment)
    try:
        yield seat
    finally:
        seat.close()
