"""What the engines of a fleet say of their Swarm: who is in it, in which role, and whom nobody has named.

Hosts of the fleet ask each other here.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

from pyinfra import host, inventory
from pyinfra.api import FactBase
from pyinfra.api.exceptions import OperationError
from pyinfra.api.host import Host

from deploys import facts
from deploys.fleetengine import NODE_LABEL, socket
from deploys.settings import FleetNode, Settings

NODE_ID = re.compile(r"[a-z0-9-]{1,64}")


class State(FactBase[dict[str, Any]]):
    """What an engine says of its Swarm (`Swarm` of `docker info`), {} where no engine answers."""

    default = dict

    def command(self, socket: str) -> str:
        return f"docker --host unix://{shlex.quote(socket)} info --format '{{{{json .Swarm}}}}' 2>/dev/null || true"

    def process(self, output: list[str]) -> dict[str, Any]:
        # An engine that does not answer is told of beside an empty value.
        text = "\n".join(output).strip()
        return dict(json.loads(text) or {}) if text.startswith("{") else {}


class Nodes(FactBase[list[dict[str, Any]]]):
    """`docker node inspect` of all hosts of the Swarm; empty where the engine is no manager."""

    default = list

    def command(self, socket: str) -> str:
        docker = f"docker --host unix://{shlex.quote(socket)} node"
        return f"{docker} ls --quiet 2>/dev/null | xargs --no-run-if-empty {docker} inspect 2>/dev/null || true"

    def process(self, output: list[str]) -> list[dict[str, Any]]:
        return list(json.loads("\n".join(output) or "[]"))


def has_engine(wanted: Settings) -> bool:
    """Whether the host at hand has a fleet engine, whatever the inventory says of it now."""
    unit = f"/etc/systemd/system/{wanted.project}-swarmd.service"
    return bool(host.get_fact(facts.Output, command_line=f"ls -d {unit}"))


def member(node: FleetNode) -> Host:
    """The host of pyinfra's inventory that the fleet knows as `node`."""
    (found,) = [one for one in inventory if one.data.get("fleet_address") == node.address]
    return found


def state_of(node: FleetNode, wanted: Settings) -> dict[str, Any]:
    state: dict[str, Any] = member(node).get_fact(State, socket=socket(wanted))
    return state


def is_in(state: dict[str, Any]) -> bool:
    return state.get("LocalNodeState") == "active"


def node_ids(wanted: Settings) -> dict[str, str]:
    """The id in the Swarm of each host of the fleet, by name; "" for one that is in none (yet).

    Each is what that host says itself, and managers have it in their gateway's configuration: raises OperationError
    for what is no id, or that of another host.
    """
    found = {name: str(state_of(node, wanted).get("NodeID", "")) for name, node in wanted.fleet_nodes.items()}
    for name, one in found.items():
        if one and (not NODE_ID.fullmatch(one) or list(found.values()).count(one) > 1):
            raise OperationError(
                f"{name} says that its id in the Swarm is {one!r}, which cannot be. Look at that host."
            )
    return found


def manager_at_work(wanted: Settings) -> FleetNode | None:
    """The first manager that is one in the Swarm already; or else a host that is to be a worker, and is one still."""
    for node in sorted(wanted.fleet_nodes.values(), key=lambda node: not node.manages):
        state = state_of(node, wanted)
        if is_in(state) and state.get("ControlAvailable"):
            return node
    return None


def strangers(wanted: Settings) -> list[str]:
    """Hosts that are in the Swarm and not in the inventory, one line each, with what to do."""
    at_work = manager_at_work(wanted)
    if at_work is None:
        return []
    found = member(at_work).get_fact(Nodes, socket=socket(wanted))
    known = set(node_ids(wanted).values())
    return [_stranger(node) for node in found if node["ID"] not in known]


def renamed(wanted: Settings) -> list[str]:
    """Hosts that the inventory names otherwise than the fleet knows them, one line each, with what to do."""
    at_work = manager_at_work(wanted)
    if at_work is None:
        return []
    known = {node["ID"]: _named(node) for node in member(at_work).get_fact(Nodes, socket=socket(wanted))}
    return [
        f"{name} is {known[one]} in the fleet, and its sandboxes and volumes are bound to that name. Name it so again;"
        f" or take it out of the fleet by that name, and add it anew (docs/fleet.md)"
        for name, one in node_ids(wanted).items()
        if known.get(one, name) not in ("", name)
    ]


def _named(node: dict[str, Any]) -> str:
    """The name that the last deploy has told its engine; "" for one that was told none."""
    return str((node.get("Description", {}).get("Engine", {}).get("Labels") or {}).get(NODE_LABEL, ""))


def _stranger(node: dict[str, Any]) -> str:
    name = _named(node) or node.get("Description", {}).get("Hostname") or node["ID"]
    status = node.get("Status", {})
    where = f"at {status.get('Addr', 'an unknown address')}, {status.get('State', 'unknown')}"
    return (
        f"{name} ({where}) is in the fleet and not in the inventory. Name it again; or, if it shall go: "
        f"`docker-sandbox node drain {name}` on a manager, then `make fleet-forget NODE={node['ID']}`"
    )
