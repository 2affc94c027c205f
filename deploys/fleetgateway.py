"""How the hosts of a fleet reach each other through their gateways, as values: sockets, addresses, certificates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from deploys import swarm, swarmfacts
from deploys.settings import MANAGER, Settings
from deploys.traefik import API

# Of sandboxd itself on a manager, where the fleet service has its usual place.
MANAGERS_SANDBOXD = "127.0.0.1:8091"


@dataclass(frozen=True)
class Peer:
    """A host of the fleet as a manager's gateway knows it. `id` is in its certificate; `socket` leads to its APIs."""

    name: str
    address: str
    id: str
    socket: str


@dataclass(frozen=True)
class FleetGateway:
    """What `haproxy.cfg` needs on a host of a fleet. `peers` asks the hosts, and is empty on a worker: nobody enters
    there. `managers` asks them, too: the ids of those that may ask for the APIs. At
    `ports` the hosts are there for each other.
    """

    certificate: str
    authority: str
    trusted: str
    keys: str
    nodes_map: str
    peers: Callable[[], list[Peer]]
    managers: Callable[[], list[str]]
    ports: tuple[int, ...]


def directory(wanted: Settings) -> str:
    """Where the certificates are."""
    return f"{wanted.etc}/fleet"


def trusted_socket(wanted: Settings) -> str:
    """Where sandboxd takes what managers ask: HAProxy alone may open it."""
    return f"/run/{wanted.name}/node.sock"


def keys_address(wanted: Settings) -> str:
    """Where sandboxd answers those who have an API key."""
    return MANAGERS_SANDBOXD if wanted.fleet_role == MANAGER else API


def peer_socket(wanted: Settings, node: str) -> str:
    """Where programs of a manager reach the APIs of the host `node`: HAProxy makes it, in a directory of its own."""
    return f"/run/{wanted.project}-nodes/{node}.sock"


def nodes_map(wanted: Settings) -> str:
    """Which sandbox is on which host; the fleet service writes it."""
    return f"{wanted.state}/nodes.map"


def ports(wanted: Settings) -> tuple[int, ...]:
    """At which the hosts are there for each other, and for nobody else."""
    return swarm.PORT, swarm.GOSSIP_PORT, swarm.REGISTRY_PORT, wanted.fleet_port


def gateway(wanted: Settings) -> FleetGateway | None:
    """None on a single host."""
    if not wanted.fleet_role:
        return None

    def peers() -> list[Peer]:
        if wanted.fleet_role != MANAGER:
            return []
        ids = swarmfacts.node_ids(wanted)
        return [
            Peer(node.name, node.address, ids[node.name], peer_socket(wanted, node.name))
            for node in wanted.fleet_nodes.values()
        ]

    def managers() -> list[str]:
        ids = swarmfacts.node_ids(wanted)
        return [ids[node.name] for node in wanted.fleet_managers]

    return FleetGateway(
        certificate=f"{directory(wanted)}/node.pem",
        authority=f"{directory(wanted)}/ca.pem",
        trusted=trusted_socket(wanted),
        keys=keys_address(wanted),
        nodes_map=nodes_map(wanted),
        peers=peers,
        managers=managers,
        ports=ports(wanted),
    )
