"""Values only: the Swarm service that a lease is, and what Swarm's answers mean. No engine is touched here.

Payloads are those of Docker's Engine API, as API 1.41 (Docker 20.10) to the newest read them.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from fleet.leases import Lease, Member

MIB = 1024 * 1024
NANO = 1_000_000_000
PROJECT, SANDBOX = "sandbox.project", "sandbox.id"
NODE_LABEL = "sandbox.node"  # of an engine's own configuration: what the fleet calls this host

# The states of a task in their order, up to the last one in which it reserves what it asks for; see swarmkit's
# api/types.proto. A task that is not assigned yet has no node.
RESERVING = ("new", "allocated", "pending", "assigned", "accepted", "preparing", "ready", "starting", "running")


def service(image: str, name: str, memory_mb: int, cpus: float, labels: Mapping[str, str], node: str) -> dict[str, Any]:
    """The arguments of docker-py's `create_service`; `node` is an id, or empty for any node.

    It names no network, and so is on the engine's bridge: with any other one, the host's as well, Docker takes two
    seconds longer to end it, and for so long nobody gets what it has reserved.
    """
    reserved = {"MemoryBytes": memory_mb * MIB, "NanoCPUs": round(cpus * NANO)}
    return {
        "name": name,
        "labels": dict(labels),
        "task_template": {
            "ContainerSpec": {"Image": image, "ReadOnly": True, "CapabilityDrop": ["ALL"], "User": "65534:65534"},
            "Resources": {"Reservations": reserved},
            "RestartPolicy": {"Condition": "none"},
            "Placement": {"Constraints": [f"node.id=={node}"] if node else []},
        },
        "mode": {"Replicated": {"Replicas": 1}},
        "endpoint_spec": {"Mode": "dnsrr"},
    }


def task_of(tasks: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Of the tasks of one service the one that counts: it reserves, or else it was the last one that did."""
    return max(tasks, key=lambda task: (reserves(task), task["CreatedAt"]), default=None)


def reserves(task: Mapping[str, Any]) -> bool:
    return task["Status"]["State"] in RESERVING and task["DesiredState"] in RESERVING


def ended(task: Mapping[str, Any]) -> str:
    """Why a task reserves nothing any more, empty while it does."""
    if reserves(task):
        return ""
    status = task["Status"]
    if status["State"] in RESERVING:  # its node is down, or about to end it
        return f"Swarm has given it up ({task['DesiredState']})"
    return f"{status['State']}: {status.get('Err') or status.get('Message') or 'no reason given'}"


def no_room(task: Mapping[str, Any]) -> str:
    """Swarm's words for why no node has taken the task, empty while it has not said so."""
    said = str(task["Status"].get("Err") or "")
    return said if task["Status"]["State"] == "pending" else ""


def lease(found: Mapping[str, Any], tasks: Iterable[Mapping[str, Any]], names: Mapping[str, str]) -> Lease:
    """From `GET /services/{id}` and the tasks of that service; `names` are those of nodes by their ids."""
    spec, task = found["Spec"], task_of(tasks)
    node = (task or {}).get("NodeID") or ""
    return Lease(
        id=found["ID"],
        name=spec["Name"],
        node=names.get(node, node),
        version=found["Version"]["Index"],
        labels=dict(spec.get("Labels") or {}),
        ended=ended(task) if task else "",
    )


def member(found: Mapping[str, Any]) -> Member:
    """From one of `GET /nodes`. It has the name of NODE_LABEL, or else its host name."""
    description, spec, status = found["Description"], found["Spec"], found["Status"]
    labels = (description.get("Engine") or {}).get("Labels") or {}
    resources, managing = description.get("Resources") or {}, found.get("ManagerStatus") or {}
    return Member(
        id=found["ID"],
        name=labels.get(NODE_LABEL) or description.get("Hostname") or found["ID"],
        role=spec["Role"],
        state=status["State"],
        availability=spec["Availability"],
        leader=bool(managing.get("Leader", False)),
        memory_mb=int(resources.get("MemoryBytes") or 0) // MIB,
        cpus=float(resources.get("NanoCPUs") or 0) / NANO,
        # Where a manager is reached. Of others Swarm knows where they come from.
        address=str(managing.get("Addr", "")).rpartition(":")[0] or status.get("Addr") or "",
    )


def node_ids(members: Iterable[Member]) -> dict[str, str]:
    """The ids of nodes by their names. A host that has joined anew is there twice, and down as what it was before."""
    return {one.name: one.id for one in sorted(members, key=lambda one: one.state == "ready")}
