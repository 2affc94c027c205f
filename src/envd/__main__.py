"""Starts the agent: `python -m envd`. Owns the process: its modules, its signals, its umask, its port."""

import os
import sys
from types import ModuleType
from typing import cast

# The agent neither speaks TLS nor hashes much. Without OpenSSL, whose absence asyncio, hashlib and hmac are written to
# take, it needs 2 MB less in every idle sandbox. This has to come before the first import of asyncio.
# Nor does it import pathlib, nor at its start what only some requests need: a cold create waits for it.
for _name in ("ssl", "_hashlib"):
    sys.modules.setdefault(_name, cast(ModuleType, None))

import asyncio  # noqa: E402
import logging  # noqa: E402
import signal  # noqa: E402

from envd.app import Agent  # noqa: E402
from envd.config import LISTEN, LISTEN_VARIABLE, START_DIRECTORY_VARIABLE, ConfigSource  # noqa: E402
from envd.processes import ProcessTable  # noqa: E402
from envd.program import run  # noqa: E402
from envd.server import listen  # noqa: E402
from envd.startup import START_DIRECTORY, start_all  # noqa: E402

log = logging.getLogger("envd")


async def serve(source: ConfigSource, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT, then pass SIGTERM on to every process that a client started.

    The streams of those processes break: it is the sandbox that ends, and not the command with some exit code.
    """
    table = ProcessTable()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, table.notice_exits)

    def end() -> None:
        # Now and not below, where it is our turn later: who hears the same signal as we may have ended by then.
        loop.remove_signal_handler(signal.SIGCHLD)
        table.abandon()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    beside = await start_all(os.environ.get(START_DIRECTORY_VARIABLE) or START_DIRECTORY, source, table)
    server = await listen(Agent(source, table), host, port)
    log.info("listening on %s:%d", *server.sockets[0].getsockname()[:2])
    await stop.wait()
    for task in beside:
        task.cancel()
    server.close()
    for process in table.living():
        process.signal(signal.SIGTERM)


def keep_ignored_signals() -> None:
    """What is ignored, as by nohup or a shell's background jobs, stays so for us, but not for what we start.

    A program inherits ignored signals and would be deaf to Ctrl-C; a handler it does not inherit.
    """
    for number in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:  # Python's own: Popen resets them
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def main() -> int:
    keep_ignored_signals()
    return run(serve, os.environ.get(LISTEN_VARIABLE) or LISTEN, log)


if __name__ == "__main__":
    sys.exit(main())
