"""The daemon: `python -m sandboxd --config FILE`. Wires the parts, opens the sockets, serves until stopped."""

import argparse
import asyncio
import logging
import resource
import sys
from pathlib import Path

import uvicorn

from sandboxd import api, config, recovery, routes, spec
from sandboxd.dockerengine import DockerEngine
from sandboxd.engine import Engine
from sandboxd.errors import ConfigError, LedgerError
from sandboxd.front import Front
from sandboxd.gateway import Gateway
from sandboxd.health import Health
from sandboxd.keys import Keys
from sandboxd.listeners import open_tcp, open_unix
from sandboxd.objects import Host
from sandboxd.peers import PeerProtocol
from sandboxd.pool import Pool
from sandboxd.reconcile import Reconciler
from sandboxd.sandboxes import Sandboxes
from sandboxd.server import SHUTDOWN_S, Server, notify_ready
from sandboxd.templates import Templates
from sandboxd.tokens import TokenKey
from sandboxd.transitions import Transitions
from sandboxd.watchdog import Watchdog

log = logging.getLogger(__name__)


def services(settings: config.Config, engine: Engine, host: Host) -> api.Services:
    """All parts, not yet started."""
    key = TokenKey(config.read_token_key(settings.secrets_dir))
    settings.state_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
    ledger, health = recovery.opened(settings.ledger, host.now()), Health()
    edge = settings.gateway
    gateway = Gateway(edge.admin_socket, edge.routes_map, lambda: routes.table(ledger.routes(), key))
    sandboxes = Sandboxes(settings, key, ledger, engine, gateway, host)
    pool, transitions, templates = Pool(sandboxes, health), Transitions(sandboxes), Templates(sandboxes)
    return api.Services(
        sandboxes,
        Keys(ledger),
        transitions,
        templates,
        pool,
        Reconciler(sandboxes, transitions, pool, templates, health),
        Watchdog(sandboxes, transitions, health),
        health,
    )


def serve(settings: config.Config, parts: api.Services) -> None:
    """Serves until SIGTERM or SIGINT, then ends what was begun."""
    tcp = open_tcp(settings.listen)  # first: it refuses while another daemon runs, whose Unix socket we would replace
    edge = settings.gateway
    sockets = [open_unix(edge.socket, edge.group), tcp]
    if settings.fleet is None or not settings.fleet.manages:
        sockets.append(open_unix(settings.socket, settings.socket_group))
    if settings.fleet is not None:
        sockets.append(open_unix(settings.fleet.socket, settings.fleet.group))
    metrics_port = 0
    if settings.metrics_listen:
        sockets.append(open_tcp(settings.metrics_listen, "metrics_listen"))
        metrics_port = settings.metrics_listen[1]
    options = uvicorn.Config(
        Front(parts, metrics_port),
        http=PeerProtocol,
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    parts.reconciler.start()
    parts.pool.start()
    parts.watchdog.start()

    def end_long_work() -> None:
        parts.streams.end_all()
        parts.templates.end_builds()

    try:
        # A member of a pool that is being made is waited for: some seconds, which clients need not wait as well.
        asyncio.run(Server(options, notify_ready, end_long_work, parts.pool.stop).serve(sockets))
    finally:
        parts.pool.stop()
        parts.reconciler.stop()
        parts.watchdog.stop()
        parts.sandboxes.settle()
        parts.sandboxes.ledger.close()
        parts.sandboxes.audit.log.close()


def allowed(limit: int, most: int) -> int:
    """What a sandbox may ask for: dockerd on this host has a limit like ours, and a container cannot exceed it."""
    hard = resource.getrlimit(limit)[1]
    return most if hard == resource.RLIM_INFINITY else min(most, hard)


def main() -> int:
    parser = argparse.ArgumentParser("sandboxd", description="Control plane of a sandbox host.")
    parser.add_argument("--config", type=Path, required=True, help="TOML file that the deploy renders")
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        settings = config.load(parser.parse_args().config)
        host = Host(
            nofile=allowed(resource.RLIMIT_NOFILE, spec.NOFILE),
            memlock=allowed(resource.RLIMIT_MEMLOCK, spec.MEMLOCK_BYTES),
        )
        serve(settings, services(settings, DockerEngine(), host))
    except (ConfigError, LedgerError) as error:
        print(f"sandboxd: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
