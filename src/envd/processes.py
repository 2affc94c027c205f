"""The processes that clients started: their output, input, signals and end. Owns these child processes.

Output goes from pipe to subscribers through short queues, so the slowest subscriber sets the pace of the process and
memory stays bounded; without subscribers it is dropped, and the process never waits.
"""

import asyncio
import base64
import os
import signal
from collections.abc import AsyncIterator
from typing import IO

from envd.codec import JsonObject
from envd.errors import EnvdError, not_found
from envd.pipes import InputPipe, read_piece
from envd.spawn import Child, Command
from envd.terminals import hang_up, resize

CHUNK_BYTES = 32 * 1024
TERMINAL_CHUNK_BYTES = 16 * 1024
TERMINAL_REST_BYTES = 64 * 1024  # above what the kernel holds for a terminal: 8 KiB and a line discipline's 4
QUEUE_EVENTS = 4  # per subscriber: 4 x 32 KiB, enough to keep a fast reader busy
END_KEPT_S = 30.0  # for how long a late Connect still learns how the process ended


class Subscription:
    """One client's view of a process: what happens from now on, until the end."""

    def __init__(self, ended: JsonObject | None) -> None:
        """Of a process that has `ended` already, its end is all there is to see."""
        self._queue: asyncio.Queue[JsonObject] = asyncio.Queue(QUEUE_EVENTS)
        self._closed = False
        if ended is not None:
            self._queue.put_nowait(ended)

    async def put(self, event: JsonObject) -> None:
        """Hand over an event; waits while the subscriber is behind."""
        if not self._closed:
            await self._queue.put(event)

    def close(self) -> None:
        """Take no more, and release who waits in `put` (there are at most as many of them as queue places)."""
        self._closed = True
        while not self._queue.empty():
            self._queue.get_nowait()

    async def events(self, keepalive_s: float) -> AsyncIterator[JsonObject]:
        """The events up to and including the end; a keepalive after `keepalive_s` seconds of silence."""
        ended = False
        while not ended:
            try:
                async with asyncio.timeout(keepalive_s):
                    event = await self._queue.get()
            except TimeoutError:
                event = {"keepalive": {}}
            ended = "end" in event
            yield event


class Process:
    """A child process. `ended` is its terminal event, None while it lives or something holds its output open."""

    def __init__(self, command: Command, tag: str | None, child: Child) -> None:
        self.command = command
        self.tag = tag
        self.pid = child.popen.pid
        self.has_terminal = child.has_terminal
        self.ended: JsonObject | None = None
        self._child = child
        self._input = InputPipe(child.input) if child.input is not None else None
        self._exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._subscriptions: set[Subscription] = set()

    async def run(self) -> None:
        """Carry the output until all of it is out and the leader has exited, then tell the end.

        A terminal is hung up when its leader has exited: what that left in the background reads and writes no more.
        """
        carry = self._carry_terminal if self.has_terminal else self._carry
        await asyncio.gather(*(carry(name, pipe) for name, pipe in self._child.outputs.items()))
        await asyncio.wait({self._exited})
        self.close_input()
        self.ended = {"end": _end(self._child.popen.wait())}
        await self._publish(self.ended)

    @property
    def exited(self) -> bool:
        """Whether the leader has exited; others of its group may go on."""
        return self._exited.done()

    def notice_exit(self) -> None:
        """Find out whether the leader has exited. It stays a zombie until `ended`, so that its pid stays its own."""
        if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            self._exited.set_result(None)

    def subscribe(self) -> Subscription:
        """Follow the process from now on; whoever subscribes must unsubscribe."""
        subscription = Subscription(self.ended)
        self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        self._subscriptions.discard(subscription)
        subscription.close()

    def signal(self, number: signal.Signals) -> None:
        """Signal the leader and all of its process group: the shell, and what it waits for. After the end, nobody.

        In a terminal each job of the shell is a group of its own: SIGKILL to the leader hangs them up.
        """
        if self.ended is not None:
            return
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:  # in a terminal, before `setsid` has made the group
            os.kill(self.pid, number)
        except PermissionError as error:  # only where the agent is not root
            raise EnvdError("permission_denied", f"cannot signal process {self.pid}: {error.strerror}") from None
        if self.has_terminal and number == signal.SIGKILL:
            hang_up(self.pid)

    async def write(self, data: bytes, *, terminal: bool) -> None:
        """Write to stdin, or to the terminal; waits while the process does not read."""
        if terminal != self.has_terminal:
            kinds = ("a terminal", "stdin") if terminal else ("stdin", "a terminal")
            raise EnvdError("internal", f"error writing to {kinds[0]}: the process has {kinds[1]} instead")
        if self._input is None:
            raise EnvdError("internal", "error writing to stdin: stdin not enabled or closed")
        try:
            await self._input.write(data)
        except OSError as error:
            reason = "stdin not enabled or closed" if self._input.closed else error.strerror
            raise EnvdError("internal", f"error writing to stdin: {reason}") from None

    def close_stdin(self) -> None:
        """Let the process read an end of file; a second time changes nothing."""
        if self.has_terminal:
            reason = "cannot close stdin for PTY process — send Ctrl+D (0x04) instead"
            raise EnvdError("unknown", f"error closing stdin: {reason}")
        self.close_input()

    def close_input(self) -> None:
        if self._input is not None:
            self._input.close()

    def resize(self, columns: int, rows: int) -> None:
        if not self.has_terminal or self._input is None or self._input.closed:
            raise EnvdError("failed_precondition", f"process with pid {self.pid} has no terminal")
        resize(self._input.fileno(), columns, rows)

    async def _carry(self, name: str, pipe: IO[bytes]) -> None:
        with pipe:
            while data := await read_piece(pipe, CHUNK_BYTES):
                await self._publish_data(name, data)

    async def _carry_terminal(self, name: str, pipe: IO[bytes]) -> None:
        rest_bytes = TERMINAL_REST_BYTES  # a job in the background may write faster than it is read, for ever
        with pipe:
            while rest_bytes > 0 and (data := await read_piece(pipe, TERMINAL_CHUNK_BYTES, until=self._exited)):
                if self.exited:
                    rest_bytes -= len(data)
                await self._publish_data(name, data)

    async def _publish_data(self, name: str, data: bytes) -> None:
        if self._subscriptions:
            await self._publish({"data": {name: base64.b64encode(data).decode()}})

    async def _publish(self, event: JsonObject) -> None:
        for subscription in tuple(self._subscriptions):
            await subscription.put(event)


class ProcessTable:
    """All processes by pid, those that ended within the last END_KEPT_S seconds among them."""

    def __init__(self) -> None:
        self._processes: dict[int, Process] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, command: Command, tag: str | None, child: Child) -> Process:
        """Adopt a child that was started in this very turn of the event loop, and carry its output from now on."""
        process = Process(command, tag, child)
        self._processes[process.pid] = process
        task = asyncio.get_running_loop().create_task(self._run(process))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return process

    def by_pid(self, pid: int, *, ended: bool = False) -> Process:
        """The process; with `ended` also one that has ended. Raises `not_found`."""
        process = self._processes.get(pid)
        if process is None or (process.ended is not None and not ended):
            raise not_found(f"process with pid {pid} not found")
        return process

    def by_tag(self, tag: str, *, ended: bool = False) -> Process:
        """The youngest process with this tag; see `by_pid`."""
        for process in reversed(self._processes.values()):
            if process.tag == tag and (process.ended is None or ended):
                return process
        raise not_found(f"process with tag {tag} not found")

    def living(self) -> list[Process]:
        return [process for process in self._processes.values() if process.ended is None]

    def notice_exits(self) -> None:
        """To be called after SIGCHLD: signals coalesce, so everyone is asked."""
        for process in self._processes.values():
            if not process.exited:
                process.notice_exit()

    def abandon(self) -> None:
        """Tell nobody anything more of the processes, least of all their ends; they themselves go on."""
        for task in self._tasks:
            task.cancel()

    async def _run(self, process: Process) -> None:
        await process.run()
        await asyncio.sleep(END_KEPT_S)
        if self._processes.get(process.pid) is process:
            del self._processes[process.pid]


def _end(returncode: int) -> JsonObject:
    """The end event, in the words of Go's os/exec, which clients show and match."""
    if returncode < 0:
        status = f"signal: {signal.strsignal(-returncode) or -returncode}".lower()
        return {"exitCode": -1, "exited": False, "status": status, "error": status}
    status = f"exit status {returncode}"
    return {"exitCode": returncode, "exited": True, "status": status, **({"error": status} if returncode else {})}
