"""Where a sandbox may connect to. The internet is a decoy: a network namespace of the host, which counts what arrives.

Nothing leaves the host. Each test asks for a port of its own, by which its packets are known; that none has arrived is
looked at after one of somebody else has.
"""

from __future__ import annotations

import random
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.machine import Machine, Sandbox, eventually

pytestmark = pytest.mark.disruptive

FIRST, SECOND = "198.18.1.2", "198.18.2.2"  # RFC 2544: nobody's on the internet
NETWORKS = "198.18.0.0/15"
REFUSED = "ConnectionRefusedError"
UNREACHABLE = "OSError"  # EHOSTUNREACH has no class of its own
HOME = "/run/test-decoy"
SETUP = f"""
set -eu
ip netns add decoy
ip link add decoy-host type veth peer name decoy-peer netns decoy
ip address add 198.18.1.1/24 dev decoy-host
ip address add 198.18.2.1/24 dev decoy-host
ip link set decoy-host up
ip -n decoy address add {FIRST}/24 dev decoy-peer
ip -n decoy address add {SECOND}/24 dev decoy-peer
ip -n decoy link set decoy-peer up
ip -n decoy link set lo up
for protocol in tcp udp; do
    for address in {FIRST} {SECOND}; do
        rule="-d $address -p $protocol -j DNAT --to-destination $address:7777"
        ip netns exec decoy iptables -t nat -A PREROUTING $rule
    done
done
systemd-run --quiet --collect --unit test-decoy ip netns exec decoy python3 {HOME}/decoy.py {HOME}/log
timeout 30 sh -c 'until [ -s {HOME}/log ]; do sleep 0.1; done'
"""
TEARDOWN = f"""
systemctl stop test-decoy test-names
ip netns delete decoy
ip link delete decoy-host
[ ! -e {HOME}/resolv.conf ] || cat {HOME}/resolv.conf >/etc/resolv.conf
rm -rf {HOME}
"""
PROBE = """
import socket, sys
kind, address, port, *patience = sys.argv[1:]
try:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as one:
        one.settimeout(float((patience or [10])[0]))
        one.connect((address, int(port)))
        one.send(b"ping")
        print(one.recv(10).decode())
except OSError as error:
    print(type(error).__name__)
"""
# Takes what comes, and writes down how much it was, and how it ended.
STREAM = """
import socket, sys
kind, address, port, file = sys.argv[1:]
with socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as one:
    one.connect((address, int(port)))
    one.send(b"stream")
    count = 0
    while True:
        try:
            count += len(one.recv(1000))
            said = str(count)
        except OSError as error:
            said = type(error).__name__
        open(file, "w").write(said)
        if not said.isdecimal():
            break
"""
# Begins with the sandbox, as root, and tries for ever; counts, and writes down each way in which TCP has failed. Of UDP
# the kernel tells only now and then.
STARTER = """#!/usr/bin/env python3
import os, socket, sys, time
seen, count = {{}}, 0
while True:
    try:
        with socket.create_connection(("{address}", {port}), 2) as one:
            word = "connected"
    except OSError as error:
        word = type(error).__name__
    seen[word] = seen.get(word, 0) + 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.sendto(b"ping", ("{address}", {port}))
        except OSError:
            pass
    count += 1
    with open("/tmp/seen.new", "w") as file:
        file.write(f"{{count}} " + " ".join(sorted(seen)))
    os.rename("/tmp/seen.new", "/tmp/seen")
    time.sleep(0.005)
"""
# As many packets as it can send, so that a hole of a millisecond is seen.
FLOOD = """
import contextlib, socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
    while True:
        with contextlib.suppress(OSError):
            one.sendto(b"ping", ("{address}", {port}))
"""
# A name server on the host's loopback that writes down what it is asked for, and knows nothing.
NAMES = """
import re, socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
with open("HOME/names", "w", buffering=1) as log:
    while True:
        question, peer = server.recvfrom(1000)
        print(re.sub(rb"[^a-z0-9-]", b".", question).decode(), file=log)
        server.sendto(question[:2] + bytes([0x81, 0x83]) + question[4:], peer)
""".replace("HOME", HOME)


class Decoy:
    """The internet as the tests see it."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        # Not from 32768 on: a server of a test on the host could not have one that a connection of the host has.
        self._ports = iter(random.sample(range(20000, 32768), 500))

    def port(self) -> int:
        """One that nobody else asks for, or listens on."""
        return next(self._ports)

    def arrived(self, port: int) -> int:
        """How many packets for that port have arrived."""
        return self.seen(f" {port}")

    def seen(self, end: str) -> int:
        """How many lines of the log have that end."""
        return sum(line.endswith(end) for line in self.machine.out(f"cat {HOME}/log").splitlines())

    def probe(self, sandbox: Sandbox, kind: str, address: str, port: int, patience_s: float = 10) -> str:
        """`pong`, or the name of the exception."""
        return sandbox.out(f"python3 -c '{PROBE}' {kind} {address} {port} {patience_s}")

    def none_arrived(self, port: int) -> bool:
        """Looked at after a packet of the host itself has been seen."""
        last = self.port()
        self.machine.run(f"python3 -c '{PROBE}' udp {FIRST} {last}")
        eventually(lambda: self.arrived(last), bool, 20, "packet of the host")
        return self.arrived(port) == 0


@pytest.fixture(scope="module")
def decoy(machine: Machine) -> Iterator[Decoy]:
    machine.run("bash -s", stdin=TEARDOWN.encode(), check=False)
    source = (Path(__file__).with_name("decoy.py")).read_bytes()
    machine.run(f"mkdir -p {HOME} && cat >{HOME}/decoy.py", stdin=source)
    try:
        machine.run("bash -s", stdin=SETUP.encode())
        yield Decoy(machine)
    finally:
        machine.run("bash -s", stdin=TEARDOWN.encode(), check=False)


def flood(sandbox: Sandbox, address: str, port: int) -> None:
    """Sends there by UDP for ever."""
    program = shlex.quote(FLOOD.format(address=address, port=port))
    sandbox.run(f"exec python3 -c {program}", "--background")


def slot_of(sandbox: Sandbox) -> str:
    return str(sandbox.inspect()["Config"]["Labels"]["sandbox.slot"])


def rules(machine: Machine, slot: str) -> str:
    """The lines of our table that are about one slot; of a map, which has no order, its element alone."""
    table = machine.run(f"nft list table inet {machine.project}-policies", check=False).stdout
    lines = [line.replace("elements = {", "").strip(" \t,}") for line in table.splitlines() if slot in line]
    return "\n".join(lines)


def test_by_default_the_internet_is_reached(machine: Machine, decoy: Decoy) -> None:
    with machine.sandbox() as sandbox:
        for kind in ("tcp", "udp"):
            port = decoy.port()
            assert decoy.probe(sandbox, kind, FIRST, port) == "pong"
            assert not decoy.none_arrived(port)


@pytest.mark.parametrize("options", ["", "--cold"])
def test_without_internet_nothing_leaves_and_the_rest_goes_on(machine: Machine, decoy: Decoy, options: str) -> None:
    with machine.sandbox(f"--network none {options}") as sandbox:
        for kind, refusal in (("tcp", REFUSED), ("udp", UNREACHABLE)):
            port = decoy.port()
            assert decoy.probe(sandbox, kind, FIRST, port) == refusal
            assert decoy.none_arrived(port)
        gateway = sandbox.out("ip route show default | cut -d ' ' -f 3")
        assert decoy.probe(sandbox, "tcp", gateway, 22) == REFUSED, "the host itself is not reached, either"
        sandbox.serve("python3 -m http.server 8000 --bind 127.0.0.1 --directory /code")
        machine.run(
            f"head -c 3000000 /dev/urandom >{HOME}/file && docker-sandbox upload {sandbox.id} {HOME}/file /code/file"
            f" && docker-sandbox download {sandbox.id} /code/file {HOME}/copy && cmp {HOME}/file {HOME}/copy"
        )
        assert len(machine.request("GET", f"{sandbox.url()}/file").content) == 3_000_000
        assert machine.info(sandbox.id)["allowInternetAccess"] is False


def test_an_allow_wins_over_a_deny(machine: Machine, decoy: Decoy) -> None:
    for options in (f"--deny {NETWORKS} --allow {SECOND}", f"--network none --allow 198.18.2.0/24 --allow {FIRST}/32"):
        with machine.sandbox(options) as sandbox:
            port, denied = decoy.port(), "198.18.1.1" if "none" in options else FIRST
            assert decoy.probe(sandbox, "tcp", denied, port) == REFUSED and decoy.none_arrived(port)
            assert decoy.probe(sandbox, "tcp", SECOND, port) == "pong"
            assert decoy.probe(sandbox, "udp", SECOND, port) == "pong"


def test_a_deny_of_one_network_leaves_the_others(machine: Machine, decoy: Decoy) -> None:
    with machine.sandbox("--deny 198.18.1.0/24") as sandbox:
        port = decoy.port()
        assert decoy.probe(sandbox, "tcp", FIRST, port) == REFUSED and decoy.none_arrived(port)
        assert decoy.probe(sandbox, "tcp", SECOND, port) == "pong"


def test_a_change_cuts_what_is_open(machine: Machine, decoy: Decoy) -> None:
    """Both ways: a server that goes on sending does not get through any more."""
    with machine.sandbox() as sandbox, machine.sandbox() as other:

        def stream(one: Sandbox, kind: str) -> None:
            one.run(f"exec python3 -c '{STREAM}' {kind} {FIRST} {decoy.port()} /tmp/{kind}", "--background")

        def got(one: Sandbox, kind: str) -> str:
            return one.out(f"cat /tmp/{kind} 2>/dev/null || true")

        def more(one: Sandbox, kind: str, than: int) -> int:
            return int(
                eventually(
                    lambda: got(one, kind), lambda seen: seen.isdecimal() and int(seen) > than, 30, f"more by {kind}"
                )
            )

        for kind in ("tcp", "udp"):
            stream(sandbox, kind)
            stream(other, kind)
            more(sandbox, kind, 10)
        machine.run(f"docker-sandbox network {sandbox.id} --network none")
        eventually(lambda: got(sandbox, "tcp"), lambda seen: seen == "ConnectionResetError", 30, "end of the stream")
        # Until it stands its program may not have read all that had arrived.
        stands, _ = eventually(
            lambda: (got(sandbox, "udp"), got(sandbox, "udp")),
            lambda seen: seen[0] == seen[1] and seen[0].isdecimal(),
            30,
            "count by udp that stands",
        )
        cut = int(stands)
        for kind in ("tcp", "udp"):
            more(other, kind, more(other, kind, 0) + 50)
        assert int(got(sandbox, "udp")) - cut <= 1, "what was on its way at most"
        machine.run(f"docker-sandbox network {sandbox.id} --network public")
        assert decoy.probe(sandbox, "tcp", FIRST, decoy.port()) == "pong"
        more(sandbox, "udp", cut + 10)


def test_what_is_denied_before_and_after_a_change_is_denied_meanwhile(machine: Machine, decoy: Decoy) -> None:
    port = decoy.port()
    with machine.sandbox("--deny 198.18.1.0/24") as sandbox:
        flood(sandbox, FIRST, port)
        for _ in range(5):
            for more in ("--deny 198.18.2.0/24", ""):
                machine.run(f"docker-sandbox network {sandbox.id} --network public --deny 198.18.1.0/24 {more}")
        assert decoy.none_arrived(port)
        machine.run(f"docker-sandbox network {sandbox.id} --network public")
        eventually(lambda: decoy.arrived(port), bool, 20, "packet of the flood")


def test_root_inside_cannot_undo_it(machine: Machine, decoy: Decoy) -> None:
    with machine.sandbox("--network none") as sandbox:
        slot, port = slot_of(sandbox), decoy.port()
        before = rules(machine, slot)
        for attempt in (
            "apt-get install -y nftables iptables conntrack",
            "ip link add x type dummy",
            f"ip route add {FIRST} dev lo",
            "ip address add 198.18.1.9/24 dev eth0",
            "unshare --user --map-root-user --net true && nsenter --net=/proc/1/ns/net ip link set eth0 down",
            "echo 0 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6",
            'python3 -c "import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)"',
            'python3 -c "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"',
        ):
            assert sandbox.run(attempt, "--user root", check=False).returncode != 0, attempt
        for user in ("root", "user"):
            done = sandbox.run(f"python3 -c '{PROBE}' tcp {FIRST} {port}", f"--user {user}")
            assert done.stdout == f"{REFUSED}\n"
        assert decoy.none_arrived(port) and rules(machine, slot) == before


def test_it_holds_over_every_kind_of_restart(machine: Machine, decoy: Decoy) -> None:
    """A program that starts with the sandbox tries all the time; not one packet of it arrives."""
    port = decoy.port()
    starter = STARTER.format(address=FIRST, port=port)
    with machine.sandbox("--network none --keep") as sandbox:

        def tries() -> int:
            return int(sandbox.run("cat /tmp/seen", check=False).stdout.partition(" ")[0] or 0)

        def goes_on() -> None:
            eventually(tries, bool, 90, "program that tries")
            before = tries()
            eventually(tries, lambda seen: seen > before + 20, 60, "program that goes on")
            assert sandbox.out("cat /tmp/seen").split()[1:] == [REFUSED]
            assert decoy.none_arrived(port)

        sandbox.run(
            "mkdir -p /etc/sandbox/start.d && cat >/etc/sandbox/start.d/tries && chmod 755 /etc/sandbox/start.d/tries",
            "--user root",
            stdin=starter.encode(),
        )
        anew = "rm -f /tmp/seen"
        for restart in (
            f"docker-sandbox stop {sandbox.id} && docker-sandbox start {sandbox.id}",
            f"docker restart --time 1 {sandbox.id}",
            f"docker-sandbox pause {sandbox.id} && docker-sandbox resume {sandbox.id}",
            f"systemctl restart {machine.unit('sandboxd')}",
            "systemctl restart docker",
            f"docker kill {sandbox.id}",
        ):
            sandbox.run(anew, "--user root", check=False)
            machine.run(restart)
            goes_on()


def test_what_somebody_takes_away_comes_back(machine: Machine, decoy: Decoy) -> None:
    with machine.sandbox("--network none") as sandbox, machine.sandbox(f"--deny {FIRST}") as other:
        slots = [slot_of(one) for one in (sandbox, other)]
        before = [rules(machine, slot) for slot in slots]
        machine.run(f"nft delete table inet {machine.project}-policies")
        eventually(lambda: [rules(machine, slot) for slot in slots], lambda seen: seen == before, 90, "rules again")
        port = decoy.port()
        assert decoy.probe(sandbox, "tcp", FIRST, port) == REFUSED and decoy.none_arrived(port)


def test_they_go_with_the_sandbox(machine: Machine, decoy: Decoy) -> None:
    with machine.sandbox(f"--network none --allow {FIRST}") as sandbox:
        slot = slot_of(sandbox)
        assert len(re.findall(rf"chain (from|to)-{slot}", rules(machine, slot))) == 2
        machine.run(f"docker-sandbox kill {sandbox.id}")
        assert rules(machine, slot) == ""


@pytest.fixture
def name_servers(machine: Machine, decoy: Decoy) -> Iterator[None]:
    """The host has its resolv.conf again at the end."""
    machine.run(f"cp /etc/resolv.conf {HOME}/resolv.conf")
    try:
        yield
    finally:
        machine.run(f"cat {HOME}/resolv.conf >/etc/resolv.conf; systemctl stop test-names", check=False)
        machine.run(f"systemctl restart {machine.unit('firewall')}")  # the wall has openings for name servers
        machine.renew_pool()


LOOK_UP = "getent ahosts {} >/dev/null || true"


@pytest.mark.usefixtures("name_servers")
def test_names_do_not_leave_by_a_server_on_the_internet(machine: Machine, decoy: Decoy) -> None:
    machine.run(f"echo nameserver {FIRST} >/etc/resolv.conf")

    def arrived() -> int:
        return decoy.seen(f"udp {FIRST} 53")

    with machine.sandbox("--cold --network none") as closed, machine.sandbox("--cold") as sandbox:
        before = arrived()
        closed.run(LOOK_UP.format("a-secret.example.com"))
        assert decoy.probe(closed, "udp", "127.0.0.11", 53) == "PermissionError"
        assert decoy.none_arrived(decoy.port()) and arrived() == before
        sandbox.run(f"timeout 20 sh -c '{LOOK_UP.format('no-secret.example.com')}'", check=False)
        eventually(arrived, lambda seen: seen > before, 20, "question of a sandbox that may ask")
        before = arrived()
        machine.run(f"docker-sandbox network {closed.id} --network none --allow {FIRST}")
        closed.run(f"timeout 20 sh -c '{LOOK_UP.format('allowed.example.com')}'", check=False)
        eventually(arrived, lambda seen: seen > before, 20, "question that is allowed")


@pytest.mark.usefixtures("name_servers")
def test_the_pool_asks_the_name_servers_that_the_host_has_now(machine: Machine) -> None:
    machine.renew_pool()
    before = set(machine.members())
    machine.run(f"echo nameserver {FIRST} >/etc/resolv.conf")
    eventually(lambda: before & set(machine.members()), lambda left: not left, 90, "pool made anew")


@pytest.mark.usefixtures("name_servers")
def test_names_do_not_leave_by_a_server_on_the_hosts_loopback(machine: Machine, decoy: Decoy) -> None:
    """That one Docker asks from the host's own network, which no rule of a bridge sees."""
    machine.run(f"cat >{HOME}/names.py", stdin=NAMES.encode())
    machine.run(f"systemd-run --quiet --collect --unit test-names python3 {HOME}/names.py")
    machine.run(f"timeout 20 sh -c 'until [ -e {HOME}/names ]; do sleep 0.1; done'")
    machine.run("echo nameserver 127.0.0.1 >/etc/resolv.conf")

    def asked(name: str) -> bool:
        return name in machine.out(f"cat {HOME}/names")

    with machine.sandbox("--cold --network none") as closed, machine.sandbox("--cold") as sandbox:
        closed.run(LOOK_UP.format("first-secret.example.com"))
        sandbox.run(LOOK_UP.format("no-secret.example.com"))
        assert asked("no-secret") and not asked("first-secret")
        machine.run(f"docker-sandbox stop {closed.id} && docker-sandbox start {closed.id}")
        machine.run(f"docker-sandbox network {sandbox.id} --network none")
        for one in (closed, sandbox):
            one.run(LOOK_UP.format("second-secret.example.com"))
        machine.run(f"docker-sandbox network {closed.id} --network public")
        closed.run(LOOK_UP.format("again-allowed.example.com"))
        assert asked("again-allowed") and not asked("second-secret")
