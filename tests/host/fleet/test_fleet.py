"""A fleet of three hosts: what one sees of it, what it does when hosts fail, and how it grows and shrinks.

In this order: the tests of the first part look, those of the second break something and see it well again.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from socket import create_connection
from typing import Any

import httpx
import pytest

from deploys.fleetengine import socket
from deploys.swarm import BRIDGE, BRIDGE_NETWORK
from tests.host.api import Api, with_key
from tests.host.fleet.labs import LABS, LIMIT_S, NOT_NOW, Fleet
from tests.host.machine import Machine, Sandbox, eventually
from tests.host.test_hardening import too_open
from tests.host.websocket import PING, SERVER, WebSocket
from tools.remote import RemoteError

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


def says(sandbox: Sandbox, command: str, wanted: str) -> None:
    """Its host may be lost for a moment: see `Fleet.wait_for_states`."""
    eventually(lambda: sandbox.out(command), lambda said: said == wanted, LIMIT_S, wanted)


def roles(fleet: Fleet, wanted: dict[str, tuple[str, str, bool]]) -> None:
    """`node ls` shows these hosts with their role and state, and who leads."""
    eventually(
        lambda: {name: (row["role"], row["state"], row["leader"]) for name, row in fleet.nodes().items()},
        lambda rows: rows == wanted,
        LIMIT_S,
        "such hosts",
    )


ONE_MANAGER = {
    "fa": ("manager", "ready", True),
    "fb": ("worker", "ready", False),
    "fc": ("worker", "ready", False),
}


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
    roles(fleet, ONE_MANAGER)
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
    assert api.ask("GET", f"/sandboxes/{made['sandboxID']}", 200)["metadata"] == {"who": "fleet"}
    assert made["sandboxID"] in {row["sandboxID"] for row in api.ask("GET", "/v2/sandboxes", 200)}
    api.ask("DELETE", f"/sandboxes/{made['sandboxID']}", 204)
    api.ask("GET", f"/sandboxes/{made['sandboxID']}", 404)


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


class Load:
    """Clients of the API who make a sandbox, ask for it and end it, again and again; and what they were refused.

    That Swarm has not placed one in time, and nothing was made, is no refusal: it is asked for again.
    """

    def __init__(self, fleet: Fleet, api: Api, clients: int = 4) -> None:
        self._fleet, self._api = fleet, api
        self.lives = 0
        self._begun = dict.fromkeys(range(clients), 0)  # by client: how many lives of sandboxes
        self.refused: Counter[str] = Counter()
        self._not_now = 0
        self._stop = threading.Event()
        self._counting = threading.Lock()

    def __enter__(self) -> Load:
        self._threads = [threading.Thread(target=self._work, args=(client,)) for client in self._begun]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def go_on(self, more: int = 8) -> None:
        """Wait until that many more sandboxes have lived."""
        until = self.lives + more
        eventually(lambda: self.lives, lambda lives: lives >= until, LIMIT_S, f"{more} more lives of sandboxes")

    def settle(self) -> None:
        """Wait until each client has begun anew: then whatever was on its way is answered, or refused."""
        before = dict(self._begun)
        eventually(
            lambda: dict(self._begun),
            lambda begun: all(count > before[client] for client, count in begun.items()),
            LIMIT_S,
            "a new beginning of each client",
        )

    def go_on_unrefused(self, lost: str = "") -> None:
        """More sandboxes live, and nobody is refused, while `lost` is lost. When the manager has lost another host
        meanwhile, whose sandboxes it then refuses, the machine stood still: that time counts nothing.
        """
        for _ in range(STRETCHES):
            missed, before = self._fleet.missed(), self.refusals()
            self.go_on()
            if (refused := self.refusals() - before) == Counter():
                return
            if not (self._fleet.missed() - missed).keys() - {lost}:
                break
            self.settle()
        raise AssertionError(f"refused: {dict(refused)}")

    def refusals(self) -> Counter[str]:
        with self._counting:
            return Counter(self.refused)

    def count(self) -> dict[str, Any]:
        return {"lives": self.lives, "refused": dict(self.refusals()), "not now": self._not_now}

    def _work(self, client: int) -> None:
        while not self._stop.is_set():
            self._begun[client] += 1
            if (made := self._ask("POST", "/v2/sandboxes", json={"templateID": "base", "timeout": 300})) is None:
                continue
            one = made.json()["sandboxID"]
            self._api.made.append(one)
            asked = self._ask("GET", f"/sandboxes/{one}")
            if self._ask("DELETE", f"/sandboxes/{one}") and asked:
                with self._counting:
                    self.lives += 1

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response | None:
        try:
            answer = self._api.request(method, path, timeout=60, **options)
            if answer.is_success:
                return answer
            said = answer.json()["message"]
            why = "" if NOT_NOW.search(said) else f"{answer.status_code} {LOST.sub('lost: node X', said)[:60]}"
        except httpx.TransportError as error:
            why = type(error).__name__
        with self._counting:
            if why:
                self.refused[f"{method}: {why}"] += 1
            else:
                self._not_now += 1
        self._stop.wait(0.2)
        return None


LOST = re.compile(r"lost: node \S+")
UNREACHABLE = re.compile(r"lost: node (\S+) unreachable since 20[0-9-]+T[0-9:.]+Z")


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


# --- It grows and shrinks -------------------------------------------------------------------------------------------


def test_a_worker_is_drained_and_activated(fleet: Fleet) -> None:
    """It gets nothing new and its pools go; the drain waits for the last sandbox. Activated, it is as before."""
    manager, made = fleet.manager, list[str]()
    fleet.wait_for_full_pools()
    try:
        while not set(fleet.own("fc")) & set(made):  # each comes to the host that has the fewest
            assert len(made) < THIRTY, "none comes to fc"
            made.append(fleet.init())
        there = fleet.own("fc")
        with ThreadPoolExecutor(1) as other:
            drain = other.submit(manager.out, f"timeout {LIMIT_S} docker-sandbox node drain fc")
            try:
                fleet.wait_for("draining", "fc")
                made += [fleet.init() for _ in range(4)]
                assert set(fleet.own("fc")) == set(there), "nothing new, and nothing that was there has ended"
                assert not drain.done()
            finally:  # else the drain would not end
                manager.run(f"docker-sandbox kill {' '.join(there)}")
            assert drain.result() == "fc is drained"
        eventually(lambda: fleet.nodes()["fc"]["warm"], lambda warm: warm == 0, LIMIT_S, "no members of pools")
        assert manager.out("docker-sandbox node activate fc") == "fc is ready"
        fleet.wait_for_full_pools()
    finally:
        manager.run("docker-sandbox node activate fc", check=False)
        manager.run(f"docker-sandbox kill {' '.join(made)}", check=False)


def test_a_fourth_host_is_added_and_taken_out(fleet: Fleet, record_property: Record) -> None:
    """By naming it; and by a drain, `make fleet-forget` and naming it no more. In between a deploy refuses."""
    manager = fleet.manager
    fleet.workers.append("fd")
    record_property("fleet", {"a fourth host": f"{fleet.deploy().seconds:.0f} s"})
    fleet.wait_for("ready", "fd")
    fleet.wait_for_full_pools()
    made = [fleet.init() for _ in range(8)]
    try:
        assert set(fleet.own("fd")) & set(made)
        for id in made:
            says(Sandbox(manager, id), "echo $((6 * 7))", "42")
    finally:
        manager.run(f"docker-sandbox kill {' '.join(made)}", check=False)
    fleet.workers.remove("fd")
    assert "fd (at 10.231.0.14, ready) is in the fleet and not in the inventory" in fleet.refusal()
    manager.run(f"timeout {LIMIT_S} docker-sandbox node drain fd")
    done = fleet.run(sys.executable, "-m", "tools.fleet_forget", NODE="fd")
    assert re.match(r"fd \(\w+\) is no longer of the fleet", done.stdout), done.stderr
    fleet.gone("fd")
    fleet.deploy()
    assert set(fleet.nodes()) == {"fa", "fb", "fc"}


def test_the_leader_of_three_is_killed(fleet: Fleet, record_property: Record) -> None:
    """The others answer for the fleet: what exists at once, what needs a new leader after a while."""
    fleet.managers, fleet.workers = ["fa", "fb", "fc"], []
    fleet.deploy()
    assert len({machine.out("docker-sandbox ca") for machine in fleet.members.values()}) == 1
    assert fleet.deploy().changed == []
    leader = leader_of(fleet)
    other = fleet.members[next(name for name in fleet.names if name != leader)]
    with with_key(other, "test-leader") as api:
        fleet.wait_for_full_pools()
        made = [fleet.init(machine=other) for _ in range(6)]
        left = {id for id in made if id not in fleet.own(leader)}
        fleet.wait_for_full_pools()  # which those have emptied: what is claimed from one needs no leader
        with fleet.killed(leader):
            killed = time.monotonic()
            # By the list, for which nobody asks Swarm: a new leader is there after a while.
            fleet.wait_for_states({id: "running" if id in left else "lost" for id in made}, other)
            claimed = api.create()["sandboxID"]
            record_property("fleet", {"claimed without a leader": no_leader(fleet, other)})
            assert fleet.listed(other)[claimed]["origin"] == "pool"
            fleet.wait_for("lost", leader, other)
            for id in left:
                says(Sandbox(other, id), "echo $((6 * 7))", "42")
            cold = eventually(
                lambda: other.run("docker-sandbox init --cold", check=False),
                lambda done: done.returncode == 0,
                LIMIT_S,
                "sandbox that needs a lease",
            )
            made.append(cold.stdout.strip())
            record_property("fleet", {"leader killed": f"a lease after {time.monotonic() - killed:.0f} s"})
        fleet.wait_for("ready", leader, other)
        for machine in fleet.members.values():
            fleet.wait_for_states(dict.fromkeys([*made, claimed], "running"), machine)
        other.run(f"docker-sandbox kill {' '.join(made)}")


def leader_of(fleet: Fleet) -> str:
    """Once there is one."""
    found = eventually(
        lambda: [name for name, row in fleet.nodes().items() if row["leader"]],
        lambda names: len(names) == 1,
        LIMIT_S,
        "leader",
    )
    return found[0]


def no_leader(fleet: Fleet, machine: Machine) -> bool:
    """Then there was none since the last one was killed, either."""
    try:
        fleet.in_swarm(machine)
    except RemoteError:
        return True
    return False


def test_three_managers_become_one(fleet: Fleet) -> None:
    """And two of them workers, whose sandboxes go on."""
    manager = fleet.manager
    fleet.wait_for_full_pools()
    made = [fleet.init() for _ in range(6)]
    started = {name: fleet.started(name) for name in fleet.names}
    try:
        fleet.managers, fleet.workers = ["fa"], ["fb", "fc"]
        fleet.deploy()
        roles(fleet, ONE_MANAGER)
        for id in made:
            says(Sandbox(manager, id), "echo $((6 * 7))", "42")
        for name, before in started.items():
            assert before.items() <= fleet.started(name).items(), name
        assert "Ask one of its managers: fa" in fleet.members["fb"].run("docker-sandbox node ls", check=False).stderr
        assert fleet.deploy().changed == []
    finally:
        manager.run(f"docker-sandbox kill {' '.join(made)}", check=False)
