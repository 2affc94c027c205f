"""The process: `python -m console --config FILE`. Serves the socket that systemd hands over, until it is stopped."""

import argparse
import asyncio
import logging
import os
import socket
import sys
from pathlib import Path

import uvicorn

from console import config
from console.app import build
from console.errors import ConfigError

FIRST_SOCKET = 3  # see sd_listen_fds(3)
SHUTDOWN_S = 3  # streams and terminals have no end of their own
MESSAGE_BYTES = 64 * 1024
GRACE_S = 0.2  # for the request of who has just connected


class Server(uvicorn.Server):
    """Whoever was let in is answered; whoever comes later waits at systemd's end of the socket for the next console."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for one in sockets or []:
            asyncio.get_running_loop().remove_reader(one)
        await asyncio.sleep(GRACE_S)
        await super().shutdown(sockets)


def handed_over(environment: dict[str, str]) -> socket.socket:
    """The listening socket, which systemd made: so it is the gateway's to open and not ours to give away."""
    if environment.get("LISTEN_FDS") != "1" or environment.get("LISTEN_PID") != str(os.getpid()):
        raise ConfigError("no socket was handed over. Start the unit's socket: systemctl start '*-console.socket'")
    return socket.socket(fileno=FIRST_SOCKET)


def main() -> int:
    parser = argparse.ArgumentParser("console", description="The pages of a sandbox host.")
    parser.add_argument("--config", type=Path, required=True, help="TOML file that the deploy renders")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log every request to sandboxd
    try:
        settings = config.load(parser.parse_args().config, os.environ)
        listener = handed_over(dict(os.environ))
    except ConfigError as error:
        print(f"console: {error}", file=sys.stderr)
        return 1
    options = uvicorn.Config(
        build(settings),
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
        ws_max_size=MESSAGE_BYTES,
        limit_concurrency=500,
    )
    asyncio.run(Server(options).serve([listener]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
