"""Starts the code interpreter: `python -m interpreter`. Owns the process: its signals and its port.

It runs as root, as the agent does and for the same reasons: the file that holds the sandbox's token is root's, and the
token changes when somebody claims the sandbox. Its kernels run as the sandbox's user.
"""

import asyncio
import logging
import os
import signal
import sys

from envd.config import ConfigSource
from envd.program import run
from envd.server import listen
from interpreter.app import Interpreter
from interpreter.contexts import Contexts

LISTEN = "0.0.0.0:49999"  # E2B's clients know no other port
LISTEN_VARIABLE = "INTERPRETER_LISTEN"  # address:port instead of LISTEN; port 0 takes a free one

log = logging.getLogger("interpreter")


async def serve(source: ConfigSource, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT, then end all kernels."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    contexts = Contexts(source)
    server = await listen(Interpreter(source, contexts), host, port)
    log.info("listening on %s:%d", *server.sockets[0].getsockname()[:2])
    await stop.wait()
    server.close()
    await contexts.close()


def main() -> int:
    return run(serve, os.environ.get(LISTEN_VARIABLE) or LISTEN, log)


if __name__ == "__main__":
    sys.exit(main())
