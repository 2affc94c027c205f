"""The verb `exec`: runs a command in a sandbox, passes its streams on as bytes, ends with its exit code."""

import binascii
import json
import signal
import time
from argparse import Namespace
from typing import Any

from sandboxd.cli import feeding, place
from sandboxd.cli.agent import KEEPALIVE_S, Agent, AgentError
from sandboxd.cli.control import ControlPlane, sandbox_path
from sandboxd.cli.exits import FAILED, NOT_FOUND, OK, SIGNALLED, TIMED_OUT, USAGE, CliError
from sandboxd.cli.interrupts import Interrupts
from sandboxd.cli.output import OutputError, ReaderGone, write_all
from sandboxd.cli.printing import warn

STDIN, STDOUT, STDERR = 0, 1, 2
SILENCE_S = KEEPALIVE_S * 3.0  # without a word for so long, the agent or the network is gone
LATE_S = 5.0  # the agent keeps the deadline; when it does not, we do, so much later
GRACE_S = 3.0  # between a signal that asks and the next one that insists
INSIST = (signal.SIGTERM, signal.SIGKILL)


class TimedOut(Exception):
    """The deadline of the command has passed."""


class Stopped(Exception):
    """The command did not end after the signals that were passed on."""


def run(options: Namespace, config: str) -> int:
    if options.background and options.timeout is not None:
        raise CliError("--timeout does not hold for --background: put `timeout 600 ...` into the command.", USAGE)
    where = place.read(config)
    control = ControlPlane(where.socket)
    agent = Agent(where.gateway, control.sandbox(options.id), options.user)
    if options.background:
        with agent.doubted():
            return start_background(agent, options)
    with agent.doubted(), Interrupts() as interrupts:
        return in_foreground(control, agent, options, interrupts, stdin=feeding.wanted(STDIN))


def start_background(agent: Agent, options: Namespace) -> int:
    """Returns as soon as the process runs. Whoever starts it need not follow it: the agent drops its output then."""
    connection = agent.connect()
    try:
        first = next(agent.start(connection, start_message(options, stdin=False)))
    except OSError as error:
        raise agent.broken(error) from error
    finally:
        connection.close()
    pid = first["start"]["pid"]
    print(json.dumps({"pid": pid}) if options.json else pid)
    return OK


def in_foreground(
    control: ControlPlane, agent: Agent, options: Namespace, interrupts: Interrupts, *, stdin: bool
) -> int:
    """Runs `options.command` to its end and returns its exit code. `stdin`: ours is passed on. Raises CliError."""
    try:
        return Execution(agent, options, interrupts, stdin).run()
    except AgentError:
        raise
    except OSError as error:
        raise lost(control, agent, error) from error


def start_message(options: Namespace, stdin: bool) -> dict[str, Any]:
    process: dict[str, Any] = {"cmd": "/bin/bash", "args": ["-l", "-c", options.command], "envs": dict(options.env)}
    if options.cwd:
        process["cwd"] = options.cwd
    return {"process": process, "stdin": stdin}


class Execution:
    """One command in the foreground, from its start to its end."""

    def __init__(self, agent: Agent, options: Namespace, interrupts: Interrupts, stdin: bool) -> None:
        self._agent, self._options, self._interrupts, self._stdin = agent, options, interrupts, stdin
        self._pid = 0
        self._feeder: feeding.Feeder | None = None
        self._deadline = None if options.timeout is None else time.monotonic() + options.timeout + LATE_S
        self._heard = time.monotonic()
        self._signals: list[signal.Signals] = []  # still to be sent, the next one at `_next_signal`
        self._next_signal = 0.0
        self._kept: dict[str, list[bytes]] = {"stdout": [], "stderr": []}

    def run(self) -> int:
        """Returns the exit code. Raises CliError, and OSError when the connection breaks."""
        code = self._outcome()
        if self._options.json:
            texts = {name: b"".join(pieces).decode(errors="replace") for name, pieces in self._kept.items()}
            print(json.dumps({"exitCode": code, "timedOut": code == TIMED_OUT, "pid": self._pid, **texts}, indent=2))
        return code

    def _outcome(self) -> int:
        try:
            code = self._follow()
        except TimedOut:
            self._kill()
            return TIMED_OUT
        except ReaderGone:
            self._kill()
            return SIGNALLED + signal.SIGPIPE
        except OutputError:
            self._kill()
            raise
        except (Stopped, KeyboardInterrupt):
            self._kill()
            return SIGNALLED + (self._interrupts.received or signal.SIGINT)
        if self._interrupts.received is not None:
            return SIGNALLED + self._interrupts.received
        return code

    def _follow(self) -> int:
        connection = self._agent.connect()
        connection.wait = lambda: self._interrupts.wait_readable(connection.socket, self._look)
        try:
            message = start_message(self._options, self._stdin)
            for event in self._agent.start(connection, message, self._options.timeout):
                if start := event.get("start"):
                    self._started(start["pid"])
                elif data := event.get("data"):
                    self._pass_on(data)
                elif (end := event.get("end")) is not None:
                    return exit_code(end)
                self._heard = time.monotonic()  # now, since our own reader may have kept us waiting
        except AgentError as error:
            if error.code == "deadline_exceeded" and self._options.timeout is not None:
                raise TimedOut from error
            raise
        finally:
            connection.close()
        raise CliError("the agent ended the stream without the end of the command.")

    def _started(self, pid: int) -> None:
        self._pid = pid
        if self._signals:  # one came before we knew whom to pass it on to
            self._next_signal = time.monotonic()
        if self._stdin:
            self._feeder = feeding.Feeder(self._agent, STDIN, pid, self._interrupts.wake)
            self._feeder.start()

    def _pass_on(self, data: dict[str, str]) -> None:
        for name, fd in (("stdout", STDOUT), ("stderr", STDERR)):
            if text := data.get(name):
                piece = binascii.a2b_base64(text)
                if self._options.json:
                    self._kept[name].append(piece)
                else:
                    write_all(fd, piece)

    def _look(self) -> float:
        """Before each read: is there a signal to pass on, or a reason to give up? Returns how long to wait at most."""
        now = time.monotonic()
        if self._deadline is not None and now >= self._deadline:
            raise TimedOut
        if now >= self._heard + SILENCE_S:
            raise TimeoutError(f"the agent has been silent for {SILENCE_S:.0f} s")
        if self._feeder is not None and self._feeder.failure:
            self._kill()
            raise CliError(f"standard input did not arrive whole, so the command was killed: {self._feeder.failure}")
        if self._interrupts.received is not None and not self._next_signal:
            self._signals = [signal.Signals(self._interrupts.received), *INSIST]
            self._next_signal = now if self._pid else now + GRACE_S
        if self._next_signal and now >= self._next_signal:
            if not self._signals or not self._pid:
                raise Stopped
            send_signal(self._agent, self._pid, self._signals.pop(0))
            self._next_signal = now + GRACE_S
        times = [self._heard + SILENCE_S, *(moment for moment in (self._deadline, self._next_signal) if moment)]
        return max(0.0, min(times) - now)

    def _kill(self) -> None:
        if not self._pid:
            warn("the agent had not said yet that the command runs, so it may run on.")
        elif not send_signal(self._agent, self._pid, signal.SIGKILL):
            warn(f"the agent did not come to kill the command within {GRACE_S:g} s, so it may run on.")


def send_signal(agent: Agent, pid: int, number: signal.Signals) -> bool:
    """To the command and all that it started: they are one process group, of which `pid` is the leader. Returns whether
    the agent came to it within GRACE_S; on a busy host it may not.

    The protocol's own SendSignal reaches the leader only, and knows no SIGINT. Root, since sudo may be among them.
    """
    command = f"kill -{int(number)} -- -{pid} 2>&- || kill -{int(number)} {pid} 2>&-"
    message = {"process": {"cmd": "/bin/bash", "args": ["-c", command], "cwd": "/"}, "stdin": False}
    connection = agent.connect()
    try:
        for _ in agent.start(connection, message, timeout_s=GRACE_S, user="root"):
            pass
    except AgentError as error:
        if error.code != "deadline_exceeded":
            raise
        return False
    except OSError as error:
        raise agent.broken(error) from error
    finally:
        connection.close()
    return True


def exit_code(end: dict[str, Any]) -> int:
    """Of the `end` event; 128 + n for a signal, which is told by name only: "signal: killed"."""
    code = int(end.get("exitCode", 0))
    if code >= 0:
        return code
    name = str(end.get("status", "")).removeprefix("signal: ")
    for number in signal.valid_signals():
        if name in ((signal.strsignal(number) or "").lower(), str(int(number))):
            return SIGNALLED + number
    raise CliError(f"the command ended in a way that is not known here: {end}.")


def lost(
    control: ControlPlane, agent: Agent, error: OSError, aftermath: str = "The command may still run."
) -> CliError:
    """The connection broke while the command ran: because the sandbox is gone, or for another reason?"""
    try:
        control.get(sandbox_path(agent.id))
    except CliError as refused:
        if refused.exit_code == NOT_FOUND:
            return CliError(f"sandbox {agent.id} was removed while the command ran.", NOT_FOUND)
    return CliError(f"{agent.broken(error)} {aftermath}", FAILED)
