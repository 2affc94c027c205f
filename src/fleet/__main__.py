"""The fleet service: `python -m fleet --config FILE`. Wires the parts, opens the sockets, serves until stopped."""

import argparse
import asyncio
import logging
import sys
from pathlib import Path

import uvicorn

from fleet import config
from fleet.app import Front
from fleet.booking import Booking
from fleet.services import Services
from fleet.swarm import Swarm
from sandboxd.errors import ConfigError
from sandboxd.listeners import open_tcp, open_unix
from sandboxd.peers import PeerProtocol
from sandboxd.server import SHUTDOWN_S, Server, notify_ready


def services(settings: config.Config) -> Services:
    """All parts, not yet started."""
    leases = Swarm(settings.engine, settings.lease_image, settings.project)
    return Services(settings, leases, booking=lambda index: Booking(leases, index).tick)


def serve(settings: config.Config, parts: Services) -> None:
    """Serves until SIGTERM or SIGINT, then ends what was begun."""
    tcp = open_tcp(settings.listen)  # first: it refuses while another service runs, whose Unix socket we would replace
    sockets = [open_unix(settings.socket, settings.socket_group), tcp]
    options = uvicorn.Config(
        Front(parts),
        http=PeerProtocol,
        lifespan="on",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    asyncio.run(Server(options, notify_ready, parts.streams.end_all).serve(sockets))


def main() -> int:
    parser = argparse.ArgumentParser("fleet", description="What a single host's sandboxd is, for a fleet of hosts.")
    parser.add_argument("--config", type=Path, required=True, help="TOML file that the deploy renders")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        settings = config.load(parser.parse_args().config)
        serve(settings, services(settings))
    except ConfigError as error:
        print(f"fleet: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
