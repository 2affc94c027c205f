"""One program in a terminal of a sandbox, shown in ours: keys go there, output comes here, the size is told.

A single loop waits for all of it, so that the escape and signals work however busy or dead the other side is.
"""

import binascii
import json
import os
import select
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sandboxd.cli.agent import KEEPALIVE_S, Agent
from sandboxd.cli.execute import SILENCE_S, exit_code
from sandboxd.cli.exits import SIGNALLED, CliError
from sandboxd.cli.http1 import Connection
from sandboxd.cli.interrupts import Interrupts
from sandboxd.cli.keyboard import Escapes, Keyboard
from sandboxd.cli.modes import Modes
from sandboxd.cli.output import unhurried, write_some
from sandboxd.cli.terminal import Terminal

STDIN, STDOUT = 0, 1
SIGHUP = 1
KEYS_BYTES = 16 * 1024
SHOWN_BYTES = 4096  # written at once: as much as a pipe takes without waiting when it takes anything


class Left(Exception):
    """The user, or a signal to us, has left the session. `code` is our exit code."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


class Session:
    """From the start of a program to its end. `pid` is 0 before it runs."""

    def __init__(self, agent: Agent, terminal: Terminal, interrupts: Interrupts) -> None:
        self.pid = 0
        self.screen = Modes()
        self._agent, self._terminal, self._interrupts = agent, terminal, interrupts
        self._escapes = Escapes()
        self._display = unhurried(STDOUT) if os.isatty(STDOUT) else STDOUT
        self._keyboard: Keyboard | None = None
        self._window: Window | None = None
        self._heard = time.monotonic()

    def run(self, process: dict[str, Any]) -> int:
        """Starts `process`, and returns its exit code. Our terminal is raw from then on.

        Raises Left; AgentError when the agent refuses; OSError when the connection breaks; what `write_some` raises.
        """
        size = self._terminal.size()
        connection = self._agent.connect()
        connection.wait = lambda: self._attend(source=connection)
        try:
            for event in self._agent.start(connection, {"process": process, "pty": pty(size)}):
                if start := event.get("start"):
                    self._started(start["pid"], size)
                elif data := event.get("data"):
                    self._show(binascii.a2b_base64(data.get("pty", "")))
                elif (end := event.get("end")) is not None:
                    return exit_code(end)
                self._heard = time.monotonic()  # now, since our own terminal may have kept us waiting
        finally:
            connection.close()
            if self._keyboard is not None:
                self._keyboard.close()
            if self._window is not None:
                self._window.close()
        raise CliError("the agent ended the stream without the end of the program.")

    def _started(self, pid: int, size: tuple[int, int]) -> None:
        self.pid = pid
        self._keyboard = Keyboard(self._agent, pid)
        self._window = Window(self._agent, pid, size)
        self._terminal.make_raw()

    def _show(self, output: bytes) -> None:
        self.screen.note(output)
        view = memoryview(output)
        while view:
            self._attend(sink=self._display)
            view = view[write_some(self._display, view[:SHOWN_BYTES]) :]

    def _attend(self, source: Connection | None = None, sink: int | None = None) -> None:
        """Serve keyboard, window and signals until `source` can be read, or `sink` be written to."""
        wanted_reads = [] if source is None else [source.socket]
        wanted_writes = [] if sink is None else [sink]
        while True:
            if self._interrupts.received is not None:
                raise Left(SIGNALLED + self._interrupts.received)
            silent_s = time.monotonic() - self._heard
            if source is not None and silent_s >= SILENCE_S:
                raise TimeoutError(f"the agent has been silent for {SILENCE_S:.0f} s")
            reads: list[Any] = [*wanted_reads, self._interrupts]
            writes: list[Any] = [*wanted_writes]
            timeouts_s = [float(KEEPALIVE_S) if source is None else SILENCE_S - silent_s]
            if self._keyboard is not None and self._window is not None:
                self._window.tell(self._terminal.size())
                timeouts_s.append(self._keyboard.keep_alive())
                reads += [self._window] if self._window.busy else []
                reads += [STDIN] if not self._keyboard.full else []
                reads += [self._keyboard] if self._keyboard.open else []
                writes += [self._keyboard] if self._keyboard.pending else []
            readable, writable, _ = select.select(reads, writes, [], min(timeouts_s))
            self._serve(readable, writable)
            if any(each in readable for each in wanted_reads) or any(each in writable for each in wanted_writes):
                return

    def _serve(self, readable: Sequence[Any], writable: Sequence[Any]) -> None:
        if self._interrupts in readable:
            self._interrupts.clear()
        if self._keyboard is None or self._window is None:
            return
        if self._window in readable:
            self._window.read_answer()
        if self._keyboard in readable:
            self._keyboard.read_answer()
        if self._keyboard in writable:
            self._keyboard.send()
        if STDIN in readable:
            self._type(self._keyboard)

    def _type(self, keyboard: Keyboard) -> None:
        try:
            keys = os.read(STDIN, KEYS_BYTES)
        except OSError:
            keys = b""
        if not keys:  # our terminal is gone
            raise Left(SIGNALLED + SIGHUP)
        passed, leave = self._escapes.take(keys)
        if leave:
            raise Left(SIGNALLED + SIGHUP)
        keyboard.type(passed)


class Window:
    """The size of our terminal, told to that of process `pid`: one change at a time, without waiting for the answer.

    Wait for it as for a file while it is `busy`, then call `read_answer`.
    """

    def __init__(self, agent: Agent, pid: int, size: tuple[int, int]) -> None:
        self._agent, self._pid = agent, pid
        self._told = size
        self._connection: Connection | None = None

    @property
    def busy(self) -> bool:
        return self._connection is not None

    def fileno(self) -> int:
        return -1 if self._connection is None else self._connection.socket.fileno()

    def tell(self, size: tuple[int, int]) -> None:
        """Tells it if it has changed and the last one has arrived; call it again when it has."""
        if self._connection is not None or size in (self._told, (0, 0)):
            return
        self._told = size
        body = json.dumps({"process": {"pid": self._pid}, "pty": pty(size)}).encode()
        headers = self._agent.headers("application/json")
        self._connection = self._agent.connect()
        self._connection.begin("POST", "/process.Process/Update", headers, len(body))
        self._connection.socket.sendall(body)

    def read_answer(self) -> None:
        """Whatever it says: a program that has gone needs no size, and for a size alone no session has to end."""
        if self._connection is not None:
            with suppress(OSError):
                self._connection.response().read_all()
            self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def pty(size: tuple[int, int]) -> dict[str, Any]:
    """A terminal of `size` (columns, rows), in the words of the protocol."""
    return {"size": {"cols": size[0], "rows": size[1]}}
