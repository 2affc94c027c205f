"""What lies around the host, made for the attacks: an internet, clouds' metadata, private networks, a LAN.

All of it is one network namespace of the host, which writes down what arrives; nothing leaves the host.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.host.machine import Machine, eventually

HOME = "/run/test-attack"
INTERNET = "198.18.1.2"  # RFC 2544: nobody's
OWN = "198.18.1.1"  # the host's address there
METADATA = ("169.254.169.254", "169.254.170.2", "100.100.100.200")
PRIVATE = ("10.77.0.2", "172.29.77.2", "192.168.77.2", "100.64.77.2")
METADATA_V6 = ("fd00:ec2::254", "fe80::a9fe:a9fe%eth0", "::1", "::ffff:169.254.169.254")
SETUP = f"""
set -eu
ip netns add attack
ip link add attack-host type veth peer name attack-peer netns attack
ip address add {OWN}/24 dev attack-host
ip link set attack-host up
ip -n attack link set lo up
ip -n attack link set attack-peer up
ip -n attack address add {INTERNET}/24 dev attack-peer
ip -n attack route add default via {OWN}
for address in {" ".join(METADATA + PRIVATE)}; do
    ip -n attack address add $address/32 dev attack-peer
    ip route add $address/32 dev attack-host
done
for protocol in tcp udp; do
    ip netns exec attack iptables -t nat -A PREROUTING -p $protocol -j REDIRECT --to-ports 7777
done
systemd-run --quiet --collect --unit test-attack-decoy ip netns exec attack python3 {HOME}/decoy.py {HOME}/log
systemd-run --quiet --collect --unit test-attack-service python3 {HOME}/service.py {HOME}/service
timeout 30 sh -c 'until [ -s {HOME}/log ] && [ -s {HOME}/service ]; do sleep 0.1; done'
"""
TEARDOWN = f"""
systemctl stop test-attack-decoy test-attack-service
ip netns delete attack
ip link delete attack-host
rm -rf {HOME}
"""
# Something of the operator's: a server on all addresses, and one that trusts the loopback. Writes down who comes. Their
# ports are below 32768: from there on the kernel gives them to connections of the host, of which there are hundreds.
SERVICE = """
import socket, sys, threading
log = open(sys.argv[1], "w", buffering=1)
tcp = socket.create_server(("0.0.0.0", 15677))
udp = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
udp[0].bind(("0.0.0.0", 15677))
udp[1].bind(("127.0.0.1", 15678))
def listen(one):
    while True:
        print("udp", one.recvfrom(100)[1][0], file=log)
for one in udp:
    threading.Thread(target=listen, args=(one,), daemon=True).start()
print("ready", file=log)
while True:
    with tcp.accept()[0] as one:
        print("tcp", one.getpeername()[0], file=log)
"""
SERVICE_PORT, LOOPBACK_PORT = 15677, 15678


class Surroundings:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def arrived(self, *addresses: str) -> list[str]:
        """The lines of what has arrived at any of these addresses, after all that was sent before this call.

        A packet of the host's own comes last, and is waited for.
        """
        last = random.randrange(10000, 60000)
        send = f"import socket; socket.socket(2, 2).sendto(b'last', ('{INTERNET}', {last}))"

        def lines() -> list[str]:
            return self.machine.out(f'python3 -c "{send}"; cat {HOME}/log').splitlines()

        seen = eventually(lines, lambda found: f"udp {INTERNET} {last}" in found, 20, "packet of the host")
        return [line for line in seen if line.split()[1:2] and line.split()[1] in addresses]

    def served(self) -> list[str]:
        """Who has come to the host's own services."""
        return self.machine.out(f"grep -v ready {HOME}/service || true").splitlines()

    def reached_by_the_host(self) -> dict[str, str]:
        """What the host itself gets from each address: the decoys are there, and the walls are what silences them."""
        probe = (Path(__file__).with_name("probe.py")).read_bytes()
        wanted = [[address, "tcp", address, 80] for address in (INTERNET, *METADATA, *PRIVATE)]
        return dict(json.loads(self.machine.run(f"python3 - '{json.dumps(wanted)}'", stdin=probe).stdout))


@contextmanager
def around(machine: Machine) -> Iterator[Surroundings]:
    machine.run("bash -s", stdin=TEARDOWN.encode(), check=False)
    decoy = Path(__file__).parent.with_name("decoy.py").read_bytes()
    machine.run(f"mkdir -p {HOME} && cat >{HOME}/decoy.py", stdin=decoy)
    machine.run(f"cat >{HOME}/service.py", stdin=SERVICE.encode())
    try:
        machine.run("bash -s", stdin=SETUP.encode())
        yield Surroundings(machine)
    finally:
        machine.run("bash -s", stdin=TEARDOWN.encode(), check=False)
