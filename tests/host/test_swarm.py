"""Leases on a real fleet engine: the contract, and what becomes of them when engines restart. In a lab of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploys.fleetengine import lease_image, socket
from fleet import engine as engine_module
from fleet import swarm as swarm_module
from fleet.errors import NoLeader
from fleet.swarm import Swarm
from tests.host.conftest import lab_target, remove
from tests.host.machine import Machine, eventually
from tests.unit.fleet.contract import DEADLINE_S, LABELS, Contract, only, until

pytestmark = pytest.mark.disruptive
NAME = "test-swarm"


@pytest.fixture(scope="module")
def one() -> Iterator[Machine]:
    """A lab with a Swarm of one host, and the image of a lease in both of its engines."""
    remove(NAME)
    with Machine(*lab_target(NAME, "trixie")) as machine:
        machine.deploy(script="tests/host/fleet_engine_only.py")
        path, tag = socket(machine.settings), lease_image(machine.settings, "trixie")
        for engine in ("/run/docker.sock", path):
            machine.run(f"/root/lease-image {engine} {tag}")
        where = f"--advertise-addr {machine.target.address} --listen-addr {machine.target.address}:2377"
        engine = f"docker --host unix://{path}"
        # Nobody uses Swarm's networks. The one that it begins with is removed, with the bridge that it needs.
        bridge = "docker_gwbridge"
        named = f"-o com.docker.network.bridge.name={bridge}"
        machine.run(f"{engine} network create --subnet 169.254.240.0/24 {named} {bridge}")
        machine.run(f"{engine} swarm init {where} --dispatcher-heartbeat 2s")
        machine.run(f"curl -sf --unix-socket {path} -X DELETE http://localhost/networks/ingress")
        # The engine lets go of the bridge a moment after the network is gone.
        remove_bridge = f"{engine} network rm {bridge}"
        eventually(lambda: machine.out(remove_bridge), lambda said: said == bridge, 30, "bridge that can be removed")
        yield machine
    remove(NAME)


@pytest.fixture(scope="module")
def forwarded(one: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The fleet engine's socket, on this machine."""
    path = tmp_path_factory.mktemp("fleet") / "swarmd.sock"
    forward = ["-N", "-o", "ControlPath=none", "-L", f"{path}:{socket(one.settings)}"]
    ssh = subprocess.Popen(["ssh", "-F", str(one.ssh_config), *forward, one.target.name])
    until("the socket is forwarded", path.exists)
    yield path
    ssh.terminate()
    ssh.wait()


@pytest.fixture(autouse=True)
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for a sandbox is told after seconds that Swarm is slow; here it may be as slow as the machine is."""
    monkeypatch.setattr(swarm_module, "PLACE_S", DEADLINE_S)
    monkeypatch.setattr(engine_module, "TIMEOUT_S", DEADLINE_S / 4)


@pytest.fixture
def leases(one: Machine, forwarded: Path) -> Iterator[Swarm]:
    made = Swarm(forwarded, lease_image(one.settings, "trixie"), one.project)
    yield made
    for lease in made.all():
        made.remove(lease.id)
    until("nothing runs any more", lambda: one.out(f"docker --host unix://{socket(one.settings)} ps --quiet") == "")


class TestContract(Contract):
    pass


def with_a_leader(condition: Callable[[], bool]) -> Callable[[], bool]:
    """False while the only manager is away."""

    def met() -> bool:
        try:
            return condition()
        except NoLeader:
            return False

    return met


def test_a_lease_has_no_power_and_takes_little(one: Machine, leases: Swarm) -> None:
    engine = f"docker --host unix://{socket(one.settings)}"

    def pid() -> str:
        return one.out(f"{engine} ps --quiet | xargs -r {engine} inspect --format '{{{{.State.Pid}}}}'")

    leases.place("sb-a", 1024, 0.5, LABELS)
    until("it runs", lambda: pid() not in ("", "0"))
    status = dict(line.split(":\t", 1) for line in one.out(f"cat /proc/{pid()}/status").splitlines() if ":\t" in line)
    assert status["Uid"].split() == ["65534"] * 4 and int(status["CapEff"], 16) == 0
    assert int(status["VmRSS"].split()[0]) < 2048, "kB"


def test_the_engines_leave_each_other_alone(one: Machine, leases: Swarm) -> None:
    """A restart of the fleet engine ends its leases, and no container of the other one; and the other way round."""
    tag, bridge = lease_image(one.settings, "trixie"), one.out("ip -brief address show docker0")
    container = one.out(f"docker run --detach {tag}")
    started = one.out(f"docker inspect --format '{{{{.State.StartedAt}}}}' {container}")
    made = leases.place("sb-a", 64, 0.01, LABELS)

    def lives() -> bool:
        return one.out(f"docker inspect --format '{{{{.State.Running}}}} {{{{.State.StartedAt}}}}' {container}") == (
            f"true {started}"
        )

    one.run("systemctl restart docker")
    assert lives() and (only(leases).id, only(leases).ended) == (made.id, "")
    one.run(f"systemctl restart {one.unit('swarmd')}")
    assert lives() and one.out("ip -brief address show docker0").split()[2:] == bridge.split()[2:]

    def removed() -> bool:
        leases.remove(made.id)
        return True

    until("the lease has ended, and is known still", with_a_leader(lambda: only(leases).ended != ""))
    assert (only(leases).id, only(leases).node) == (made.id, made.node)
    until("it is removed", with_a_leader(removed))
    until("a manager places again", with_a_leader(lambda: leases.members()[0].state == "ready"))
    assert leases.place("sb-a", 64, 0.01, LABELS, node=made.node).node == made.node
    one.run(f"docker rm --force {container}")
