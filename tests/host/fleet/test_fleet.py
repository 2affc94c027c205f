"""A fleet of three hosts: what one sees of it, and what it does when hosts fail.

In this order: the tests of the first part look, those of the second break something and see it well again.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from socket import create_connection

import httpx
import pytest

from deploys.fleetengine import socket
from deploys.swarm import BRIDGE, BRIDGE_NETWORK
from tests.host.api import Api, with_key
from tests.host.fleet.labs import LABS, LIMIT_S, ONE_MANAGER, UNREACHABLE, Fleet, says
from tests.host.fleet.load import Load
from tests.host.machine import Sandbox, eventually
from tests.host.test_hardening import too_open
from tests.host.websocket import PING, SERVER, WebSocket

pytestmark = pytest.mark.disruptive
Record = Callable[[str, object], None]
THIRTY = 30
VERIFIED = ("cis", "doctor", "edge", "engine", "fleet_hosts")
STRETCHES = 5  # of load, until the machine has not stood still in one
CUT_OFF_S = 30
PAGE = "python3 -m http.server 8000 --directory /code"


@pytest.fixture(scope="module")
def thirty(fleet: Fleet) -> Iterator[list[Sandbox]]:
    """Thirty small sandboxes, made on the manager, six at a time."""
    fleet.wait_for_full_pools()
    for old in fleet.listed():  # of a run that was broken off
        fleet.manager.run(f"docker-sandbox kill {old}", check=False)
    with ThreadPoolExecutor(6) as several:
        ids = list(several.map(lambda _: fleet.init(), range(THIRTY)))
    yield [Sandbox(fleet.manager, one) for one in ids]
    fleet.manager.run(f"docker-sandbox kill {' '.join(ids)}", check=False)


@pytest.fixture(scope="module")
def one_each(fleet: Fleet, thirty: list[Sandbox]) -> dict[str, Sandbox]:
    """One of them on each host."""
    where = {id: name for name in fleet.names for id in fleet.own(name)}
    return {where[sandbox.id]: sandbox for sandbox in thirty}


@pytest.fixture(scope="module")
def api(fleet: Fleet) -> Iterator[Api]:
    with with_key(fleet.manager, "test-fleet") as made:
        yield made


# --- What one sees of it ---------------------------------------------------------------------------------------------


def test_thirty_sandboxes_are_spread_over_the_hosts(
    fleet: Fleet, thirty: list[Sandbox], record_property: Record
) -> None:
    """By what each host itself has; no sandbox is on two."""
    there = {name: set(fleet.own(name)) for name in fleet.names}
    record_property("fleet", {"sandboxes": {name: len(ids) for name, ids in there.items()}})
    assert Counter(id for ids in there.values() for id in ids) == Counter(sandbox.id for sandbox in thirty)
    assert all(len(ids) >= THIRTY // len(there) // 2 for ids in there.values()), there


def test_the_list_says_where_each_is(fleet: Fleet, thirty: list[Sandbox]) -> None:
    there = {id: name for name in fleet.names for id in fleet.own(name)}
    assert {id: row["node"] for id, row in fleet.listed().items()} == there
    head, *rows = fleet.manager.out("docker-sandbox ls").splitlines()
    assert "NODE" in head.split() and len(rows) == THIRTY


def test_node_ls_counts_them(fleet: Fleet, thirty: list[Sandbox]) -> None:
    fleet.wait_for_roles(ONE_MANAGER)
    assert {name: row["sandboxes"] for name, row in fleet.nodes().items()} == {
        name: len(fleet.own(name)) for name in fleet.names
    }


def test_each_sandbox_has_a_lease_on_its_host(fleet: Fleet, thirty: list[Sandbox]) -> None:
    """And each member of a pool has one, too: by what the hosts' fleet engines run."""
    eventually(fleet.unbooked, lambda found: not any(found.values()), LIMIT_S, "a lease for each")


def test_exec_on_each_host(one_each: dict[str, Sandbox], fleet: Fleet) -> None:
    assert set(one_each) == set(fleet.names)
    for name, sandbox in one_each.items():
        assert sandbox.out(f"echo {name} >/code/where && cat /code/where") == name
        assert sandbox.run("exit 7", check=False).returncode == 7


def test_files_on_each_host(one_each: dict[str, Sandbox], fleet: Fleet) -> None:
    machine = fleet.manager
    machine.run("head -c 3000000 /dev/urandom >/tmp/fleet.up")
    try:
        for sandbox in one_each.values():
            machine.run(f"docker-sandbox upload {sandbox.id} /tmp/fleet.up /code/up")
            machine.run(f"docker-sandbox download {sandbox.id} /code/up /tmp/fleet.down")
            machine.run("cmp /tmp/fleet.up /tmp/fleet.down && rm /tmp/fleet.down")
    finally:
        machine.run("rm -f /tmp/fleet.up /tmp/fleet.down")


def test_previews_of_each_host(one_each: dict[str, Sandbox], fleet: Fleet) -> None:
    """Through Traefik of the manager; a worker knows its own alone."""
    for name, sandbox in one_each.items():
        sandbox.run(f"echo page of {name} >/code/index.html")
        sandbox.serve(PAGE)
        answer = fleet.manager.request("GET", f"{sandbox.url(8000)}/")
        assert (answer.status_code, answer.text) == (200, f"page of {name}\n")


def test_another_port_and_a_websocket_of_each_host(one_each: dict[str, Sandbox], fleet: Fleet) -> None:
    for name, sandbox in one_each.items():
        sandbox.run("mkdir /code/other && cat >/code/other/index.html", stdin=f"other page of {name}\n".encode())
        sandbox.serve("python3 -m http.server 8123 --directory /code/other", 8123)
        assert fleet.manager.request("GET", f"{sandbox.url(8123)}/").text == f"other page of {name}\n"
        sandbox.run("cat >/code/echo.py", stdin=SERVER.replace("8000", "9000").encode())
        sandbox.serve("python3 /code/echo.py", 9000)
        with WebSocket(fleet.manager, sandbox.url(9000).removeprefix("https://")) as opened:
            assert (opened.status, opened.ping()) == (101, PING)


def test_the_api_makes_uses_and_ends_one(fleet: Fleet, api: Api) -> None:
    fleet.wait_for_full_pools()
    made = api.create(metadata={"who": "fleet"})
    assert made["sandboxID"] in fleet.listed()
    assert made["sandboxID"] in {row["sandboxID"] for row in api.ask("GET", "/v2/sandboxes", 200)}

    def asked(method: str) -> httpx.Response:
        """Not while its host is lost for a moment: then it has not heard of it."""
        path = f"/sandboxes/{made['sandboxID']}"
        return eventually(lambda: api.request(method, path), lambda said: said.status_code != 503, LIMIT_S, "answer")

    assert asked("GET").json()["metadata"] == {"who": "fleet"}
    assert asked("DELETE").status_code == 204
    assert asked("GET").status_code == 404


@pytest.mark.parametrize("port", [8443, 7946, 2377, 5000])
def test_hosts_are_there_for_each_other_and_for_nobody_else(fleet: Fleet, port: int) -> None:
    """Nor for a sandbox that may reach what its host reaches: what it sends would come from there."""
    first = LABS[fleet.managers[0]]
    dial = f"timeout 5 bash -c '</dev/tcp/{first}/{{}}' 2>&1 || true"
    with fleet.members[fleet.workers[0]].sandbox("--network open") as sandbox:
        assert sandbox.out(dial.format(22)) == "", "the way there"
        assert "Connection refused" in sandbox.out(dial.format(port))
    assert fleet.members[fleet.workers[0]].out(dial.format(port)) == "", "somebody listens there"
    with pytest.raises(ConnectionRefusedError):  # this machine is no host of the fleet
        create_connection((first, port), timeout=10).close()


def test_units_are_closed(fleet: Fleet) -> None:
    assert {name: too_open(machine) for name, machine in fleet.members.items()} == {name: [] for name in fleet.members}


def test_a_worker_sends_one_to_its_managers(fleet: Fleet) -> None:
    for name in fleet.workers:
        done = fleet.members[name].run("docker-sandbox node ls", check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert "Ask one of its managers: fa (10.231.0.11)" in done.stderr


def test_the_swarm_has_no_network_of_its_own(fleet: Fleet) -> None:
    for machine in fleet.members.values():
        docker = f"docker --host unix://{socket(machine.settings)} network"
        networks = set(machine.out(f"{docker} ls --format '{{{{.Name}}}}'").split())
        assert networks == {"bridge", "host", "none", BRIDGE}
        (config,) = json.loads(machine.out(f"{docker} inspect {BRIDGE}"))[0]["IPAM"]["Config"]
        assert config["Subnet"] == BRIDGE_NETWORK


def test_a_second_deploy_changes_nothing(fleet: Fleet, thirty: list[Sandbox], record_property: Record) -> None:
    before = {name: fleet.started(name) for name in fleet.names}
    report = fleet.deploy()
    record_property("fleet", {"second deploy": f"{report.seconds:.0f} s"})
    assert report.changed == []
    assert {name: fleet.started(name) for name in fleet.names} == before


def test_what_make_deploy_does_after_the_deploy(fleet: Fleet) -> None:
    """It verifies each host for itself, and the fleet by its manager; then there is one key, and what is left to do."""
    done = fleet.run("make", "verify", f"ARGS=-k '{' or '.join(VERIFIED)}'")
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    (passed,) = re.findall(r"^(\d+) passed, \d+ deselected in", done.stdout, re.MULTILINE)
    assert int(passed) > 3 * 40
    made = fleet.run(sys.executable, "-m", "tools.first_key")
    assert (made.returncode, made.stdout.count("E2B_API_KEY=e2b_")) == (0, 1), made.stdout + made.stderr
    steps = fleet.run(sys.executable, "-m", "tools.next_steps")
    assert steps.returncode == 0, steps.stderr
    assert re.findall(r"^The certificate of (\w+) is from its own authority", steps.stdout, re.MULTILINE) == ["fa"]


# --- What it does when hosts fail -------------------------------------------------------------------------------------


def lost_with(fleet: Fleet) -> dict[str, tuple[str, str]]:
    """The state of each sandbox, and the host of which it is said that it is not reached."""
    return {
        id: (row["state"], found[1] if (found := UNREACHABLE.fullmatch(row["reason"])) else "")
        for id, row in fleet.listed().items()
    }


def test_a_worker_is_cut_off_and_comes_back(
    fleet: Fleet, thirty: list[Sandbox], one_each: dict[str, Sandbox], record_property: Record
) -> None:
    """Its sandboxes are told as lost, those of the others are not concerned; then all are there again, as they were."""
    there, started = set(fleet.own("fc")), {name: fleet.started(name) for name in fleet.names}
    with fleet.cut_off("fc"):
        fleet.wait_for("lost", "fc")
        wanted = {one.id: ("lost", "fc") if one.id in there else ("running", "") for one in thirty}
        eventually(lambda: lost_with(fleet), lambda seen: seen == wanted, LIMIT_S, "such states and reasons")
        done = one_each["fc"].run("true", check=False)
        assert done.returncode == 5 and UNREACHABLE.search(done.stderr), done.stderr
        for name in ("fa", "fb"):
            says(one_each[name], "cat /code/where", name)
        fleet.wait_until_down("fc")
        made = [fleet.init() for _ in range(8)]  # more than the others have in their pools
        assert {fleet.listed()[id]["node"] for id in made} == {"fa", "fb"}
        time.sleep(CUT_OFF_S)
        fleet.manager.run(f"docker-sandbox kill {' '.join(made)}")
    fleet.wait_for("ready", "fc")
    fleet.wait_for_states({sandbox.id: "running" for sandbox in thirty})
    assert set(fleet.listed()) == {sandbox.id for sandbox in thirty}
    says(one_each["fc"], "cat /code/where", "fc")
    assert fleet.manager.request("GET", f"{one_each['fc'].url(8000)}/").text == "page of fc\n"
    assert {name: fleet.started(name) for name in fleet.names} == started
    eventually(fleet.unbooked, lambda found: not any(found.values()), LIMIT_S, "a lease for each")


def test_a_worker_is_killed_under_load(
    fleet: Fleet, api: Api, thirty: list[Sandbox], one_each: dict[str, Sandbox], record_property: Record
) -> None:
    """Only its own sandboxes are concerned, and those run again when it is back."""
    started = {name: fleet.started(name) for name in ("fa", "fc")}
    with Load(fleet, api) as load:
        load.go_on_unrefused()
        quiet = load.count()
        with fleet.killed("fb"):
            fleet.wait_for("lost", "fb")
            fleet.wait_until_down("fb")
            load.settle()  # who had asked that host is told so only when its connection is given up
            load.go_on_unrefused("fb")
            for name in ("fa", "fc"):
                says(one_each[name], "cat /code/where", name)
        fleet.wait_for("ready", "fb")
        load.go_on()
    record_property("fleet", {"killed under load": load.count(), "before": quiet})
    assert [why for why in load.refused if not re.match(r"\w+: (503|Remote|Read)", why)] == []
    rows = fleet.listed()
    assert {sandbox.id for sandbox in thirty} <= set(rows)
    for name, before in started.items():
        assert before.items() <= fleet.started(name).items(), name
    fleet.manager.run(f"docker-sandbox kill {' '.join(rows.keys() - {sandbox.id for sandbox in thirty})}", check=False)
    fleet.wait_for_states({sandbox.id: "running" for sandbox in thirty})
