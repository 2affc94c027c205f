"""What packets of a sandbox reach: of the host, of its neighbours, of clouds and private networks. See surroundings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

import pytest

from sandboxd import AGENT_PORT
from tests.host.attack.seats import USERS, Seats, address, told
from tests.host.attack.surroundings import (
    INTERNET,
    LOOPBACK_PORT,
    METADATA,
    METADATA_V6,
    OWN,
    PRIVATE,
    SERVICE_PORT,
    Surroundings,
    around,
)
from tests.host.machine import Machine
from tests.host.wire import Edge

PUBLIC = {80, 443}  # Traefik's, which everybody may ask
OUTSIDE = {*METADATA, *PRIVATE, INTERNET, OWN}
Probe = list[str | int]
REACHED = {"connected", "answered"}


@pytest.fixture(scope="module")
def world(machine: Machine, moment: str) -> Iterator[Surroundings]:
    with around(machine) as made:
        yield made


def reached(seats: Seats, probes: list[Probe], user: str = "user") -> dict[str, str]:
    """What of it is reached, and how."""
    found = told(seats.attacker, "probe.py", probes, user)
    return {name: word for name, word in found.items() if word in REACHED}


def to(addresses: list[str], *ports: int, kinds: tuple[str, ...] = ("tcp", "udp")) -> list[Probe]:
    return [[f"{kind} {one} {port}", kind, one, port] for one in addresses for port in ports for kind in kinds]


def echo(addresses: Iterable[str]) -> list[Probe]:
    return [[f"icmp {one}", "icmp", one, 0] for one in addresses]


def addresses_of_host(seats: Seats) -> list[str]:
    """All of them but the loopback: the sandboxes' gateways, Docker's bridge, the interfaces to the world."""
    seen = json.loads(seats.machine.out("ip -json -4 address show"))
    every = [entry["local"] for link in seen for entry in link["addr_info"] if link["ifname"] != "lo"]
    assert len(every) >= 4
    return every


def listening(machine: Machine) -> list[int]:
    """Every TCP port on which the host listens, whatever the address, but for the public ones."""
    lines = machine.out("ss -Hltn").splitlines()
    ports = {int(line.split()[3].rpartition(":")[2]) for line in lines} - PUBLIC
    assert {22, 8081, 8090} <= ports, "SSH, the gateway and the API"
    return sorted(ports | {2375, 2376})


def test_the_internet_is_reached_and_the_decoys_are_there(seats: Seats, world: Surroundings) -> None:
    """Otherwise the tests below would be content with a network that is broken."""
    assert set(world.reached_by_the_host().values()) == {"connected"}
    probes = to([INTERNET], 8080)
    assert len(reached(seats, probes)) == 2
    assert len(world.arrived(INTERNET)) >= 2


@pytest.mark.parametrize("user", USERS)
def test_metadata_of_clouds_is_not_reached(seats: Seats, world: Surroundings, user: str) -> None:
    before = world.arrived(*METADATA)
    probes: list[Probe] = [*to(list(METADATA), 80, 8080), *echo(METADATA)]
    probes += to(list(METADATA_V6[:2]), 80, kinds=("tcp",)) + to([METADATA_V6[3]], 80, kinds=("tcp",))
    assert reached(seats, probes, user) == {}
    assert world.arrived(*METADATA) == before


@pytest.mark.parametrize("user", USERS)
def test_private_networks_are_not_reached(seats: Seats, world: Surroundings, user: str) -> None:
    before = world.arrived(*PRIVATE)
    probes: list[Probe] = [*to(list(PRIVATE), 22, 80, 5432), *echo(PRIVATE)]
    assert reached(seats, probes, user) == {}
    assert world.arrived(*PRIVATE) == before


@pytest.mark.parametrize("user", USERS)
def test_no_port_of_the_host_is_reached_at_any_of_its_addresses(seats: Seats, world: Surroundings, user: str) -> None:
    """SSH, the gateway, the API behind it, Traefik's ping, metrics, Docker, and what the operator runs."""
    before = world.served()
    every = addresses_of_host(seats)
    assert reached(seats, to(every, *listening(seats.machine), kinds=("tcp",)), user) == {}
    assert reached(seats, to(every, SERVICE_PORT, kinds=("udp",)), user) == {}
    assert world.served() == before


@pytest.mark.parametrize("user", USERS)
def test_the_hosts_loopback_is_not_reached(seats: Seats, world: Surroundings, user: str) -> None:
    """Whoever binds a socket to his interface sends packets for 127.0.0.1 to the host, with no right to raw ones."""
    before = world.served()
    ports = listening(seats.machine)
    probes = to(["127.0.0.1", "127.0.0.2", "127.0.0.53"], *ports, kinds=("device-tcp",))
    probes += to(["127.0.0.1", "127.0.0.2"], SERVICE_PORT, LOOPBACK_PORT, 53, kinds=("device-udp",))
    assert reached(seats, probes, user) == {}
    assert world.served() == before


@pytest.mark.parametrize("user", USERS)
def test_a_neighbour_is_not_reached_by_address(seats: Seats, user: str) -> None:
    victim = address(seats.victim)
    seats.victim.serve("python3 -m http.server 8123 --bind 0.0.0.0", 8123)
    probes = to([victim], 22, 8123, AGENT_PORT) + echo([victim]) + to([victim], 8123, kinds=("device-tcp",))
    assert reached(seats, probes, user) == {}
    assert "GET" not in seats.victim.out("cat /tmp/server-8123.log")
    assert seats.machine.request("GET", seats.victim.url(8123)).status_code == 200, "by its URL everybody reaches it"


def test_a_neighbour_has_no_name(seats: Seats) -> None:
    found = seats.victim.inspect()
    names = [seats.victim.id, found["Name"].lstrip("/"), found["Id"][:12], found["Config"]["Labels"]["sandbox.slot"]]
    for name in names:
        assert seats.attacker.run(f"timeout 20 getent hosts {name}", check=False).returncode != 0, name


def test_the_agent_of_a_neighbour_wants_its_own_token(seats: Seats) -> None:
    edge, path = Edge(seats.machine), "/files?path=/etc/hostname"
    host = edge.host(seats.victim, AGENT_PORT)

    def ask(*headers: str) -> int:
        return edge.ask(host, path, *headers).status

    assert ask() == 401
    assert ask(f"X-Access-Token: {seats.attacker.token()}") == 401
    assert ask(f"X-Access-Token: {seats.attacker.token()}", f"E2b-Sandbox-Id: {seats.attacker.id}") == 401
    assert ask(f"X-Access-Token: {seats.victim.token()}") == 200


def test_a_token_does_not_open_a_neighbour_from_inside(seats: Seats) -> None:
    """Even if it was stolen: the way to an agent is the gateway."""
    token = seats.victim.token()
    ask = f"curl -s -m 5 -H 'X-Access-Token: {token}' http://{address(seats.victim)}:{AGENT_PORT}/files?path=/etc/hostname"
    assert seats.attacker.run(ask, check=False).returncode != 0
