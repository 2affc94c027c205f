"""`process.Process` of the protocol: turns its messages into calls on the process table."""

import asyncio
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing

from envd import fields
from envd.codec import JsonObject
from envd.connect import Call, ClientStream, Method, ServerStream, Unary
from envd.errors import EnvdError, invalid_argument
from envd.processes import Process, ProcessTable
from envd.spawn import Command, spawn

SIGNALS: Mapping[str | int, signal.Signals] = {
    "SIGNAL_SIGKILL": signal.SIGKILL,
    "SIGNAL_SIGTERM": signal.SIGTERM,
    "SIGNAL_SIGHUP": signal.SIGHUP,  # ours: E2B's clients cannot ask a shell to end, for it ignores SIGTERM
    1: signal.SIGHUP,
    9: signal.SIGKILL,
    15: signal.SIGTERM,
}
DEFAULT_TERMINAL_SIZE = (80, 24)


class ProcessService:
    """One method of this class for each of the service's."""

    def __init__(self, table: ProcessTable) -> None:
        self._table = table

    def methods(self) -> dict[str, Method]:
        return {
            "Start": ServerStream(self.start),
            "Connect": ServerStream(self.connect),
            "List": Unary(self.list),
            "SendInput": Unary(self.send_input),
            "StreamInput": ClientStream(self.stream_input),
            "CloseStdin": Unary(self.close_stdin),
            "SendSignal": Unary(self.send_signal),
            "Update": Unary(self.update),
        }

    async def start(self, call: Call, message: JsonObject) -> AsyncGenerator[JsonObject, None]:
        """Run a command and follow it. A client that leaves lets it live; the deadline kills it and its group.

        Where the leader has gone before the deadline and only something in the background holds the stream open
        (`server &`), that goes on.
        """
        command = _command(message)
        process = self._table.add(command, fields.text(message, "tag") or None, spawn(command, call.user, call.config))
        try:
            async with aclosing(_follow(process, call.keepalive_s)) as answers:
                async for answer in answers:
                    yield answer
        finally:
            if _deadline_is_reached(call) and not process.exited:
                process.signal(signal.SIGKILL)

    async def connect(self, call: Call, message: JsonObject) -> AsyncGenerator[JsonObject, None]:
        """Follow a process that was started before; its own deadline ends this stream and nothing else."""
        process = self._selected(message, ended=True)
        async with aclosing(_follow(process, call.keepalive_s)) as answers:
            async for answer in answers:
                yield answer

    async def list(self, call: Call, message: JsonObject) -> JsonObject:
        return {"processes": [_info(process) for process in self._table.living()]}

    async def send_input(self, call: Call, message: JsonObject) -> JsonObject:
        await _write_input(self._selected(message), fields.nested(message, "input"))
        return {}

    async def stream_input(self, call: Call, messages: AsyncIterator[JsonObject]) -> JsonObject:
        """The first message selects the process, the others are input for it."""
        process: Process | None = None
        async for message in messages:
            if "start" in message:
                process = self._selected(fields.nested(message, "start"))
            elif "data" in message:
                if process is None:
                    raise invalid_argument("input came before the start message that selects its process")
                await _write_input(process, fields.nested(fields.nested(message, "data"), "input"))
        return {}

    async def close_stdin(self, call: Call, message: JsonObject) -> JsonObject:
        self._selected(message).close_stdin()
        return {}

    async def send_signal(self, call: Call, message: JsonObject) -> JsonObject:
        process = self._selected(message)
        asked = message.get("signal")
        number = SIGNALS.get(asked) if isinstance(asked, str | int) and not isinstance(asked, bool) else None
        if number is None:
            raise EnvdError("unimplemented", f"signal {fields.shown(asked)} is not supported")
        process.signal(number)
        return {}

    async def update(self, call: Call, message: JsonObject) -> JsonObject:
        process = self._selected(message)
        if message.get("pty") is not None:
            process.resize(*_terminal_size(message))
        return {}

    def _selected(self, message: JsonObject, *, ended: bool = False) -> Process:
        selector = fields.nested(message, "process")
        if "pid" in selector:
            return self._table.by_pid(fields.integer(selector, "pid"), ended=ended)
        if "tag" in selector:
            return self._table.by_tag(fields.text(selector, "tag"), ended=ended)
        raise EnvdError("unimplemented", f"process selector {fields.shown(selector)} names neither pid nor tag")


async def _follow(process: Process, keepalive_s: float) -> AsyncGenerator[JsonObject, None]:
    subscription = process.subscribe()
    try:
        yield {"event": {"start": {"pid": process.pid}}}
        async for event in subscription.events(keepalive_s):
            yield {"event": event}
    finally:
        process.unsubscribe(subscription)


def _deadline_is_reached(call: Call) -> bool:
    """Whether the stream ended because its time was up.

    Clients keep the same deadline and started counting a little earlier, so when they hang up shortly before it,
    it is the deadline and not a wish to leave the process alone.
    """
    if call.deadline_s is None or call.timeout_s is None:
        return False
    early_s = min(1.0, call.timeout_s / 4)
    return asyncio.get_running_loop().time() >= call.deadline_s - early_s


def _command(message: JsonObject) -> Command:
    process = fields.nested(message, "process")
    cmd = fields.text(process, "cmd")
    if not cmd:
        raise invalid_argument("field 'process.cmd' is empty")
    return Command(
        cmd=cmd,
        args=tuple(fields.text_list(process, "args")),
        envs=fields.text_map(process, "envs"),
        cwd=fields.text(process, "cwd") or None,
        stdin=fields.boolean(message, "stdin", default=True),  # clients older than the flag count on an open stdin
        terminal_size=_terminal_size(message) if message.get("pty") is not None else None,
    )


def _terminal_size(message: JsonObject) -> tuple[int, int]:
    size = fields.nested(fields.nested(message, "pty"), "size")
    columns, rows = fields.integer(size, "cols"), fields.integer(size, "rows")
    if not (0 <= columns < 65536 and 0 <= rows < 65536):
        raise invalid_argument(f"terminal size {columns}x{rows} is out of range")
    return (columns or DEFAULT_TERMINAL_SIZE[0], rows or DEFAULT_TERMINAL_SIZE[1])


def _info(process: Process) -> JsonObject:
    command = process.command
    config = {"cmd": command.cmd, "args": list(command.args), "envs": dict(command.envs)}
    if command.cwd is not None:
        config["cwd"] = command.cwd
    return {"config": config, "pid": process.pid, **({} if process.tag is None else {"tag": process.tag})}


async def _write_input(process: Process, source: JsonObject) -> None:
    for name, terminal in (("stdin", False), ("pty", True)):
        if name in source:
            await process.write(fields.data(source, name), terminal=terminal)
            return
    raise EnvdError("unimplemented", f"input {fields.shown(source)} is neither stdin nor pty")
