"""The operations that make a Swarm of the engines of a fleet, and its networks.

A host joins by what another one tells. The secret that lets it in goes from the one to the other through this process
alone: it is in no command, no file and no output.
"""

from __future__ import annotations

import json
import shlex
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand, operation
from pyinfra.api.exceptions import OperationError
from pyinfra.api.host import Host
from pyinfra.api.state import State as ApiState
from pyinfra.connectors.util import CommandOutput

from deploys.fleetengine import socket
from deploys.handover import complaint, told
from deploys.operations import Commands
from deploys.settings import Settings
from deploys.swarmfacts import Nodes, State, is_in, manager_at_work, member, node_ids, state_of

PORT, GOSSIP_PORT = 2377, 7946
REGISTRY_PORT = 5000  # of the images, on the first manager
# A host that is lost is known as such after some 5 s; a failed lease stays to be looked at; a new leader is there 14 s
# after the old one was killed, and not 23 s.
HEARTBEAT_NS = 2_000_000_000
HISTORY = 1
ELECTION_TICK = 3
TRIES = 30  # a second each: a new leader is there sooner
# The bridge of every engine in a Swarm, and the network that a Swarm begins with. Left alone they take what is free of
# 172.16.0.0/12, which may be somebody's beyond this host; nothing of us is in either.
BRIDGE, BRIDGE_NETWORK = "docker_gwbridge", "169.254.240.0/24"
INGRESS = "ingress"


def bridge_missing(wanted: Settings) -> str:
    """A command that prints something when this engine has no bridge of the Swarm yet."""
    return f"docker --host unix://{socket(wanted)} network inspect {BRIDGE} >/dev/null 2>&1 || echo missing"


def bridge_made(wanted: Settings) -> str:
    """The command that makes that bridge; an engine that joins a Swarm takes the one that is there."""
    words = ["docker", "--host", f"unix://{socket(wanted)}", "network", "create", "--subnet", BRIDGE_NETWORK]
    words += ["--opt", f"com.docker.network.bridge.name={BRIDGE}", BRIDGE]
    return f"{shlex.join(words)} >/dev/null"


def ingress_there(wanted: Settings) -> str:
    """A command for a manager: it prints something while the Swarm has its first network."""
    return f"docker --host unix://{socket(wanted)} network ls --quiet --filter name=^{INGRESS}$"


def ingress_removed(wanted: Settings) -> str:
    """The command that removes that network from all hosts. The client would ask a person whether it may."""
    return _asked(wanted, f"/networks/{INGRESS}", "--request", "DELETE")


@operation()
def begin(wanted: Settings) -> Commands:
    """Begin a Swarm on this host, unless a manager of the fleet is in one. Raises OperationError."""
    if manager_at_work(wanted):
        return
    state = host.get_fact(State, socket=socket(wanted))
    if state:  # its engine runs, and would know of a Swarm that it has been in
        _refuse_second(wanted)
    _refuse_broken(state, wanted)
    address = wanted.fleet_address
    words = ["docker", "--host", f"unix://{socket(wanted)}", "swarm", "init"]
    words += ["--advertise-addr", address, "--listen-addr", f"{address}:{PORT}", "--data-path-addr", address]
    # It answers with the command by which others join, and in that is the secret.
    yield f"{shlex.join(words)} >/dev/null"


@operation()
def join(wanted: Settings) -> Commands:
    """Join the Swarm of the fleet, in this host's role. Raises OperationError."""
    state = host.get_fact(State, socket=socket(wanted))
    if not is_in(state):
        _refuse_broken(state, wanted)
        yield Join(wanted)


class Join(StringCommand):
    """Joins by the secret that a manager tells at that moment. It is no fact, since pyinfra shows facts with -vvv."""

    def __init__(self, wanted: Settings) -> None:
        super().__init__(_posted(wanted, "/swarm/join"))
        self.wanted = wanted

    def execute(self, state: ApiState, host: Host, connector_arguments: Any) -> tuple[bool, CommandOutput]:
        wanted = self.wanted
        manager = manager_at_work(wanted)
        if manager is None:
            names = ", ".join(node.name for node in wanted.fleet_managers)
            return False, complaint(f"no manager of the fleet ({names}) is in a Swarm: its own errors say why")
        docker = ("docker", "--host", f"unix://{socket(wanted)}")
        asking = StringCommand(*docker, "swarm", "join-token", "--quiet", wanted.fleet_role)
        token, why = told(member(manager), asking)
        if not token:
            return False, complaint(f"{manager.name} does not tell how to join as a {wanted.fleet_role}: {why}")
        address = wanted.fleet_address
        asked = {
            "AdvertiseAddr": address,
            "DataPathAddr": address,
            "ListenAddr": f"{address}:{PORT}",
            "RemoteAddrs": [f"{manager.address}:{PORT}"],
            "JoinToken": token,
        }
        connector_arguments["_stdin"] = json.dumps(asked)
        return host.run_shell_command(
            self, print_output=state.print_output, print_input=state.print_input, **connector_arguments
        )


@operation()
def assign_roles(wanted: Settings) -> Commands:
    """Make managers and workers of the hosts that are in the Swarm in another role. One host does it: the first of the
    managers that is one in the Swarm already.
    """
    at_work = manager_at_work(wanted)
    if at_work is None or at_work.name != wanted.fleet_node:
        return
    ids = node_ids(wanted)
    nodes = {node["ID"]: node for node in host.get_fact(Nodes, socket=socket(wanted))}
    docker = f"docker --host unix://{socket(wanted)} node"
    # First those that become managers: with one fewer at a time, the rest are still a majority.
    for node in sorted(wanted.fleet_nodes.values(), key=lambda node: not node.manages):
        found = nodes.get(ids[node.name])
        if found and found["Spec"]["Role"] != node.role:
            yield _tried(f"{docker} {'promote' if node.manages else 'demote'} {ids[node.name]}")


def _tried(command: str) -> str:
    """A change of a host's entry is refused when the Swarm has changed that between docker's reading and its writing
    ("update out of sequence"), as it does when hosts have just come back, and while a new leader is elected.
    """
    return f"tries=0; until {command}; do tries=$((tries + 1)); [ $tries -lt {TRIES} ] || exit 1; sleep 1; done"


@operation()
def tune(wanted: Settings) -> Commands:
    """Make the Swarm see the loss of a host early, and keep little of what has ended."""
    cluster = host.get_fact(State, socket=socket(wanted)).get("Cluster") or {}
    spec = cluster.get("Spec")
    if not spec:
        return
    tuned = {
        **spec,
        "Dispatcher": {**spec.get("Dispatcher", {}), "HeartbeatPeriod": HEARTBEAT_NS},
        "Orchestration": {**spec.get("Orchestration", {}), "TaskHistoryRetentionLimit": HISTORY},
        "Raft": {**spec.get("Raft", {}), "ElectionTick": ELECTION_TICK},
    }
    if tuned != spec:
        command = _posted(wanted, f"/swarm/update?version={cluster['Version']['Index']}")
        yield StringCommand(command, _stdin=json.dumps(tuned))


def _posted(wanted: Settings, path: str) -> str:
    """A POST to the fleet engine. Its body goes through stdin, so that nobody sees it in `ps` or in a log."""
    return _asked(wanted, path, "--header", "Content-Type: application/json", "--data-binary", "@-")


def _asked(wanted: Settings, path: str, *options: str) -> str:
    words = ["curl", "--silent", "--show-error", "--fail-with-body", "--unix-socket", socket(wanted)]
    return shlex.join([*words, *options, f"http://localhost{path}"])


def _refuse_broken(state: dict[str, Any], wanted: Settings) -> None:
    where, error = state.get("LocalNodeState", ""), state.get("Error", "")
    if where not in ("", "inactive"):
        raise OperationError(
            f"the fleet engine is in a Swarm that it cannot reach ({where}: {error}). If that is none of this fleet: "
            f"`{_left(wanted)}` on this host, then deploy again"
        )


def _refuse_second(wanted: Settings) -> None:
    """Who is in a Swarm already would stay there, and the fleet be two."""
    if there := [name for name, node in wanted.fleet_nodes.items() if is_in(state_of(node, wanted))]:
        raise OperationError(
            f"{', '.join(there)}: in a Swarm, whose managers the inventory does not name. Name them; or, if there are "
            f"none any more: `{_left(wanted)}` on each of these hosts, then deploy again"
        )


def _left(wanted: Settings) -> str:
    return f"docker --host unix://{socket(wanted)} swarm leave --force"
