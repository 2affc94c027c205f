"""Names in the allow list of a sandbox: reached by TLS and HTTP through the egress proxy, and nothing else is.

The internet, its name server included, is a decoy: a network namespace of the host. Nothing leaves the host.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.api import with_key
from tests.host.machine import Machine, Sandbox, eventually
from tests.host.test_network import FIRST, HOME, PROBE, REFUSED, SECOND, Decoy, decoy, slot_of

__all__ = ["decoy"]
pytestmark = pytest.mark.disruptive

METADATA, PRIVATE = "169.254.169.254", "10.77.0.2"
SHOP, WILD, LEAD = "shop.example.com", "*.wild.example.com", "*.lead.example.com"
LISTED = f"--network none --allow {SHOP} --allow '{WILD}'"
SETUP = f"""
set -eu
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=internet -keyout {HOME}/key.pem -out {HOME}/internet.pem \
    2>/dev/null
cat {HOME}/key.pem >>{HOME}/internet.pem
lead() {{
    ip netns exec decoy iptables -t nat -I PREROUTING -d $1 -p $2 --dport $3 -j DNAT --to-destination $4
}}
for address in {FIRST} {SECOND}; do
    lead $address udp 53 $address:5353
    lead $address tcp 80 $address:8080
    lead $address tcp 443 $address:8443
done
for address in {METADATA} {PRIVATE}; do
    ip route replace $address via {FIRST}
    ip netns exec decoy iptables -t nat -A PREROUTING -d $address -p tcp -j REDIRECT --to-ports 7777
done
cp /etc/resolv.conf {HOME}/resolv.conf
systemd-run --quiet --collect --unit test-internet ip netns exec decoy python3 {HOME}/internet.py {HOME} {FIRST}
timeout 30 sh -c 'until [ -s {HOME}/asked ]; do sleep 0.1; done'
echo nameserver {FIRST} >/etc/resolv.conf
"""
# Sends its input to the proxy, and prints what is answered.
SAY = """
import socket, sys
with socket.create_connection(("198.18.0.1", 80), 20) as one:
    one.sendall(sys.stdin.buffer.read())
    while text := one.recv(4096):
        sys.stdout.write(text.decode())
"""
TEARDOWN = f"""
systemctl stop test-internet
[ ! -e {HOME}/resolv.conf ] || cat {HOME}/resolv.conf >/etc/resolv.conf
ip route delete {METADATA} via {FIRST}
ip route delete {PRIVATE} via {FIRST}
"""


class Internet:
    """The decoy, with servers."""

    def __init__(self, machine: Machine, decoy: Decoy) -> None:
        self.machine, self.decoy = machine, decoy
        self.proxy, self.names = machine.unit("egress"), machine.unit("names")

    def asked(self) -> set[str]:
        """What the name server was asked for."""
        return {line.split()[-1] for line in self.machine.out(f"cat {HOME}/asked").splitlines()}

    def denied(self, sandbox: Sandbox) -> list[str]:
        """By the documented command: what the log says of a sandbox."""
        shown = self.machine.run(f"journalctl --output cat --unit {self.proxy} --grep {sandbox.id}", check=False)
        return [line.partition("denied ")[2] for line in shown.stdout.splitlines()]

    def refusal(self, sandbox: Sandbox, name: str, port: int, why: str) -> None:
        """Waits until the log says it."""
        line = f"sandbox={sandbox.id} name={name} port={port}: {why}"
        eventually(lambda: self.denied(sandbox), lambda seen: line in seen, 30, f"line of the log, {line}")

    def followed(self) -> None:
        """Returns when packet rules and proxy are those for the name servers that the host has now.

        A change that comes while systemd sees to the one before is seen by sandboxd, which looks each half minute.
        """
        self.machine.run(f"systemctl restart {self.machine.unit('firewall')}")
        eventually(self.follows, bool, 90, "proxy that asks the host's name servers")
        eventually(self.listens, bool, 30, "proxy")

    def follows(self) -> bool:
        """Whether the proxy asks those, and no others."""
        wanted = self.machine.out("awk '$1 == \"nameserver\" { print $2 }' /etc/resolv.conf").split()
        shown = re.findall(r"^ nameserver (\S+):$", self.command("show resolvers host"), re.M)
        return sorted(shown) == sorted(wanted)

    def command(self, command: str) -> str:
        """What the proxy answers on its admin socket."""
        return self.machine.gateway(command, f"/run/{self.machine.project}-egress/admin.sock")

    def listens(self) -> bool:
        return len(self.machine.out("ss -Hltn src 198.18.0.1 | grep -e :15080 -e :15443 || true").splitlines()) == 2


@pytest.fixture(scope="module")
def internet(machine: Machine, decoy: Decoy) -> Iterator[Internet]:
    machine.run(f"cat >{HOME}/internet.py", stdin=Path(__file__).with_name("internet.py").read_bytes())
    made = Internet(machine, decoy)
    try:
        machine.run("bash -s", stdin=SETUP.encode())
        made.followed()
        yield made
    finally:
        machine.run("bash -s", stdin=TEARDOWN.encode(), check=False)
        made.followed()
        machine.renew_pool()


def fetch(sandbox: Sandbox, url: str, options: str = "") -> str:
    """What is answered, or the exit code of curl."""
    done = sandbox.run(f"curl -ksS --max-time 20 {options} {shlex.quote(url)}", check=False)
    return done.stdout.strip() if done.returncode == 0 else f"curl {done.returncode}"


def reaches(sandbox: Sandbox, name: str, address: str = FIRST) -> None:
    for scheme in ("https", "http"):
        assert fetch(sandbox, f"{scheme}://{name}/") == f"{name} at {address}", scheme


def is_denied(sandbox: Sandbox, name: str, options: str = "") -> None:
    """TLS ends, and HTTP is told why."""
    assert fetch(sandbox, f"https://{name}/", options).startswith("curl ")
    assert fetch(sandbox, f"http://{name}/", f"{options} -w '%{{http_code}}' -o /dev/null") == "403"


@pytest.mark.parametrize("options", ["", "--cold"])
def test_names_in_the_list_are_reached_and_no_others(internet: Internet, options: str) -> None:
    with internet.machine.sandbox(f"{LISTED} {options}") as sandbox:
        reaches(sandbox, SHOP)
        reaches(sandbox, "a.b.wild.example.com")
        for name in ("wild.example.com", f"not-{SHOP}", f"{SHOP}.evil.example.com", "evil-wild.example.com"):
            is_denied(sandbox, name)
            for port in (443, 80):
                internet.refusal(sandbox, name, port, "not in its allow list")
            assert name not in internet.asked(), "nobody is asked for what is denied"
        assert not [line for line in internet.denied(sandbox) if f"name={SHOP} " in line], "what is allowed is not told"
        assert internet.machine.info(sandbox.id)["network"]["allowOut"] == [SHOP, WILD]


def test_requests_on_one_connection_are_judged_one_by_one(internet: Internet) -> None:
    with internet.machine.sandbox(LISTED) as sandbox:
        told = fetch(sandbox, f"http://{SHOP}/", f"http://{SHOP}/ --next -ksS -H 'Host: evil.example.com'")
        assert told.splitlines()[0] == f"{SHOP} at {FIRST}" and "does not have this name" in told


def test_a_request_means_one_name(internet: Internet) -> None:
    """Whichever the proxy and the server might read out of it."""
    with internet.machine.sandbox(LISTED) as sandbox:
        sandbox.run("cat >/tmp/say.py", stdin=SAY.encode())

        def said(*lines: str) -> str:
            text = "".join(f"{line}\r\n" for line in (*lines, "Connection: close", ""))
            return sandbox.run("python3 /tmp/say.py", stdin=text.encode()).stdout

        host, evil = f"Host: {SHOP}", "Host: evil.example.com"
        for right in (host, f"{host}:80", f"Host: {SHOP.upper()}."):
            assert said("GET / HTTP/1.1", right).splitlines()[-1].lower().startswith(SHOP), right
        for lines in (
            ("GET http://evil.example.com/ HTTP/1.1", host),
            (f"GET http://{SHOP}/ HTTP/1.1", evil),
            (f"GET http://{SHOP}@evil.example.com/ HTTP/1.1", evil),
            ("GET / HTTP/1.1", host, evil),
            ("GET / HTTP/1.0",),
            ("CONNECT evil.example.com:443 HTTP/1.1", host),
            ("CONNECT evil.example.com:443 HTTP/1.1", "Host: evil.example.com:443"),
            ("GET / HTTP/1.1", f"Host: {SHOP}|evil.example.com"),
            ("GET / HTTP/1.1", f"Host: evil.example.com:80,{SHOP}"),
            ("GET / HTTP/1.1", f"Host: {SHOP}:evil.example.com"),
            ("GET / HTTP/1.1", "Host: [::1]:80"),
        ):
            assert said(*lines).split()[1] in ("400", "403"), lines
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
        assert "\0" not in sandbox.run("python3 /tmp/say.py", stdin=preface).stdout, "HTTP/2 is not spoken"
        pipelined = said("GET / HTTP/1.1", host, "", "GET / HTTP/1.1", evil)
        assert f"{SHOP} at {FIRST}" in pipelined and "does not have this name" in pipelined
        assert not any("evil" in name for name in internet.asked())


def test_what_a_client_believes_does_not_count(internet: Internet) -> None:
    """Neither its own idea of where a name leads, nor its hosts file, nor one name in TLS and another in its URL."""
    with internet.machine.sandbox(LISTED) as sandbox:
        before = internet.decoy.seen(f"tcp {SECOND} 443")
        assert fetch(sandbox, f"https://{SHOP}/", f"--resolve {SHOP}:443:{SECOND}") == "curl 7", "refused by the rules"
        is_denied(sandbox, "evil.example.com", "--resolve '*:443:198.18.0.1' --resolve '*:80:198.18.0.1'")
        sandbox.run("echo 198.18.0.1 alias.example.com >>/etc/hosts", "--user root")
        is_denied(sandbox, "alias.example.com")
        assert fetch(sandbox, "https://alias.example.com/", f"--connect-to ::{SHOP}:").startswith("curl "), "by its SNI"
        for literal in (FIRST, SECOND, "198.18.0.1"):
            assert fetch(sandbox, f"https://{literal}/").startswith("curl "), literal
        assert fetch(sandbox, "http://198.18.0.1:443/").startswith("curl "), "what is no TLS"
        internet.refusal(sandbox, "-", 443, "no name that can be read")
        assert internet.decoy.none_arrived(internet.decoy.port())
        assert internet.decoy.seen(f"tcp {SECOND} 443") == before


def test_a_name_leads_nowhere_that_is_closed(internet: Internet) -> None:
    machine, decoy = internet.machine, internet.decoy
    with machine.sandbox(f"--network none --allow '{LEAD}'") as sandbox, machine.sandbox() as other:
        neighbour = str(machine.info(other.id)["address"])
        other.run("exec python3 -m http.server 8000 --directory /code", "--background")
        before = [decoy.seen(f"tcp {one} {port}") for one in (METADATA, PRIVATE) for port in (80, 443)]
        for address in (METADATA, PRIVATE, neighbour, "127.0.0.1", "198.18.0.1", "0.0.0.0", "224.0.0.1"):
            name = f"ip-{address.replace('.', '-')}.lead.example.com"
            is_denied(sandbox, name)
            for port in (443, 80):
                internet.refusal(sandbox, name, port, f"in its allow list, but leads to {address}, which is closed")
        own = "ip-198-18-1-1.lead.example.com"  # the host itself: Traefik would answer
        assert fetch(sandbox, f"https://{own}/").startswith("curl ")
        assert fetch(sandbox, f"http://{own}/", "-w '%{http_code}' -o /dev/null") == "503"
        assert fetch(sandbox, "http://nowhere.lead.example.com/", "-w '%{http_code}' -o /dev/null") == "502"
        reaches(sandbox, f"ip-{SECOND.replace('.', '-')}.lead.example.com", SECOND)
        assert decoy.none_arrived(decoy.port())
        assert [decoy.seen(f"tcp {one} {port}") for one in (METADATA, PRIVATE) for port in (80, 443)] == before


def test_whoever_took_the_proxy_over_would_be_behind_the_wall(internet: Internet) -> None:
    """By the packet rules, for its user."""

    def probe(address: str, port: int) -> str:
        user = f"{internet.machine.project}-egress"
        command = (
            f"setpriv --reuid {user} --regid {user} --clear-groups python3 -c {shlex.quote(PROBE)} tcp {address} {port}"
        )
        return internet.machine.out(command)

    for address in (METADATA, PRIVATE, "198.18.1.1", "127.0.0.1"):
        for port in (22, 80, 443):
            assert probe(address, port) == REFUSED, f"{address}:{port}"
    assert probe(FIRST, 22) == REFUSED and probe(FIRST, 443) != REFUSED


def test_nothing_is_carried_out_in_names(internet: Internet) -> None:
    decoy = internet.decoy
    ask = "import socket; print(socket.gethostbyname('{}'))"
    with internet.machine.sandbox(f"--cold {LISTED}") as sandbox:
        before = [decoy.seen(f"{kind} {one} 53") for kind in ("udp", "tcp") for one in (FIRST, SECOND)]
        for name in ("a-secret.evil.example.com", "a-secret.wild.example.com", SHOP):
            assert sandbox.out(f'python3 -c "{ask.format(name)}"') == "198.18.0.1", name
        question = "123401000001000000000000" + "".join(
            f"{len(one):02x}{one.encode().hex()}" for one in ("b-secret", "com")
        )
        direct = (
            "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(20);"
            f"s.connect(('{SECOND}', 53)); s.send(bytes.fromhex('{question}0000010001'));"
            "print(socket.inet_ntoa(s.recv(500)[-4:]))"
        )
        assert sandbox.out(f'python3 -c "{direct}"') == "198.18.0.1", "whatever name server is asked"
        assert decoy.probe(sandbox, "udp", SECOND, 54) != "pong" and decoy.none_arrived(decoy.port())
        assert not any("secret" in name for name in internet.asked())
        assert [decoy.seen(f"{kind} {one} 53") for kind in ("udp", "tcp") for one in (FIRST, SECOND)] == before


def test_others_are_not_concerned(internet: Internet) -> None:
    with (
        internet.machine.sandbox(LISTED),
        internet.machine.sandbox("--cold") as free,
        internet.machine.sandbox(f"--network none --allow {SECOND}") as closed,
    ):
        assert fetch(free, "https://free.example.com/") == f"free.example.com at {FIRST}"
        assert "free.example.com" in internet.asked(), "it asks the host's name server as ever"
        assert fetch(closed, f"https://{SECOND}/", "-H 'Host: x.example.com'").endswith(f"at {SECOND}")
        for one in (free, closed):
            for port in (53, 80, 443, 15353, 15080, 15443):
                assert internet.decoy.probe(one, "tcp", "198.18.0.1", port) == REFUSED, port
            assert fetch(one, f"https://{SHOP}/", f"--resolve {SHOP}:443:198.18.0.1") == "curl 7"
    assert internet.machine.run(
        f"curl -ksS --max-time 5 --resolve {SHOP}:443:198.18.0.1 https://{SHOP}/", check=False
    ).returncode


def test_a_name_that_is_taken_away_is_cut(internet: Internet) -> None:
    machine = internet.machine
    with machine.sandbox(f"--cold {LISTED}") as sandbox:
        pull = f"curl -ksSN https://{SHOP}/stream -o /tmp/got; echo $? >/tmp/ended"
        size = "stat -c %s /tmp/got 2>/dev/null || echo 0"

        def begin() -> None:
            sandbox.run("rm -f /tmp/got /tmp/ended")
            sandbox.run(pull, "--background")
            eventually(lambda: int(sandbox.out(size)), lambda seen: seen > 1000, 30, "stream")

        def ended() -> None:
            eventually(lambda: sandbox.out("cat /tmp/ended 2>/dev/null || true"), bool, 60, "end of the stream")

        begin()
        machine.run(f"docker-sandbox network {sandbox.id} {LISTED} --allow more.example.com")
        before = int(sandbox.out(size))
        eventually(lambda: int(sandbox.out(size)), lambda seen: seen > before + 1000, 30, "stream that goes on")
        reaches(sandbox, "more.example.com")
        machine.run(f"docker-sandbox network {sandbox.id} --network none --allow more.example.com")
        ended()
        is_denied(sandbox, SHOP)
        reaches(sandbox, "more.example.com")
        machine.run(f"docker-sandbox network {sandbox.id} {LISTED}")
        begin()
        machine.run(f"docker-sandbox network {sandbox.id} --network none")
        ended()
        assert fetch(sandbox, f"https://{SHOP}/", f"--resolve {SHOP}:443:198.18.0.1") == "curl 7"
        machine.run(f"docker-sandbox network {sandbox.id} --network public")
        eventually(
            lambda: fetch(sandbox, f"https://{SHOP}/"), lambda seen: seen == f"{SHOP} at {FIRST}", 30, "open network"
        )
        machine.run(f"docker-sandbox network {sandbox.id} {LISTED}")
        eventually(
            lambda: fetch(sandbox, "https://z.wild.example.com/"), lambda seen: " at " in seen, 30, "names again"
        )


def test_it_holds_over_every_kind_of_restart(internet: Internet) -> None:
    machine = internet.machine
    with machine.sandbox(f"--keep {LISTED}") as sandbox:

        def holds() -> None:
            eventually(
                lambda: fetch(sandbox, f"https://{SHOP}/"), lambda seen: seen == f"{SHOP} at {FIRST}", 90, "name"
            )
            reaches(sandbox, SHOP)
            is_denied(sandbox, "evil.example.com")

        for restart in (
            f"systemctl restart {internet.proxy} {internet.names}",
            f"systemctl kill --signal KILL {internet.proxy} {internet.names}",
            f"systemctl restart {machine.unit('sandboxd')}",
            f"systemctl stop {machine.unit('sandboxd')} && systemctl restart {internet.proxy}"
            f" && systemctl start {machine.unit('sandboxd')}",
            f"nft delete table inet {machine.project}-policies",
            f"ip address delete 198.18.0.1/32 dev lo; systemctl restart {machine.unit('firewall')}",
            f"docker-sandbox pause {sandbox.id} && docker-sandbox resume {sandbox.id}",
            f"docker-sandbox stop {sandbox.id} && docker-sandbox start {sandbox.id}",
            f"docker restart --time 1 {sandbox.id}",
        ):
            machine.run(restart)
            holds()


def test_nobody_inherits_them(internet: Internet) -> None:
    machine = internet.machine
    table = f"nft list table inet {machine.project}-policies"
    with machine.sandbox(LISTED) as sandbox:
        address, slot = str(machine.info(sandbox.id)["address"]), slot_of(sandbox)
        map_file = f"{machine.settings.state}/names.map"
        assert f"{address} {sandbox.id}|{SHOP}|.wild.example.com" in machine.out(f"cat {map_file}")
        assert f'"sb-{slot}"' in machine.out(f"nft list set inet {machine.project}-policies named")
        machine.run(f"docker-sandbox kill {sandbox.id}")
        assert address not in machine.out(f"cat {map_file}") and slot not in machine.out(table)
        assert address not in internet.command(f"show map {map_file}")


def test_by_the_api(internet: Internet) -> None:
    with with_key(internet.machine, "names") as api:
        network = {"allowOut": [SHOP], "denyOut": ["0.0.0.0/0"]}
        with api.sandbox(network=network) as sandbox:
            reaches(sandbox, SHOP)
            is_denied(sandbox, "x.wild.example.com")
            assert api.ask("GET", f"/sandboxes/{sandbox.id}", 200)["network"]["allowOut"] == [SHOP]
            other = {"allowOut": [WILD], "denyOut": ["0.0.0.0/0"]}
            api.ask("PUT", f"/sandboxes/{sandbox.id}/network", 204, json=other)
            reaches(sandbox, "x.wild.example.com")
            is_denied(sandbox, SHOP)
            refused = api.ask("PUT", f"/sandboxes/{sandbox.id}/network", 400, json={"allowOut": [SHOP]})
            assert "is a name, which does nothing unless all else is denied" in refused["message"]


def test_a_flood_of_refusals_is_bounded_in_the_log(internet: Internet) -> None:
    with internet.machine.sandbox(LISTED) as sandbox:
        sandbox.run("for n in $(seq 300); do curl -ks --max-time 5 https://flood-$n.example.com/ || true; done")
        lines = [line for line in internet.denied(sandbox) if "flood-" in line]
        assert 20 <= len(lines) < 250, "20 at once, and one each second"

        def told() -> list[str]:
            is_denied(sandbox, "last.example.com")
            return internet.denied(sandbox)

        seen = eventually(
            told, lambda seen: any("last.example.com" in line for line in seen), 60, "line after the flood"
        )
        assert any("lines before this were left out" in line for line in seen)


def test_other_name_servers_are_asked_as_soon_as_the_host_has_them(internet: Internet) -> None:
    """And a file that is written anew with the same ones, as DHCP does, ends no connection."""
    machine = internet.machine

    def process() -> str:
        return machine.out(f"systemctl show {internet.proxy} --property MainPID --value")

    before = process()
    machine.run("cp /etc/resolv.conf /etc/resolv.new && echo options timeout:2 >>/etc/resolv.new")
    machine.run("cat /etc/resolv.new >/etc/resolv.conf; rm /etc/resolv.new; sleep 3")
    assert process() == before
    try:
        machine.run(f"echo nameserver {SECOND} >>/etc/resolv.conf")
        eventually(internet.follows, bool, 90, "proxy that asks both")
        assert process() != before
    finally:
        machine.run(f"echo nameserver {FIRST} >/etc/resolv.conf")
        internet.followed()
        machine.renew_pool()


def test_where_the_host_itself_is_asked_names_are_refused(internet: Internet) -> None:
    machine = internet.machine
    before = machine.out("cat /etc/resolv.conf")
    machine.run("echo nameserver 127.0.0.1 >/etc/resolv.conf")
    try:
        done = machine.run(f"docker-sandbox init {LISTED}", check=False)
    finally:
        machine.run("cat >/etc/resolv.conf", stdin=f"{before}\n".encode())
        internet.followed()
        machine.renew_pool()
    assert done.returncode != 0 and "this host cannot tell names apart: its name server 127.0.0.1" in done.stderr


def test_doctor_says_when_it_does_not_run(internet: Internet) -> None:
    machine = internet.machine

    def findings() -> dict[str, str]:
        return {name: one["level"] for name, one in machine.findings("").items()}

    wanted = ("unit-egress", "unit-names", "egress-proxy")
    assert {findings()[name] for name in wanted} == {"ok"}
    machine.run(f"systemctl stop {internet.proxy} {internet.names}")
    try:
        found = findings()
        assert (found["unit-egress"], found["unit-names"], found["egress-proxy"]) == ("fail", "fail", "blocked")
        done = machine.run(f"docker-sandbox init {LISTED}", check=False)
        assert done.returncode != 0 and "the egress proxy does not answer" in done.stderr
    finally:
        machine.run(f"systemctl start {internet.proxy} {internet.names}")
        eventually(internet.listens, bool, 30, "proxy")
