"""What programs that serve a sandbox as root have in common: log, umask, directory, and what they are told at start."""

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from typing import Any

from envd.config import AGENT_FILE, AGENT_FILE_VARIABLE, TOKEN_VARIABLE, ConfigError, ConfigSource

Serve = Callable[[ConfigSource, str, int], Coroutine[Any, Any, None]]  # until a signal, at that host and port


def run(serve: Serve, listen: str, log: logging.Logger) -> int:
    """Serve at `listen`, which is address:port. The exit status: 0 after a signal, 1 when it cannot start."""
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(levelname)s: %(message)s")
    os.umask(0o022)
    os.chdir("/")  # it must not hold any directory of the sandbox
    try:
        source = ConfigSource(os.environ.get(AGENT_FILE_VARIABLE) or AGENT_FILE, os.environ.get(TOKEN_VARIABLE, ""))
        host, _, port = listen.rpartition(":")
        asyncio.run(serve(source, host, int(port)))
    except (ConfigError, OSError, ValueError) as error:
        log.error("%s", error)
        return 1
    return 0
