"""What the hardening writes to a host, as text: rules of audit, units, drop-ins."""

from __future__ import annotations

import re

import pytest

from deploys import access
from tests.plan.process import placed

# One process makes the plans of all these tests.
pytestmark = pytest.mark.xdist_group("plan")
SERVICES = ("console", "container-pool", "egress", "firewall", "name-servers", "names", "sandboxd", "thaw")
# Only on hosts of a fleet; the engine is a case of its own.
OF_A_FLEET = ("fleet", "fleet-certificate", "fleet-firewall")
REGISTRY = "/etc/systemd/system/docker-registry.service.d/60-flourisha-sandbox.conf"
# What no service of ours goes without; what one lacks beyond that has its reason in the unit.
EVERYWHERE = (
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "NoNewPrivileges=yes",
    "PrivateDevices=yes",
    "PrivateTmp=yes",
    "ProtectClock=yes",
    "ProtectHome=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "ProtectSystem=strict",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
    "UMask=0077",
)
# Left out somewhere, and so told there.
TOLD = ("ProtectControlGroups", "ProcSubset", "IPAddressDeny", "MemoryDenyWriteExecute")


def written(path: str, case: str = "maximal") -> str:
    return placed(case)[path]


def unit(name: str) -> str:
    return f"/etc/systemd/system/flourisha-{name}.service"


ALL = [
    *((unit(name), "default") for name in SERVICES),
    *((unit(name), "fleet-manager") for name in OF_A_FLEET),
    (REGISTRY, "fleet-manager"),
]


@pytest.mark.parametrize(("path", "case"), ALL)
def test_no_service_goes_without(path: str, case: str) -> None:
    lines = written(path, case).splitlines()
    assert [directive for directive in EVERYWHERE if directive not in lines] == []
    assert any(line.startswith("SystemCallFilter=@system-service") for line in lines)
    assert any(line.startswith("CapabilityBoundingSet=") for line in lines)


@pytest.mark.parametrize(
    ("case", "names"),
    [
        ("default", SERVICES),
        ("fleet-manager", (*SERVICES, *OF_A_FLEET, "swarmd")),
        ("fleet-worker", (*SERVICES, "fleet-certificate", "fleet-firewall", "swarmd")),
    ],
)
def test_every_service_is_looked_at(case: str, names: tuple[str, ...]) -> None:
    services = [path for path in placed(case) if re.fullmatch(r"/etc/systemd/system/[^/]+\.service", path)]
    assert sorted(services) == sorted(unit(name) for name in names)


def test_the_fleet_engine_says_why_it_has_no_more() -> None:
    """It is a Docker: what gives a service mounts of its own would hide those of its containers."""
    text = written(unit("swarmd"), "fleet-manager")
    told = " ".join(line for line in text.splitlines() if line.startswith("#"))
    named = [directive.partition("=")[0] for directive in (*EVERYWHERE, *TOLD)]
    assert [name for name in named if f"\n{name}=" not in text and name not in told] == []


@pytest.mark.parametrize(
    ("path", "case"), [*ALL, ("/etc/systemd/system/haproxy.service.d/60-flourisha-sandbox.conf", "default")]
)
def test_what_is_left_out_is_told_beside_it(path: str, case: str) -> None:
    text = written(path, case)
    for directive in TOLD:
        assert re.search(rf"^{directive}=|^# Not .*\b{directive}\b", text, re.MULTILINE), directive


def test_sandboxd_says_what_each_of_its_capabilities_is_for() -> None:
    text = written("/etc/systemd/system/flourisha-sandboxd.service", "default")
    granted = re.findall(r"\bCAP_([A-Z_]+)", text)
    assert len(granted) == len(set(granted)) == 10
    reasons = " ".join(line for line in text.splitlines() if line.startswith("#"))
    assert [name for name in granted if not re.search(rf"\b{name}\b", reasons)] == []


def test_audit_watches_the_engine_and_us() -> None:
    lines = written("/etc/audit/rules.d/60-acme-lab-sandbox.rules").splitlines()
    watched = re.findall(r" -F (?:dir|path)=(\S+) -F perm=wa ", "\n".join(lines))
    assert len(watched) == len(set(watched))
    assert {"/etc/docker/", "/run/docker.sock", "/usr/bin/crun", "/etc/acme-lab-sandbox/secrets/"} <= set(watched)
    assert "/var/lib/docker" not in watched, "each write of a sandbox would be noted"
    assert [path for path in watched if path.startswith("/run/containerd")] == [], "not there when rules are loaded"
    keys = {line.rpartition("key=")[2] for line in lines if line.startswith("-")}
    assert keys == {"acme-lab-docker", "acme-lab-files", "acme-lab-socket"}
    assert [line for line in lines if line.startswith("-") and ("dir=" in line) != ("/ -F perm" in line)] == []


def test_sshd_reads_ours_before_what_others_have_left() -> None:
    path = "/etc/ssh/sshd_config.d/10-acme-lab-sandbox.conf"
    assert written(path).splitlines()[1:] == access.LINES
    assert sorted([path, "/etc/ssh/sshd_config.d/50-cloud-init.conf"])[0] == path


def test_docker_keeps_its_group_where_that_is_wanted() -> None:
    path = "/etc/systemd/system/docker.socket.d/60-flourisha-sandbox.conf"
    assert "SocketMode=0600" in written(path, "default") and path not in placed("minimal")


def test_needrestart_leaves_alone_what_sandboxes_stand_on() -> None:
    text = written("/etc/needrestart/conf.d/acme-lab-sandbox.conf")
    (pattern,) = re.findall(r"qr\((.*)\)}", text)
    left_alone = (
        "docker.service",
        "containerd.service",
        "haproxy.service",
        "acme-lab-sandboxd.service",
        "docker.socket",
    )
    assert [name for name in left_alone if not re.search(pattern, name)] == []
    assert [name for name in ("cron.service", "ssh.service", "docker.service.d") if re.search(pattern, name)] == []


def test_the_journal_is_left_alone_where_that_is_wanted() -> None:
    assert "SystemMaxUse=20G" in written("/etc/systemd/journald.conf.d/60-acme-lab-sandbox.conf")
    assert [path for path in placed("minimal") if "journald" in path] == []


def test_what_is_ours_is_what_a_deploy_writes() -> None:
    """A place that nobody writes to any more need not be watched."""
    rules = written("/etc/audit/rules.d/60-acme-lab-sandbox.rules")
    watched = re.findall(r"=(/\S+) -F perm=wa -F key=acme-lab-files", rules)
    unknown = [path for path in watched if not any(file.startswith(path) for file in placed("maximal"))]
    assert set(unknown) <= {"/etc/acme-lab-sandbox/secrets/", "/opt/acme-lab-sandbox/"}, "made on the host"
