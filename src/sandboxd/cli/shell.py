"""The verb `shell`: a terminal in a sandbox. Whatever ends it, our terminal is restored and nothing is left running."""

import os
import select
from argparse import Namespace
from contextlib import suppress
from typing import Any

from sandboxd.cli import place
from sandboxd.cli.agent import Agent, AgentError
from sandboxd.cli.control import ControlPlane
from sandboxd.cli.execute import GRACE_S, lost
from sandboxd.cli.exits import SIGNALLED, USAGE, CliError
from sandboxd.cli.interrupts import Interrupts
from sandboxd.cli.output import OutputError, ReaderGone, write_some
from sandboxd.cli.printing import warn
from sandboxd.cli.session import STDIN, STDOUT, Left, Session
from sandboxd.cli.terminal import Terminal, terminal_type

SIGPIPE = 13
HUNG_UP = "The session was hung up."
MAY_RUN = "What ran in the session may still run."
REST_S = 1.0  # for a terminal that shows nothing any more


def run(options: Namespace, config: str) -> int:
    if not os.isatty(STDIN):
        raise CliError(
            "shell needs a terminal, and standard input is none."
            " To run a command without one: docker-sandbox exec ID COMMAND",
            USAGE,
        )
    where = place.read(config)
    control = ControlPlane(where.socket)
    agent = Agent(where.gateway, control.sandbox(options.id), options.user)
    with Interrupts(patient=True) as interrupts:
        with Terminal(STDIN, interrupts.wake) as terminal:
            session = Session(agent, terminal, interrupts)
            try:
                with agent.doubted():
                    return session.run(process(options))
            except (Left, CliError, OSError, ReaderGone) as error:
                failure = error
                bring_to_rest(session)
        return aftermath(control, agent, session.pid, failure)


def process(options: Namespace) -> dict[str, Any]:
    """What to start, in the words of the protocol."""
    arguments = ["-l", "-c", options.command] if options.command else ["-l"]
    envs = {"TERM": terminal_type(os.environ.get("TERM")), **dict(options.env)}
    started: dict[str, Any] = {"cmd": "/bin/bash", "args": arguments, "envs": envs}
    if options.cwd:
        started["cwd"] = options.cwd
    return started


def bring_to_rest(session: Session) -> None:
    """After a program that could not do it itself, in a terminal that may be gone."""
    if session.pid and select.select([], [STDOUT], [], REST_S)[1]:
        with suppress(OutputError, ReaderGone):
            write_some(STDOUT, session.screen.farewell())


def aftermath(control: ControlPlane, agent: Agent, pid: int, failure: Exception) -> int:
    """End the program, if it may still run, and say what has happened. Returns our exit code, or raises CliError."""
    ended = pid != 0 and hang_up(agent, pid)
    if isinstance(failure, CliError):
        raise failure
    if isinstance(failure, OSError):
        raise lost(control, agent, failure, HUNG_UP if ended else MAY_RUN) from failure
    if not ended:
        warn(f"the agent of sandbox {agent.id} did not answer. {MAY_RUN}")
    return failure.code if isinstance(failure, Left) else SIGNALLED + SIGPIPE


def hang_up(agent: Agent, pid: int) -> bool:
    """Ends a program as a terminal does that is closed, by force if it ignores that. Returns whether it has ended."""
    agent.patience_s = GRACE_S * 2  # more than the agent needs to say that the program has not ended
    for number in ("SIGNAL_SIGHUP", "SIGNAL_SIGKILL"):
        try:
            agent.call("process.Process/SendSignal", {"process": {"pid": pid}, "signal": number})
            connection = agent.connect()
            try:
                if any("end" in event for event in agent.follow(connection, pid, GRACE_S)):
                    return True
            finally:
                connection.close()
        except AgentError as error:
            if error.code == "not_found":
                return True
            if error.code != "deadline_exceeded":
                return False
        except (CliError, OSError):
            return False
    return False
