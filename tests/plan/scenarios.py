"""The scenarios whose plans are kept as golden files: a name, a sentence, and the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.plan.scenario import Scenario

DOMAIN = "sandbox.example.com"
# Files that a setting may name on the workstation, made anew for each run. What is marked SECRET may be seen nowhere.
DNS_TOKEN = "SECRET-dns-api-token"
TSIG = "SECRETtsigkey"
KEY_FILE = "SECRETkeyfile"
TLS_KEY = "SECRETprivatekey"
FILES = {
    "dns.env": f"# the provider's credentials\nCLOUDFLARE_DNS_API_TOKEN={DNS_TOKEN}\n",
    "dns.key": f"{KEY_FILE}\nof two lines\n",
    "wildcard.pem": "-----BEGIN CERTIFICATE-----\nd2lsZGNhcmQ=\n-----END CERTIFICATE-----\n",
    "wildcard.key": f"-----BEGIN PRIVATE KEY-----\n{TLS_KEY}\n-----END PRIVATE KEY-----\n",
    "office-ca.crt": "-----BEGIN CERTIFICATE-----\nb2ZmaWNl\n-----END CERTIFICATE-----\n",
    "docker.asc": "-----BEGIN PGP PUBLIC KEY BLOCK-----\n",
}
SECRETS = (DNS_TOKEN, TSIG, KEY_FILE, TLS_KEY)

ONE_TEMPLATE: dict[str, Any] = {"base": {}}
SEVERAL_TEMPLATES: dict[str, Any] = {
    "base": {},
    "browser": {"context": "playwright", "pids": 4096, "memory_mb": 4096, "cpus": 4},
    "data": {
        "python_version": "3.12",
        "apt_packages": ["postgresql-client", "libpq-dev"],
        "pip_packages": ["polars==1.9", "uvicorn[standard]>=0.30"],
        "npm_packages": ["@types/node@22", "typescript"],
    },
    "data-browser": {"context": "playwright", "apt_packages": ["ffmpeg"]},
    "code-interpreter-v1": {"context": "code-interpreter", "pip_packages": ["scikit-learn"]},
    "old": {"image": "team/old", "base_image": "debian:bookworm-slim"},
}
ACME = {
    "tls_mode": "acme",
    "acme_email": "ops@example.com",
    "acme_dns_provider": "cloudflare",
    "acme_credentials": "dns.env",
}
# A server and a zone of one's own; what the provider needs is in the environment.
ACME_PRIVATE = {
    **ACME,
    "acme_dns_provider": "rfc2136",
    "acme_credentials": ["RFC2136_TSIG_SECRET", "RFC2136_TSIG_FILE"],
    "acme_server": "https://ca.internal.example:14000/dir",
    "acme_resolvers": ["10.0.0.53", "10.0.1.53:5353"],
    "extra_ca_certificates": ["office-ca.crt"],
}


@dataclass(frozen=True)
class Case:
    """A scenario of one host; settings that name a file are given the file's name in FILES."""

    name: str
    title: str
    settings: dict[str, Any]
    summary: dict[str, str] = field(default_factory=dict)
    # Connection data such as `_sudo`, which the inventory adds.
    connection: dict[str, Any] = field(default_factory=dict)
    # Variables of the workstation; those that name a file are given the file's name in FILES.
    environment: dict[str, str] = field(default_factory=dict)

    def data(self, folder: Path) -> dict[str, Any]:
        """The host's data, with the files of FILES written to `folder`."""
        for name, text in FILES.items():
            (folder / name).write_text(text)

        def located(value: Any) -> Any:
            if isinstance(value, list):
                return [located(item) for item in value]
            return str(folder / value) if isinstance(value, str) and value in FILES else value

        return {"domain": DOMAIN} | {key: located(value) for key, value in self.settings.items()} | self.connection

    def scenario(self, folder: Path, *arguments: str) -> Scenario:
        environment = {
            name: str(folder / value) if value in FILES else value for name, value in self.environment.items()
        }
        return Scenario(
            {"box": self.data(folder)},
            {"box": self.summary},
            environment=environment,
            arguments=arguments or ("--yes",),
        )


MINIMAL = {
    "templates": ONE_TEMPLATE,
    "traefik_image": "traefik:v3.5",
    "base_image": "python:3.13-slim-trixie",
    "docker_runtime": "runc",
    "docker_userns_remap": False,
    "pool_size": 0,
    "console": False,
    "skills_users": [],
    "sysctls": {},
    "unattended_upgrades": False,
    "journal_max_size": "",
    "docker_group": True,
}
MAXIMAL = {
    **ACME,
    "project": "acme-lab",
    "default_port": 65535,
    "extra_ca_certificates": ["office-ca.crt"],
    "docker_source": "docker",
    "docker_apt_uri": "https://apt.example.com/docker",
    "docker_apt_key": "docker.asc",
    "docker_network_pool": "10.128.0.0/12",
    "docker_network_prefix": 29,
    "docker_bridge": "192.168.250.1/24",
    "docker_log_max_size": "1g",
    "docker_log_max_files": 100,
    "docker_build_cache": "500GB",
    "templates": SEVERAL_TEMPLATES,
    "default_template": "data",
    "python_mirror": "https://mirror.example.com/python",
    "sandbox_memory_mb": 1048576,
    "sandbox_cpus": 256,
    "sandbox_pids": 65536,
    "pool_size": 100,
    "create_parallelism": 32,
    "cleanup_schedule": "*/5 0-23 1,15 * 1-5",
    "cleanup_older_than": "90d",
    "wake_on_visit": False,
    "idle_pause_after": "90m",
    "failed_tries_per_minute": 5,
    "api_requests_per_minute": 0,
    "network_allow": ["10.1.2.3/32"],
    "network_deny": ["198.51.100.0/24"],
    "egress_address": "192.0.2.1",
    "sandbox_users": ["ada"],
    "journal_max_size": "20G",
    "ssh_hardening": True,
    "audit_rules": True,
    "skills_users": ["root", "ada"],
    "sysctls": {"vm.swappiness": 10, "fs.inotify.max_user_instances": 65536},
}
CASES = {
    case.name: case
    for case in (
        Case("default", "Debian 13, no setting but the domain", {}),
        Case("minimal", "As little as possible: registry images, no pool, no skills, no updates", MINIMAL),
        Case("maximal", "As much as possible: five templates, ACME, Docker's own packages", MAXIMAL),
        Case(
            "debian-12",
            "Debian 12 with a base image of its own release",
            {"base_suite": "bookworm"},
            {"suite": "bookworm"},
        ),
        Case(
            "apparmor",
            "A kernel with AppArmor, and a template that runs in gVisor",
            {"templates": {**ONE_TEMPLATE, "distrusted": {"like": "base", "runtime": "runsc"}}},
            {"apparmor": "yes"},
        ),
        Case("apparmor-12", "Debian 12 with AppArmor", {}, {"suite": "bookworm", "apparmor": "yes"}),
        Case("docker-repository", "The engine from Docker's own apt repository", {"docker_source": "docker"}),
        Case("tls-acme", "A certificate from Let's Encrypt by DNS-01", ACME),
        Case(
            "tls-acme-private",
            "A certificate from an ACME server of one's own, with credentials from the environment",
            ACME_PRIVATE,
            environment={"RFC2136_TSIG_SECRET": TSIG, "RFC2136_TSIG_FILE": "dns.key"},
        ),
        Case(
            "tls-files",
            "A certificate given as files",
            {"tls_mode": "files", "tls_certificate": "wildcard.pem", "tls_key": "wildcard.key"},
        ),
        Case("registry-base", "The base image from a registry", {"base_image": "python:3.12-slim-bookworm"}),
        Case("templates", "Five templates, one of them the default", {"templates": SEVERAL_TEMPLATES}),
        Case("sudo", "A host reached as a user with sudo", {}, {"uid": "1000"}, {"ssh_user": "debian", "_sudo": True}),
    )
}


@dataclass(frozen=True)
class Member:
    """One host of a fleet. The plan is made of all hosts, a, b, ... in the order of `roles`; `shown` is the one."""

    title: str
    shown: str
    roles: tuple[str, ...] = ("manager", "worker")
    settings: Mapping[str, Any] = field(default_factory=dict)


SHARED = {"shared_storage": "/srv/volumes", "fence_command": "/usr/local/sbin/fence", "fence_after_s": 90}
FLEET = {
    "fleet-manager": Member("The manager of a fleet of two hosts", "a"),
    "fleet-worker": Member("The worker of a fleet of two hosts", "b"),
    "fleet-shared": Member(
        "The second of three managers, with shared storage and a fence command", "b", ("manager",) * 3, SHARED
    ),
}


def fleet(*roles: str, settings: Mapping[str, Any] | None = None, **changes: Any) -> Scenario:
    """Hosts a, b, ... that are to have these roles and are in no Swarm yet; `changes` of the scenario itself."""
    nodes = {
        name: {"role": role, "address": f"192.0.2.{11 + number}"}
        for number, (name, role) in enumerate(zip("abcdef", roles, strict=False))
    }
    hosts = {
        name: {
            "domain": DOMAIN,
            "fleet_role": node["role"],
            "fleet_address": node["address"],
            "fleet_nodes": nodes,
            **(settings or {}),
        }
        for name, node in nodes.items()
    }
    return replace(Scenario(hosts, {name: {"node_id": f"id-{name}"} for name in hosts}), **changes)


# `make destroy` on a host with all that a deploy may leave: name, title, and DATA.
DESTRUCTIONS = {
    "destroy": ("`make destroy`: the software goes, sandboxes and data stay", ""),
    "destroy-data": ("`make destroy DATA=remove`: everything goes", "remove"),
}


def destruction(name: str, deployed: bool) -> Scenario:
    data = DESTRUCTIONS[name][1]
    return Scenario({"box": {"domain": DOMAIN}}, deployed=deployed, environment={"DATA": data}, deploy="destroy.py")
