"""Networks for labs with addresses of their own: which, made once, and the name servers in them."""

from pathlib import Path

import pytest

from lab import create, network
from lab.errors import LabError, UsageError
from tests.unit.lab.conftest import Machine

NAME = "sandbox-lab-10.231.0.0"


def test_labs_of_one_24_share_a_network() -> None:
    assert network.name("10.231.0.11") == network.name("10.231.0.254") == NAME
    assert network.name("10.231.1.11") != NAME
    assert str(network.subnet("10.231.0.11")) == "10.231.0.0/24"


@pytest.mark.parametrize("address", ["10.231.0.0", "10.231.0.1", "10.231.0.255", "127.0.0.5", "8.8.8.8"])
def test_an_address_that_no_lab_can_have(address: str, machine: Machine) -> None:
    with pytest.raises(UsageError, match=f"cannot have the address {address}"):
        create.up("web", address=address)
    assert machine.ran == []


@pytest.mark.parametrize("address", ["10.231.0", "fd00::1", "web"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(UsageError, match="is not an IPv4 address"):
        network.subnet(address)


def test_a_network_that_is_there_stays(machine: Machine) -> None:
    machine.answer("docker", "network", "inspect", NAME)
    assert network.ensure("10.231.0.11") == NAME
    assert not machine.ran_with("docker", "network", "create")


def test_a_network_is_made_with_its_label(machine: Machine) -> None:
    machine.answer("docker", "network", "inspect", NAME, code=1)
    machine.answer("docker", "network", "create")
    assert network.ensure("10.231.0.11") == NAME
    (command,) = machine.ran_with("docker", "network", "create")
    assert command[3:] == ["--driver=bridge", "--subnet=10.231.0.0/24", "--label=sandbox.lab.network", NAME]


def test_a_network_that_somebody_else_was_making(machine: Machine) -> None:
    answers = iter([1, 0])
    machine.script.insert(0, (("docker", "network", "inspect"), lambda: (next(answers), "", "")))
    machine.answer("docker", "network", "create", code=1, err="network with name x already exists")
    assert network.ensure("10.231.0.11") == NAME


def test_a_network_that_is_taken(machine: Machine) -> None:
    machine.answer("docker", "network", "inspect", code=1)
    machine.answer("docker", "network", "create", code=1, err="Pool overlaps with other one on this address space")
    with pytest.raises(LabError, match="Pool overlaps") as caught:
        network.ensure("10.231.0.11")
    assert caught.value.remedy == "choose addresses of another /24"


def test_a_network_of_somebody_else_is_not_removed(machine: Machine) -> None:
    machine.answer("docker", "network", "ls")
    network.drop("theirs")
    assert machine.ran == [
        ["docker", "network", "ls", "--quiet", "--filter=label=sandbox.lab.network", "--filter=name=^theirs$"]
    ]


def test_name_servers_are_those_that_the_workstation_asks(tmp_path: Path) -> None:
    own, stub = tmp_path / "own", tmp_path / "stub"
    own.write_text("search example.com\nnameserver 192.0.2.53\n")
    stub.write_text("# systemd-resolved\nnameserver 127.0.0.53\n")
    assert network.resolv_conf((own,)) == own.read_text()
    assert network.resolv_conf((stub, own)) == own.read_text()
    assert network.resolv_conf((stub, tmp_path / "none")) == network.PUBLIC_RESOLVERS
