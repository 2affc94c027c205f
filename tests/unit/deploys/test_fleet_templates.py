"""What the hosts of a fleet read, as their deploy renders it: who may ask whom, and by which socket."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from fleet.config import Fencing
from fleet.config import load as load_fleet
from sandboxd import config
from sandboxd.cli import place
from tests.plan.process import planned, rendered
from tests.plan.scenarios import DOMAIN

# One process makes the plans of all these tests.
pytestmark = pytest.mark.xdist_group("plan")

TLS = (
    "ssl crt /etc/flourisha-sandbox/fleet/node.pem ca-file /etc/flourisha-sandbox/fleet/ca.pem verify required "
    "ssl-min-ver TLSv1.3 alpn http/1.1"
)
NODE_SOCKET = "/run/flourisha-sandbox/node.sock"


def one(template: str, case: str) -> str:
    text = rendered(template, case)
    assert text is not None
    return text


def haproxy(case: str) -> list[str]:
    return [line.strip() for line in one("etc/haproxy/haproxy.cfg", case).splitlines()]


def backend(name: str, case: str) -> list[str]:
    _, _, rest = one("etc/haproxy/haproxy.cfg", case).partition(f"\nbackend {name}\n")
    return [
        line.strip() for line in re.split(r"^(?:back|front)end ", rest, maxsplit=1, flags=re.MULTILINE)[0].splitlines()
    ]


# --- The gateway -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("case", "address"), [("fleet-manager", "192.0.2.11"), ("fleet-worker", "192.0.2.12")])
def test_hosts_are_asked_over_tls_with_a_certificate_on_both_sides(case: str, address: str) -> None:
    assert f"bind {address}:8443 {TLS}" in haproxy(case)


@pytest.mark.parametrize("case", ["fleet-manager", "fleet-worker"])
def test_who_is_no_manager_is_refused_before_anything_else(case: str) -> None:
    """A worker of the gateway that was replaced by a reload sends requests on without the certificate."""
    lines = haproxy(case)
    start = lines.index("frontend gateway")
    rules = [line for line in lines[start:] if line.startswith("http-request") and "set-var" not in line]
    assert "return status 403" in rules[0] and rules[0].endswith("if of_fleet !of_manager !to_sandbox")
    backends = [line for line in lines[start:] if line.startswith("use_backend")]
    assert backends[:2] == [
        "use_backend node if of_manager of_itself to_node",
        "use_backend node_keys if of_manager of_itself to_keys",
    ]


@pytest.mark.parametrize("case", ["fleet-manager", "fleet-worker"])
def test_managers_are_known_by_their_ids(case: str) -> None:
    """The role in a certificate is that of the day when it was made."""
    assert [line for line in haproxy(case) if "ssl_c_s_dn" in line] == ["acl of_manager ssl_c_s_dn(CN) -m str id-a"]


def test_a_manager_knows_each_host_by_its_certificate() -> None:
    for name, node_id, address in (("a", "id-a", "192.0.2.11"), ("b", "id-b", "192.0.2.12")):
        server = f"server {name} {address}:8443 tcp-ut 10s {TLS} verifyhost {node_id}"
        assert server in backend(f"to_{name}", "fleet-manager"), "what people send comes without the host's name"
        assert f"{server} sni str({node_id})" in backend(f"apis_{name}", "fleet-manager")


@pytest.mark.parametrize("name", ["to_a", "to_b", "apis_a", "apis_b"])
def test_a_host_that_dies_with_a_question_is_not_waited_for(name: str) -> None:
    """tcp-ut is for what was sent and not acknowledged. Of what was, without probes, nothing ever comes."""
    lines = backend(name, "fleet-manager")
    assert "option srvtcpka" in lines
    times = {word: int(value.removesuffix("s")) for word, value in (line.split() for line in lines if "tcpka-" in line)}
    assert times.keys() == {"srvtcpka-idle", "srvtcpka-intvl"} and sum(times.values()) < 10


def test_a_manager_has_a_socket_for_each_host() -> None:
    bound = [line for line in haproxy("fleet-manager") if line.startswith("bind unix@")]
    assert bound == [f"bind unix@/run/flourisha-nodes/{name}.sock name {name} mode 600" for name in ("a", "b")]
    drop_in = one("etc/systemd/system/haproxy.service.d/60-project-sandbox.conf", "fleet-manager")
    assert "RuntimeDirectory=flourisha-nodes" in drop_in.splitlines()


def test_a_worker_enters_no_other_host() -> None:
    text = one("etc/haproxy/haproxy.cfg", "fleet-worker")
    assert re.findall(r"^backend (?:to|apis)_|nodes\.map|^frontend nodes", text, re.MULTILINE) == []
    drop_in = one("etc/systemd/system/haproxy.service.d/60-project-sandbox.conf", "fleet-worker")
    assert "RuntimeDirectory" not in drop_in


def test_what_is_not_here_is_looked_for_in_the_fleet_once() -> None:
    lines = haproxy("fleet-manager")
    looked = [line for line in lines if "/var/lib/flourisha-sandbox/nodes.map" in line]
    assert looked == [
        "http-request set-var(txn.node) var(txn.id),map_str(/var/lib/flourisha-sandbox/nodes.map) if !known !of_fleet"
    ]
    gone = [line for line in lines if "The sandbox was not found" in line]
    assert gone[0].endswith("if !known !elsewhere")


@pytest.mark.parametrize(("case", "keys"), [("fleet-manager", "127.0.0.1:8091"), ("fleet-worker", "127.0.0.1:8090")])
def test_the_gateway_finds_both_apis_of_sandboxd(case: str, keys: str, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(one("etc/project-sandbox/config.toml", case))
    loaded = config.load(file)
    assert loaded.fleet is not None
    assert loaded.egress.fleet == ("192.0.2.11/32", "192.0.2.12/32")
    assert loaded.egress.fleet_ports == (2377, 7946, 5000, 8443)
    assert f"server sandboxd unix@{loaded.fleet.socket}" in backend("node", case)
    assert f"server sandboxd {loaded.listen[0]}:{loaded.listen[1]}" in backend("node_keys", case)
    assert (str(loaded.fleet.socket), loaded.fleet.group) == (NODE_SOCKET, "haproxy")
    assert f"server sandboxd {keys}" in backend("node_keys", case)
    # What people ask: a manager's fleet service, a worker's own sandboxd.
    assert "server sandboxd 127.0.0.1:8090" in backend("api", case)


# --- Who answers at which socket -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("case", "manages"), [("fleet-manager", True), ("fleet-worker", False)])
def test_sandboxd_leaves_its_place_to_the_fleet_service_of_a_manager(case: str, manages: bool, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(one("etc/project-sandbox/config.toml", case))
    loaded = config.load(file)
    assert loaded.fleet is not None and loaded.fleet.manages == manages
    assert str(loaded.socket) == place.read(str(file)).socket == "/run/flourisha-sandbox/sandboxd.sock"
    release = one("usr/local/lib/project-sandbox/sandboxd-release", case)
    assert f'socket="{NODE_SOCKET if manages else loaded.socket}"' in release.splitlines()


def test_a_manager_has_a_command_for_itself_alone(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text(one("etc/project-sandbox/node.toml", "fleet-manager"))
    assert place.read(str(file)) == place.Place(NODE_SOCKET, ("127.0.0.1", 8081))
    assert place.audit_log(str(file)) == "/var/log/flourisha-sandbox/audit.log"
    command = "/usr/local/lib/flourisha-sandbox/docker-sandbox-node"
    assert f"ExecStart={command} pool start --wait" in one(
        "etc/systemd/system/project-container-pool.service", "fleet-manager"
    )
    assert f" {command} cleanup --older-than" in one("etc/cron.d/project-sandbox-cleanup", "fleet-manager")
    assert rendered("etc/project-sandbox/node.toml", "fleet-worker") is None


def test_what_the_fleet_service_is_told() -> None:
    told = tomllib.loads(one("etc/project-sandbox/fleet.toml", "fleet-manager"))
    size = {"memory_mb": 2048, "cpus": 2.0}
    assert told["templates"]["base"] == size
    assert re.fullmatch(r"flourisha-lease:trixie-[0-9a-f]{12}", told["lease_image"])
    assert {key: value for key, value in told.items() if key not in ("templates", "lease_image")} == {
        "project": "flourisha",
        "domain": DOMAIN,
        "node": "a",
        "lease_memory_share": 0.5,
        "lease_cpus_share": 0.1,
        "listen": "127.0.0.1:8090",
        "socket": "/run/flourisha-sandbox/sandboxd.sock",
        "socket_group": "sandbox",
        "default_template": "base",
        "engine": "/run/flourisha-swarmd.sock",
        "map": "/var/lib/flourisha-sandbox/nodes.map",
        "admin": "/run/haproxy/admin.sock",
        "nodes": {
            "a": {"role": "manager", "address": "192.0.2.11", "socket": "/run/flourisha-nodes/a.sock"},
            "b": {"role": "worker", "address": "192.0.2.12", "socket": "/run/flourisha-nodes/b.sock"},
        },
    }


def test_only_a_manager_has_the_fleet_service() -> None:
    for case, count in (("fleet-manager", 1), ("fleet-worker", 0), ("default", 0)):
        steps = [step.name for step in planned(case).steps]
        assert steps.count("Fleet service | Run the fleet service") == count
    installed = {
        case: [
            command
            for step in planned(case).steps
            if step.name == "sandboxd | Install sandboxd"
            for command in step.commands
        ]
        for case in ("fleet-manager", "fleet-worker")
    }
    assert [case for case, commands in installed.items() if any("/src/fleet " in command for command in commands)] == [
        "fleet-manager"
    ]


# --- Between the hosts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["fleet-manager", "fleet-worker"])
def test_the_ports_between_hosts_are_closed_to_others_before_anybody_listens(case: str) -> None:
    text = one("etc/project-sandbox/fleet.nft", case)
    assert 'iifname != "lo" meta l4proto { tcp, udp } th dport { 2377, 7946, 5000, 8443 } goto hosts' in text
    _, _, rules = text.partition("chain hosts {")
    lines = [line.strip() for line in rules.splitlines() if line.strip(" }")]
    addresses = [
        node["address"]
        for node in tomllib.loads(one("etc/project-sandbox/fleet.toml", "fleet-manager"))["nodes"].values()
    ]
    assert lines == [
        *(f"ip saddr {address} accept" for address in addresses),
        "meta l4proto tcp reject with tcp reset",
        "reject with icmpx admin-prohibited",
    ]
    steps = [step.name for step in planned(case).steps]
    assert steps.index("Fleet firewall | Close the fleet's ports to others") < steps.index(
        "Fleet | Run the fleet engine"
    )


# --- Shared storage --------------------------------------------------------------------------------------------------


def test_where_volumes_are_shared_and_who_fences(tmp_path: Path) -> None:
    plan = planned("fleet-shared")
    assert plan.status == 0, plan.output
    texts = {name: plan.files[f"/etc/flourisha-sandbox/{name}"] for name in ("config.toml", "fleet.toml")}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    assert config.load(tmp_path / "config.toml").shared == config.Shared(Path("/srv/volumes"), "b")
    fence = "/usr/local/lib/flourisha-sandbox/fence"
    assert load_fleet(tmp_path / "fleet.toml").fencing == Fencing(fence, 90, 130)
    assert 'unit="flourisha-fence@$1.service"' in plan.files[fence].splitlines()
    unit = plan.files["/etc/systemd/system/flourisha-fence@.service"].splitlines()
    assert "ExecStart=/usr/local/sbin/fence %i" in unit and "TimeoutStartSec=120" in unit
    assert [line for line in unit if re.match(r"IPAddress|Protect|Private|Restrict|Capability", line)] == []
    lines = plan.files["/etc/systemd/system/flourisha-sandboxd.service"].splitlines()
    assert "ReadWritePaths=-/srv/volumes" in lines and "After=remote-fs.target" in lines
    assert any("Mark the storage at /srv/volumes" in step.name for step in plan.steps)
    assert not [path for path in planned("fleet-manager").files if "fence" in path]
    without = one("etc/systemd/system/project-sandboxd.service", "fleet-manager")
    assert "/srv/" not in without and "remote-fs" not in without
