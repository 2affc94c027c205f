"""What a lease is as a service, and what Swarm's answers mean. Answers are those of Docker 26."""

from typing import Any

import pytest

from fleet import leasespec
from fleet.leases import Lease, Member

NODE = {
    "ID": "n1",
    "Version": {"Index": 9},
    "Spec": {"Labels": {}, "Role": "manager", "Availability": "active"},
    "Description": {
        "Hostname": "sandbox-1",
        "Platform": {"Architecture": "x86_64", "OS": "linux"},
        "Resources": {"NanoCPUs": 2_000_000_000, "MemoryBytes": 25_214_590_976},
        "Engine": {"EngineVersion": "26.1.5+dfsg1", "Labels": {"sandbox.node": "a"}},
    },
    "Status": {"State": "ready", "Addr": "172.17.0.2"},
    "ManagerStatus": {"Leader": True, "Reachability": "reachable", "Addr": "10.231.0.11:2377"},
}
SERVICE = {"ID": "s1", "Version": {"Index": 21}, "Spec": {"Name": "sb-a", "Labels": {"sandbox.project": "acme"}}}


def task(state: str, desired: str = "running", node: str = "n1", second: int = 1, **status: str) -> dict[str, Any]:
    made = {
        "CreatedAt": f"2027-01-15T08:00:{second:02}.123456789Z",
        "Status": {"State": state, "Message": "started", **status},
        "DesiredState": desired,
    }
    return {**made, "NodeID": node} if node else made


def test_a_lease_as_a_service() -> None:
    made = leasespec.service("acme-lease:1", "sb-a", 512, 0.25, {"sandbox.id": "x"}, "n1")
    assert (made["name"], made["labels"]) == ("sb-a", {"sandbox.id": "x"})
    assert made["mode"] == {"Replicated": {"Replicas": 1}} and made["endpoint_spec"] == {"Mode": "dnsrr"}
    template = made["task_template"]
    assert template["ContainerSpec"]["Image"] == "acme-lease:1" and template["ContainerSpec"]["ReadOnly"]
    assert template["Resources"] == {"Reservations": {"MemoryBytes": 536_870_912, "NanoCPUs": 250_000_000}}
    assert template["RestartPolicy"] == {"Condition": "none"}
    assert template["Placement"] == {"Constraints": ["node.id==n1"]}
    anywhere = leasespec.service("acme-lease:1", "sb-a", 512, 0.25, {}, "")
    assert anywhere["task_template"]["Placement"] == {"Constraints": []}


def test_a_member() -> None:
    assert leasespec.member(NODE) == Member("n1", "a", "manager", "ready", "active", True, 24046, 2.0, "10.231.0.11")
    worker = {key: value for key, value in NODE.items() if key != "ManagerStatus"}
    worker["Description"] = {**NODE["Description"], "Engine": {"EngineVersion": "26.1.5"}}  # type: ignore[dict-item]
    found = leasespec.member(worker)
    assert (found.leader, found.name, found.address) == (False, "sandbox-1", "172.17.0.2")


def test_a_member_that_has_never_answered() -> None:
    """Swarm has accepted it, and does not know what it is."""
    found = leasespec.member({**NODE, "Description": {}, "Status": {"State": "unknown"}, "ManagerStatus": None})
    assert (found.name, found.state, found.memory_mb, found.cpus, found.address) == ("n1", "unknown", 0, 0.0, "")


def test_of_two_of_a_name_the_one_that_is_ready_counts() -> None:
    old = {**NODE, "ID": "n0", "Status": {"State": "down"}}
    for found in ([old, NODE], [NODE, old]):
        assert leasespec.node_ids([leasespec.member(one) for one in found]) == {"a": "n1"}


@pytest.mark.parametrize("state", ["assigned", "accepted", "preparing", "ready", "starting", "running"])
def test_a_lease_that_reserves(state: str) -> None:
    found = leasespec.lease(SERVICE, [task(state)], {"n1": "a"})
    assert found == Lease("s1", "sb-a", "a", 21, {"sandbox.project": "acme"})


@pytest.mark.parametrize("tasks", [[], [task("new", node="")], [task("pending", node="", Err="no suitable node")]])
def test_a_lease_that_has_no_node_yet(tasks: list[dict[str, Any]]) -> None:
    found = leasespec.lease(SERVICE, tasks, {"n1": "a"})
    assert (found.node, found.ended) == ("", "")


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (task("failed", "shutdown", Err="task: non-zero exit (137)"), "failed: task: non-zero exit (137)"),
        (task("rejected", "shutdown", Err="No such image: x"), "rejected: No such image: x"),
        (task("complete", "shutdown", Message="finished"), "complete: finished"),
        (task("shutdown", "shutdown", Message=""), "shutdown: no reason given"),
        (task("running", "shutdown"), "Swarm has given it up (shutdown)"),
        (task("orphaned", "shutdown", Message="node removed"), "orphaned: node removed"),
    ],
)
def test_a_lease_that_has_ended_keeps_its_node(found: dict[str, Any], why: str) -> None:
    lease = leasespec.lease(SERVICE, [found], {"n1": "a"})
    assert (lease.node, lease.ended) == ("a", why)


def test_of_several_tasks_the_one_that_reserves_counts_or_the_last() -> None:
    old, new = task("failed", "shutdown", node="n1", second=1), task("running", node="n2", second=2)
    later = task("failed", "shutdown", node="n3", second=3)
    names = {"n1": "a", "n2": "b"}
    assert leasespec.lease(SERVICE, [old, new, later], names).node == "b"
    assert leasespec.lease(SERVICE, [later, old], names).node == "n3", "a node that was removed has no name any more"


def test_no_room_is_what_swarm_says_of_a_task_that_waits() -> None:
    said = "no suitable node (insufficient resources on 3 nodes)"
    assert leasespec.no_room(task("pending", node="", Err=said)) == said
    assert leasespec.no_room(task("pending", node="")) == ""
    assert leasespec.no_room(task("failed", Err="task: non-zero exit (1)")) == ""
