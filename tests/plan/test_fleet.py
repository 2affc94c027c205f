"""What `deploy.py` makes of the hosts of a fleet: as golden files of a manager and a worker; what a second run leaves
alone, and whom a deploy misses in the inventory.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.plan import bare
from tests.plan.conftest import MakePlan
from tests.plan.golden import render
from tests.plan.process import planned
from tests.plan.scenario import Plan, Scenario
from tests.plan.scenarios import DOMAIN, FLEET, fleet
from tests.plan.test_plan import compare

# One process makes the plans of all these tests.
pytestmark = pytest.mark.xdist_group("plan")

SWARM = ("Begin the Swarm", "Join the Swarm", "Give the hosts their roles")


def joined(*roles: str) -> dict[str, dict[str, str]]:
    """What the hosts answer when they are in a Swarm in these roles."""
    return {name: {"swarm": role, "node_id": f"id-{name}"} for name, role in zip("abcdef", roles, strict=False)}


def seen(name: str, role: str, state: str = "ready") -> dict[str, Any]:
    """A host as the Swarm's managers know it."""
    return {
        "ID": f"id-{name}",
        "Description": {"Hostname": f"host-{name}", "Engine": {"Labels": {"sandbox.node": name}}},
        "Spec": {"Role": role, "Availability": "active"},
        "Status": {"State": state, "Addr": "192.0.2.99"},
    }


def commands(plan: Plan) -> dict[str, list[str]]:
    assert (plan.status, plan.unregistered) == (0, []), plan.output
    return {step.name.rpartition(" | ")[2]: step.commands for step in plan.steps if step.name.startswith("Fleet | ")}


@pytest.mark.parametrize("name", FLEET)
def test_golden(name: str, request: pytest.FixtureRequest) -> None:
    plan = planned(name)
    assert (plan.status, plan.unregistered) == (0, []), plan.output
    compare(request, name, render(FLEET[name].title, plan, commands=True))


def test_a_single_host_has_nothing_of_it(make_plan: MakePlan) -> None:
    plan = make_plan(Scenario({"box": {"domain": DOMAIN}}))
    assert commands(plan) == {}
    assert [command for command in plan.executed if "swarm" in command or "fleet" in command] == []


def test_the_secret_of_the_swarm_is_nowhere(make_plan: MakePlan) -> None:
    plan = make_plan(fleet("manager", "worker", arguments=("--yes", "-vvv"), shown="b"))
    assert len(commands(plan)["Join the Swarm"]) == 1
    assert any(" join-token " in command for command in plan.executed)
    assert bare.JOIN_TOKEN not in plan.output + "\n".join(plan.executed)


def test_managers_have_one_authority_and_its_key_is_nowhere(make_plan: MakePlan) -> None:
    """A client that trusts one trusts all. The first one keeps what it has."""
    summary: dict[str, dict[str, str]] = {name: {"node_id": f"id-{name}"} for name in "abcd"}
    summary["a"]["authority"], summary["b"]["authority"] = "the first one's", "its own"
    roles = ("manager", "manager", "manager", "worker")
    steps = {}
    for shown in "abcd":
        plan = make_plan(fleet(*roles, summary=summary, arguments=("--yes", "-vvv"), shown=shown))
        assert (plan.status, plan.unregistered) == (0, []), plan.output
        assert bare.AUTHORITY_KEY not in plan.output + "\n".join(plan.executed)
        named = {step.name.rpartition(" | ")[2]: step.commands for step in plan.steps}
        steps[shown] = named.get("Take over the authority")
    ca = "/etc/flourisha-sandbox/ca"  # its certificate is for everybody to read
    taken = [f"umask 077 && mkdir -p {ca} && base64 -d | tar -xf - -C {ca} && chmod 755 {ca}"]
    assert steps == {"a": None, "b": taken, "c": taken, "d": None}


def test_a_manager_that_has_the_authority_keeps_it(make_plan: MakePlan) -> None:
    summary = {name: {"node_id": f"id-{name}", "authority": "the first one's"} for name in "abc"}
    plan = make_plan(fleet("manager", "manager", "manager", summary=summary, shown="b"))
    assert not [command for command in plan.executed if "tar -cf - -C /etc/flourisha-sandbox/ca" in command]


def test_one_begins_and_the_others_join(make_plan: MakePlan) -> None:
    executed = make_plan(fleet("manager", "manager", "manager", "worker")).executed
    swarm = [command for command in executed if " swarm " in command or "/swarm/join" in command]
    assert " swarm init --advertise-addr 192.0.2.11 " in swarm[0]
    asked = sorted(command.split()[-1] for command in swarm if " join-token " in command)
    assert (asked, len([command for command in swarm if command.endswith("/swarm/join")])) == (
        ["manager", "manager", "worker"],
        3,
    )


def test_a_dry_run_of_a_fleet_to_be_changes_nothing(make_plan: MakePlan) -> None:
    plan = make_plan(fleet("manager", "worker", arguments=("--dry", "--diff"), shown="b"))
    assert "Join the Swarm" in commands(plan)
    assert plan.executed == []


def test_who_is_in_the_swarm_stays_there(make_plan: MakePlan) -> None:
    nodes = json.dumps([seen("a", "manager"), seen("b", "worker")])
    summary = joined("manager", "worker")
    summary["a"]["nodes"] = nodes
    for shown in "ab":
        made = commands(make_plan(fleet("manager", "worker", summary=summary, shown=shown)))
        assert [made[name] for name in SWARM if name in made] == [[]] * (3 if shown == "a" else 1)


def test_a_new_first_manager_joins_what_is_there(make_plan: MakePlan) -> None:
    """The order of the inventory is not that of the past."""
    summary = {"a": {"node_id": "id-a"}, **{name: {"swarm": "manager", "node_id": f"id-{name}"} for name in "bc"}}
    made = commands(make_plan(fleet("manager", "manager", "manager", summary=summary)))
    assert (made["Begin the Swarm"], len(made["Join the Swarm"])) == ([], 1)


def test_a_manager_that_is_to_be_a_worker_still_lets_others_in(make_plan: MakePlan) -> None:
    """Else its successor would begin a second Swarm."""
    summary = {"b": {"swarm": "manager", "node_id": "id-b"}}
    plan = make_plan(fleet("manager", "worker", summary=summary))
    made = commands(plan)
    assert (made["Begin the Swarm"], len(made["Join the Swarm"])) == ([], 1)
    assert not any(" swarm init " in command for command in plan.executed)


@pytest.mark.parametrize("name", ["a", "b"])
def test_no_second_swarm_is_begun_beside_one(name: str, make_plan: MakePlan) -> None:
    plan = make_plan(fleet("manager", "worker", summary={name: {"swarm": "worker", "node_id": f"id-{name}"}}))
    assert plan.status != 0 and not any(" swarm init " in command for command in plan.executed)
    said = " ".join(plan.output.split())
    assert f"{name}: in a Swarm, whose managers the inventory does not name" in said
    assert "`docker --host unix:///run/flourisha-swarmd.sock swarm leave --force`" in said


def changed(command: str) -> list[str]:
    """The role that a host is given, and its id. It is tried again when the Swarm has changed the host meanwhile."""
    (found,) = re.findall(r"until docker \S+ \S+ node (\w+) (\S+); do ", command)
    return list(found)


def test_roles_follow_the_inventory(make_plan: MakePlan) -> None:
    summary = joined("manager", "worker", "worker", "manager")
    summary["a"]["nodes"] = json.dumps(
        [seen("a", "manager"), seen("b", "worker"), seen("c", "worker"), seen("d", "manager")]
    )
    made = commands(make_plan(fleet("manager", "manager", "manager", "worker", summary=summary)))
    assert [changed(command) for command in made["Give the hosts their roles"]] == [
        ["promote", "id-b"],
        ["promote", "id-c"],
        ["demote", "id-d"],
    ]


def test_a_worker_becomes_the_first_manager(make_plan: MakePlan) -> None:
    """It cannot do that itself: it does not know the others."""
    summary = joined("worker", "manager", "manager", "manager")
    nodes = [seen("a", "worker"), *(seen(name, "manager") for name in "bcd")]
    for name in "bcd":
        summary[name]["nodes"] = json.dumps(nodes)
    roles = ("manager", "manager", "manager", "worker")
    made = {
        shown: commands(make_plan(fleet(*roles, summary=summary, shown=shown))).get("Give the hosts their roles")
        for shown in "abcd"
    }
    assert [changed(command) for command in made["b"] or []] == [["promote", "id-a"], ["demote", "id-d"]]
    assert (made["a"], made["c"], made["d"]) == ([], [], None)


@pytest.mark.parametrize("state", ["pending", "error", "locked"], ids=lambda state: f"an engine whose Swarm is {state}")
def test_an_engine_that_cannot_reach_its_swarm_is_left_alone(state: str, make_plan: MakePlan) -> None:
    summary = {**joined("manager"), "b": {"swarm_state": state}}
    plan = make_plan(fleet("manager", "worker", summary=summary, shown="b"))
    assert plan.status != 0
    assert f"is in a Swarm that it cannot reach ({state}" in plan.output
    assert [command for command in plan.executed if command.endswith("/swarm/join")] == []


@pytest.mark.parametrize("roles", [("manager", "worker"), ("", "manager")], ids=["the first manager", "another one"])
def test_a_host_that_nobody_names_stops_the_deploy(roles: tuple[str, str], make_plan: MakePlan) -> None:
    """Whichever manager knows of it: the first one of the inventory may be new."""
    summary = joined(*roles)
    nodes = [seen(name, role) for name, role in zip("ab", roles, strict=True) if role]
    summary["ab"[roles.index("manager")]]["nodes"] = json.dumps([*nodes, seen("gone", "worker", "down")])
    plan = make_plan(fleet("manager", "worker", summary=summary))
    assert (plan.status != 0, plan.executed) == (True, []), "before the first change, on all hosts"
    for words in (
        "gone (at 192.0.2.99, down) is in the fleet and not in the inventory",
        "docker-sandbox node drain gone",
        "make fleet-forget NODE=id-gone",
    ):
        assert words in " ".join(plan.output.split()), plan.output


def test_a_host_that_has_another_name_stops_the_deploy(make_plan: MakePlan) -> None:
    """What it has on shared storage would be somebody else's then."""
    summary = joined("manager", "worker")
    renamed = seen("203.0.113.8", "worker") | {"ID": "id-b"}
    summary["a"]["nodes"] = json.dumps([seen("a", "manager"), renamed])
    plan = make_plan(fleet("manager", "worker", summary=summary))
    assert (plan.status != 0, plan.executed) == (True, [])
    assert "b is 203.0.113.8 in the fleet, and its sandboxes and volumes are bound to that name" in " ".join(
        plan.output.split()
    )


@pytest.mark.parametrize("told", ["x verifyhost none", "id-a"], ids=["no id", "that of another host"])
def test_what_a_host_says_of_its_id_is_not_believed_as_it_is(told: str, make_plan: MakePlan) -> None:
    """It stands in the gateway's configuration of all managers."""
    summary = joined("manager", "worker")
    summary["b"]["node_id"] = told
    plan = make_plan(fleet("manager", "worker", summary=summary))
    assert (plan.status != 0, plan.executed) == (True, [])
    assert f"says that its id in the Swarm is '{told}', which cannot be" in " ".join(plan.output.split())


@pytest.mark.parametrize("data", ["", "remove"])
def test_destroy_takes_the_fleet_engine_away(data: str, make_plan: MakePlan) -> None:
    """With its data goes its place in the Swarm; without, the next deploy finds it again."""
    environment = {"DATA": data}
    plan = make_plan(fleet("manager", "worker", deployed=True, environment=environment, deploy="destroy.py"))
    assert (plan.status, plan.unregistered) == (0, []), plan.output
    for unit in ("fleet.service", "fleet-certificate.path", "fleet-firewall.service", "swarmd.service"):
        assert f"systemctl disable --now flourisha-{unit}" in plan.executed
    for path in ("/etc/flourisha-sandbox/fleet", "/etc/systemd/system/flourisha-fence@.service"):
        assert f"rm -rf {path}" in plan.executed
    assert "nft delete table inet flourisha-fleet" in plan.executed
    assert ("rm -rf /var/lib/flourisha-swarmd" in plan.executed) == bool(data)


def test_destroy_of_a_former_member_takes_all_of_it_away(make_plan: MakePlan) -> None:
    """Named as a single host, as it is once the others have forgotten it."""
    scenario = Scenario(
        {"box": {"domain": DOMAIN}}, {"box": {"fleet_engine": "yes"}}, deployed=True, deploy="destroy.py"
    )
    plan = make_plan(scenario)
    assert (plan.status, plan.unregistered) == (0, []), plan.output
    assert {"systemctl disable --now flourisha-swarmd.service", "ip link del flt0"} <= {
        part for command in plan.executed for part in command.split(" && ")
    }


def steps_of(plan: Plan, part: str) -> dict[str, list[str]]:
    return {step.name.partition(" | ")[2]: step.commands for step in plan.steps if step.name.startswith(f"{part} | ")}


def test_images_are_built_once_and_fetched_by_digest() -> None:
    """By the digest that the manager noted, whatever the registry says."""
    manager, worker = planned("fleet-manager"), planned("fleet-worker")
    offered, fetched = steps_of(manager, "Images of the fleet"), steps_of(worker, "Images of the fleet")
    tags = {name.removeprefix("Offer ") for name in offered if name.startswith("Offer ")}
    assert {tag.partition(":")[0] for tag in tags} == {"flourisha-playwright", "flourisha-sandbox", "flourisha-traefik"}
    assert {name.removeprefix("Fetch ") for name in fetched} == tags
    assert steps_of(worker, "Images") == {} and steps_of(manager, "Images") != {}
    digest = f"sha256:{'0123456789abcdef' * 4}"
    for tag in tags:
        remote = f"swarm-manager:5000/{tag.partition(':')[0]}@{digest}"
        pull = f"docker pull --quiet {remote} && docker tag {remote} {tag} && docker image rm {remote}"
        assert fetched[f"Fetch {tag}"][0] == pull


def test_images_are_fetched_once_they_are_offered(make_plan: MakePlan) -> None:
    """pyinfra runs what only one host has as early as it can: the first manager has more to do before."""
    executed = make_plan(fleet("manager", "worker")).executed
    pushed = [number for number, command in enumerate(executed) if "docker push" in command]
    pulled = [number for number, command in enumerate(executed) if "docker pull" in command]
    assert len(pushed) == 3 and pulled
    assert max(pushed) < min(pulled)


def test_an_image_from_a_registry_is_pulled_by_every_host(make_plan: MakePlan) -> None:
    scenario = fleet("manager", "worker", shown="b")
    for data in scenario.hosts.values():
        data["traefik_image"] = "traefik:v3.7"
    steps = steps_of(make_plan(scenario), "Images of the fleet")
    assert steps["Pull traefik:v3.7"][0] == "docker pull --quiet traefik:v3.7"
    assert [name for name in steps if "flourisha-traefik" in name] == []


def test_a_former_first_manager_has_no_registry() -> None:
    steps = {step.name: step for step in planned("fleet-worker").steps}
    step = steps["Registry | Remove the registry of a former first manager"]
    assert step.condition == "ls -d /etc/systemd/system/docker-registry.service.d" and step.commands == []
    assert not [name for name in steps_of(planned("fleet-manager"), "Registry") if name.startswith("Remove")]


def test_the_registry_is_closed_before_it_starts() -> None:
    names = list(steps_of(planned("fleet-manager"), "Registry"))
    assert names.index("Write /etc/docker/registry/config.yml") < names.index("Install the registry")
    assert "Install the registry" not in steps_of(planned("fleet-worker"), "Registry")


def test_a_worker_that_was_a_manager_has_no_fleet_service() -> None:
    """Before sandboxd, which takes its place."""
    steps = {step.name: step for step in planned("fleet-worker").steps}
    names = list(steps)
    assert names.index("Former manager | Stop the fleet service") < names.index("sandboxd | Run sandboxd")
    condition = steps["Former manager | Stop the fleet service"].condition
    assert condition.startswith("ls /etc/systemd/system/flourisha-fleet.service ")
    assert steps_of(planned("fleet-manager"), "Former manager") == {}
