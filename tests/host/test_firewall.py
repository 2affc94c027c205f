"""The wall around all sandboxes: what they reach, and what they do not, whatever happens to the host's rules.

Each address that they must not reach is a decoy's, in a network namespace of the host: nothing leaves the host, whether
the wall holds or not, and that a packet can arrive there is shown by a sandbox that may pass.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterator
from ipaddress import IPv4Interface

import pytest

from tests.host.machine import Machine, Sandbox, eventually
from tests.host.test_network import FIRST, HOME, PROBE, REFUSED, STARTER, UNREACHABLE, Decoy, decoy, flood, slot_of

__all__ = ["decoy"]
pytestmark = pytest.mark.disruptive

UNTOLD = "TimeoutError"  # the kernel tells one receiver only so often that a packet was refused (icmp_ratelimit)
METADATA, PRIVATE = "169.254.169.254", "10.77.0.2"
# One of each kind: metadata services of clouds, private, shared, link-local, reserved networks.
CLOSED = (
    METADATA,
    "169.254.170.2",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    PRIVATE,
    "172.20.0.2",
    "192.168.77.2",
    "100.64.0.2",
    "240.0.0.2",
)
MAIL_PORTS = (25, 465, 587)
NAME_SERVER = "10.77.0.53"
# Behind the decoy is a way that takes small packets only, and the decoy says so with a private address.
NARROW = "198.18.9.9"
ROUTES = "\n".join(f"ip route replace {one} via {FIRST}" for one in (*CLOSED, NAME_SERVER))
SETUP = f"""
set -eu
for protocol in tcp udp; do
    ip netns exec decoy iptables -t nat -A PREROUTING -p $protocol ! -d {NARROW} -j REDIRECT --to-ports 7777
done
ip -n decoy link add narrow type bridge
ip -n decoy link set narrow mtu 1000 up
ip -n decoy route replace {NARROW} dev narrow
ip -n decoy address add {PRIVATE}/32 dev narrow
ip -n decoy route add 198.18.1.1 dev decoy-peer src {PRIVATE} table 77
ip -n decoy rule add ipproto icmp lookup 77
ip netns exec decoy sysctl -qw net.ipv4.ip_forward=1
ip route replace {NARROW} via {FIRST}
{ROUTES}
sysctl -qw net.ipv6.conf.decoy-host.disable_ipv6=0
ip netns exec decoy sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.decoy-peer.disable_ipv6=0
ip -6 address add fd00:ec2::1/64 dev decoy-host nodad
ip -n decoy -6 address add fd00:ec2::254/64 dev decoy-peer nodad
systemd-run --quiet --collect --unit test-decoy6 ip netns exec decoy python3 -m http.server 7778 --bind :: --directory /
"""
TELL = f"""
import errno, socket, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    one.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER: never in pieces
    one.connect(("{NARROW}", 9))
    for attempt in range(100):
        try:
            one.send(bytes(1400))
        except OSError as error:
            print(errno.errorcode[error.errno])
            break
        time.sleep(0.1)
"""
# However often: systemd starts Docker three times a minute.
RESTART = "systemctl reset-failed docker; systemctl restart docker"
METADATA6 = "http://[fd00:ec2::254]:7778/"
# A listener on all addresses of the host, which writes down who came.
LISTENER = """
import socket, sys
server = socket.create_server(("0.0.0.0", int(sys.argv[1])))
with open(sys.argv[2], "w", buffering=1) as log:
    print("ready", file=log)
    while True:
        connection, peer = server.accept()
        print(peer[0], file=log)
        connection.close()
"""


@pytest.fixture(scope="module")
def world(machine: Machine, decoy: Decoy) -> Iterator[Decoy]:
    """The decoy has all the addresses. At the end Docker has its rules again, which some of the tests flush."""
    try:
        machine.run("bash -s", stdin=SETUP.encode())
        yield decoy
    finally:
        machine.run("sysctl -q net.ipv6.conf.all.forwarding=0; systemctl stop test-decoy6", check=False)
        machine.run(RESTART, check=False)


def closed_to(world: Decoy, sandbox: Sandbox, addresses: tuple[str, ...] = CLOSED) -> None:
    """Nothing of what a sandbox sends there arrives."""
    port = world.port()
    for address in addresses:
        assert world.probe(sandbox, "tcp", address, port) == REFUSED, address
        # Another program there that tries all the time leaves none of what the kernel tells.
        assert world.probe(sandbox, "udp", address, port, patience_s=1) in (UNREACHABLE, UNTOLD), address
    assert world.none_arrived(port)


def walls(machine: Machine, world: Decoy, sandbox: Sandbox, other: Sandbox) -> None:
    """All that is promised of a sandbox in the mode `public`, and that the gateway reaches it."""
    closed_to(world, sandbox, (METADATA, PRIVATE))
    mail = world.seen(" 25")
    assert world.probe(sandbox, "tcp", FIRST, 25) == REFUSED
    port = world.port()
    assert world.probe(sandbox, "tcp", FIRST, port) == "pong" and world.probe(sandbox, "udp", FIRST, port) == "pong"
    assert world.seen(" 25") == mail
    assert world.probe(sandbox, "tcp", gateway_of(sandbox), 22) == REFUSED
    assert world.probe(sandbox, "tcp", address_of(machine, other), 49983) == REFUSED
    assert machine.request("GET", f"{sandbox.url(8123)}/").status_code == 200


def gateway_of(sandbox: Sandbox) -> str:
    return sandbox.out("ip route show default | cut -d ' ' -f 3")


def address_of(machine: Machine, sandbox: Sandbox) -> str:
    return str(machine.info(sandbox.id)["address"])


def serve(sandbox: Sandbox) -> None:
    sandbox.serve("python3 -m http.server 8123 --bind 127.0.0.1 --directory /code", port=8123)


def tries(sandbox: Sandbox, address: str, port: int) -> None:
    """Begins to connect there for ever, and writes down each way in which that has failed."""
    program = shlex.quote(STARTER.format(address=address, port=port))
    sandbox.run(f"rm -f /tmp/seen; exec python3 -c {program}", "--background")


def goes_on(sandbox: Sandbox) -> set[str]:
    """Waits until it has tried some more; how it has ended so far."""

    def count() -> int:
        return int(sandbox.run("cat /tmp/seen", check=False).stdout.partition(" ")[0] or 0)

    before = count()
    eventually(count, lambda seen: seen > before + 5, 90, "program that goes on")
    return set(sandbox.out("cat /tmp/seen").split()[1:])


def standing(machine: Machine) -> bool:
    """Whether `doctor` finds nothing wrong with the firewall."""
    return machine.findings()["firewall"]["level"] == "ok"


def test_private_networks_metadata_and_mail_are_closed_and_the_internet_is_open(machine: Machine, world: Decoy) -> None:
    with machine.sandbox() as sandbox, machine.sandbox("--network open") as wide:
        closed_to(world, sandbox)
        for kind in ("tcp", "udp"):
            assert world.probe(sandbox, kind, FIRST, world.port()) == "pong"
        for mail in MAIL_PORTS:
            before = world.seen(f"tcp {FIRST} {mail}")
            assert world.probe(sandbox, "tcp", FIRST, mail) == REFUSED
            assert world.none_arrived(world.port()) and world.seen(f"tcp {FIRST} {mail}") == before
        for address in CLOSED[:-1]:  # the last one is no address to the host's kernel, either
            assert world.probe(wide, "tcp", address, world.port()) == "pong", f"{address} is a decoy that answers"
        assert world.probe(wide, "tcp", FIRST, MAIL_PORTS[0]) == "pong"


def test_routers_are_heard_although_their_addresses_are_private(machine: Machine, world: Decoy) -> None:
    """Else whatever is larger than the way takes would vanish without a word."""
    for options in ("", "--deny 203.0.113.0/24", "--network open"):
        with machine.sandbox(options) as sandbox:
            assert sandbox.out(f"python3 -c {shlex.quote(TELL)}") == "EMSGSIZE"


def test_the_hosts_own_ports_are_closed_but_for_its_public_ones(machine: Machine, world: Decoy) -> None:
    port = world.port()
    machine.run(f"cat >{HOME}/listener.py", stdin=LISTENER.encode())
    start = f"systemd-run --quiet --collect --unit test-listener python3 {HOME}/listener.py {port} {HOME}/came"
    machine.run(f"{start} && timeout 30 sh -c 'until [ -s {HOME}/came ]; do sleep 0.1; done'")
    try:
        with machine.sandbox() as sandbox, machine.sandbox("--network open") as wide:
            bridge = str(IPv4Interface(machine.settings.docker_bridge).ip)
            addresses = {gateway_of(sandbox), bridge, "198.18.1.1", machine.out("hostname -I | cut -d ' ' -f 1")}
            for address in addresses:
                for number in (port, 22):
                    assert world.probe(sandbox, "tcp", address, number) == REFUSED, (address, number)
                assert world.probe(sandbox, "udp", address, port) == UNREACHABLE
            assert machine.out(f"cat {HOME}/came") == "ready"
            for number in (80, 443):
                connect = f"import socket; socket.create_connection(('{gateway_of(sandbox)}', {number}), 10)"
                sandbox.run(f'python3 -c "{connect}"')
            world.probe(wide, "tcp", gateway_of(wide), port)
            eventually(lambda: machine.out(f"cat {HOME}/came"), lambda said: said != "ready", 20, "one that may pass")
    finally:
        machine.run("systemctl stop test-listener", check=False)


def test_sandboxes_do_not_reach_each_other_in_any_mode(machine: Machine, world: Decoy) -> None:
    with machine.sandbox("--network open") as one, machine.sandbox("--network open") as other:
        other.run("exec python3 -m http.server 8123 --bind 0.0.0.0 --directory /code", "--background")
        address = address_of(machine, other)
        eventually(
            lambda: machine.run(f"curl -sS --max-time 5 http://{address}:8123/", check=False).returncode,
            lambda code: code == 0,
            30,
            "server that the host reaches",
        )
        for port in (8123, 49983):
            assert world.probe(one, "tcp", address, port) == REFUSED
        assert world.probe(one, "udp", address, 8123) == UNREACHABLE


def test_there_is_no_ipv6(machine: Machine, world: Decoy) -> None:
    """None inside; and if there were any, the host would refuse it."""
    with machine.sandbox("--network open") as sandbox:
        ask = (
            f"""python3 -c "import urllib.request; print(urllib.request.urlopen('{METADATA6}', timeout=10).status)" """
        )
        eventually(lambda: machine.run(ask, check=False).stdout, lambda out: out == "200\n", 30, "decoy that answers")
        assert sandbox.out("cat /proc/net/if_inet6 2>/dev/null || true") == ""
        assert sandbox.run(ask, check=False).returncode != 0
        bridge, pid = f"sb-{slot_of(sandbox)}", sandbox.inspect()["State"]["Pid"]
        inside = f"nsenter -t {pid} -n"
        mac = "ip -o link show dev {} | grep -o 'link/ether [^ ]*' | cut -d ' ' -f 2"
        for step in (
            f"sysctl -q net.ipv6.conf.{bridge}.disable_ipv6=0 net.ipv6.conf.all.forwarding=1",
            f"ip -6 address add fd99::1/64 dev {bridge} nodad",
            "ip -n decoy -6 route replace fd99::/64 via fd00:ec2::1",
            f"{inside} sysctl -q net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.eth0.disable_ipv6=0",
            f"{inside} ip -6 address add fd99::2/64 dev eth0 nodad",
            f"{inside} ip -6 route replace default via fd99::1",
            # Each must know where the other is: what a sandbox says of that by IPv6 is refused as well.
            f"{inside} ip -6 neighbour replace fd99::1 dev eth0 lladdr $({mac.format(bridge)})",
            f"ip -6 neighbour replace fd99::2 dev {bridge} lladdr $({inside} {mac.format('eth0')})",
        ):
            machine.run(step)
        for address, port in (("fd00:ec2::254", 7778), ("fd99::1", 22)):
            connect = f"import socket; socket.create_connection(('{address}', {port}), 10)"
            done = sandbox.run(f'python3 -c "{connect}"', check=False)
            assert "ConnectionRefusedError" in done.stderr, done.stderr


def test_a_private_name_server_is_asked_and_otherwise_closed(machine: Machine, world: Decoy) -> None:
    machine.run(f"cp /etc/resolv.conf {HOME}/resolv.conf && echo nameserver {NAME_SERVER} >/etc/resolv.conf")
    try:
        machine.run(f"systemctl restart {machine.unit('firewall')}")
        with machine.sandbox("--cold") as sandbox:
            before = world.seen(f"udp {NAME_SERVER} 53")
            sandbox.run("timeout 20 getent ahosts name.example.com", check=False)
            eventually(lambda: world.seen(f"udp {NAME_SERVER} 53"), lambda seen: seen > before, 20, "question")
            port = world.port()
            assert world.probe(sandbox, "tcp", NAME_SERVER, port) == REFUSED and world.none_arrived(port)
            assert world.probe(sandbox, "tcp", NAME_SERVER, 53) == "pong"
    finally:
        machine.run(f"cat {HOME}/resolv.conf >/etc/resolv.conf; systemctl restart {machine.unit('firewall')}")
        machine.renew_pool()


def test_a_build_is_behind_the_wall(machine: Machine, world: Decoy) -> None:
    port, free = world.port(), world.port()
    with machine.sandbox() as sandbox:
        image = sandbox.inspect()["Config"]["Image"]
    probe = base64.b64encode(PROBE.encode()).decode()
    lines = [f"FROM {image}", "USER root", f"RUN echo {probe} | base64 -d >/p.py"]
    host = str(IPv4Interface(machine.settings.docker_bridge).ip)
    for address, number in ((METADATA, port), (PRIVATE, port), (host, 22), (FIRST, free)):
        lines.append(f"RUN python3 /p.py tcp {address} {number} | sed 's/^/<said /'")
    command = "docker build --no-cache --progress=plain --tag walled - 2>&1; docker image rm walled >/dev/null"
    done = machine.run(command, stdin="\n".join(lines).encode())
    said = [line.partition("<said ")[2] for line in done.stdout.splitlines() if "<said " in line and "RUN" not in line]
    assert said == [REFUSED, REFUSED, REFUSED, "pong"], done.stdout
    assert world.none_arrived(port)


def test_it_holds_while_docker_is_restarted(machine: Machine, world: Decoy) -> None:
    port, other_port = world.port(), world.port()
    with machine.sandbox() as sandbox, machine.sandbox("--network none") as none:
        serve(sandbox)
        tries(sandbox, METADATA, port)
        tries(none, FIRST, other_port)
        started = machine.out(f"systemctl show {machine.unit('firewall')} --property=ActiveEnterTimestampMonotonic")
        machine.run(RESTART)
        assert goes_on(sandbox) == {REFUSED} == goes_on(none)
        assert world.none_arrived(port) and world.none_arrived(other_port)
        again = machine.out(f"systemctl show {machine.unit('firewall')} --property=ActiveEnterTimestampMonotonic")
        assert started != again, "it was applied again"
        eventually(lambda: standing(machine), bool, 60, "firewall")
        walls(machine, world, sandbox, none)


@pytest.mark.parametrize(
    "flush",
    [
        "nft flush ruleset",
        "iptables -F; iptables -t nat -F; iptables -t mangle -F; iptables -t raw -F; iptables -P FORWARD ACCEPT",
        "nft delete table inet {table}",
        "nft flush table inet {table}",
        "for place in 90 91 92 93; do ip rule del pref $place; done; nft flush chain inet {table} seen",
    ],
)
def test_what_somebody_flushes_is_back_at_once_and_nothing_gets_through(
    machine: Machine, world: Decoy, flush: str
) -> None:
    ports = [world.port() for _ in range(3)]
    with machine.sandbox() as sandbox, machine.sandbox("--network none") as none:
        serve(sandbox)
        tries(sandbox, METADATA, ports[0])
        tries(none, FIRST, ports[1])
        flood(sandbox, METADATA, ports[2])
        for one in (sandbox, none):
            goes_on(one)
        try:
            machine.run(flush.format(table=f"{machine.project}-policies"))
            eventually(lambda: standing(machine), bool, 60, "firewall")
            assert "connected" not in goes_on(sandbox) | goes_on(none)
            assert world.none_arrived(ports[0]) and world.none_arrived(ports[1])
            # One that each processor has between the mark and the walls in the very moment of the flush.
            assert world.arrived(ports[2]) <= int(machine.out("nproc"))
            walls(machine, world, sandbox, none)
        finally:
            machine.run(RESTART)  # without its own chains it makes no network


def test_without_its_rules_nothing_is_passed_on_and_doctor_says_so(machine: Machine, world: Decoy) -> None:
    """Nobody can mend them: the host's nft is put aside."""
    port = world.port()
    with machine.sandbox() as sandbox, machine.sandbox("--network open") as wide:
        serve(sandbox)
        try:
            machine.run("mv /usr/sbin/nft /usr/sbin/nft.aside && /usr/sbin/nft.aside flush ruleset")
            for one in (sandbox, wide):
                for address in (METADATA, PRIVATE, FIRST):
                    assert world.probe(one, "tcp", address, port) != "pong"
            assert world.none_arrived(port)
            assert machine.request("GET", f"{sandbox.url(8123)}/").status_code == 200, "the gateway goes on"
            done = machine.run("docker-sandbox doctor --no-probe", check=False)
            assert done.returncode != 0 and "nft" in done.stdout
            failed = machine.run("docker-sandbox init --cold", check=False)
            assert failed.returncode != 0, "no sandbox is started without its rules"
        finally:
            machine.run("mv /usr/sbin/nft.aside /usr/sbin/nft")
            machine.run(RESTART)
        eventually(lambda: standing(machine), bool, 60, "firewall")
        walls(machine, world, sandbox, wide)


def test_it_holds_beside_the_older_iptables(machine: Machine, world: Decoy) -> None:
    """Docker's own rules are made by iptables-legacy: another part of the kernel."""
    before = machine.out("readlink /etc/alternatives/iptables")
    with machine.sandbox() as other:
        try:
            machine.run(f"update-alternatives --set iptables /usr/sbin/iptables-legacy; {RESTART}")
            assert "DOCKER" in machine.out("iptables-legacy -S")
            with machine.sandbox("--cold") as sandbox:
                serve(sandbox)
                walls(machine, world, sandbox, other)
                machine.run("nft flush ruleset")
                eventually(lambda: standing(machine), bool, 60, "firewall")
                walls(machine, world, sandbox, other)
        finally:
            machine.run(f"update-alternatives --set iptables {before}", check=False)
            machine.run(
                "for table in filter nat; do iptables-legacy -t $table -F; iptables-legacy -t $table -X; done;"
                f" iptables-legacy -P FORWARD ACCEPT; {RESTART}",
                check=False,
            )
            machine.renew_pool()  # inside are rules of the older kind, too, and nobody knows of those any more
