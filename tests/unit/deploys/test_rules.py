"""Every setting's range, and the message for what lies outside: it names the key, the value and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploys.loading import load
from tests.unit.deploys.conftest import KEYS, refusal

NAME_RULE = "use lower-case letters, digits and dashes"

ACCEPTED: list[tuple[str, Any, Any]] = [
    ("project", "a", "a"),
    ("project", "a" * 31, "a" * 31),
    ("domain", "a.b", "a.b"),
    ("domain", "xn--bcher-kva.example", "xn--bcher-kva.example"),
    ("default_port", 1, 1),
    ("default_port", "65535", 65535),
    ("extra_ca_certificates", "", ()),
    ("docker_runtime", "runc", "runc"),
    ("docker_userns_remap", "no", False),
    ("docker_userns_remap", "True", True),
    ("docker_network_prefix", 29, 29),
    ("docker_network_pool", "172.20.0.0/14", "172.20.0.0/14"),
    ("docker_bridge", "192.168.250.1/24", "192.168.250.1/24"),
    ("docker_log_max_size", "1g", "1g"),
    ("docker_log_max_files", 1, 1),
    ("docker_build_cache", "512MB", "512MB"),
    ("docker_apt_uri", "http://10.0.0.5:8080/docker", "http://10.0.0.5:8080/docker"),
    ("base_suite", "bookworm", "bookworm"),
    ("base_image", "python:3.12-slim-bookworm", "python:3.12-slim-bookworm"),
    ("base_image", f"registry.example.com:5000/team/debian@sha256:{'a' * 64}", ...),
    ("python_mirror", "https://mirror.example.com/python-build-standalone/", ...),
    ("sandbox_memory_mb", 64, 64),
    ("sandbox_cpus", "0.5", 0.5),
    ("sandbox_cpus", 4, 4.0),
    ("sandbox_pids", 65536, 65536),
    ("sandbox_disk_mb", 64, 64),
    ("sandbox_layer_mb", 64, 64),
    ("traefik_image", "traefik:v3.5", "traefik:v3.5"),
    ("pool_size", 0, 0),
    ("pool_size", "100", 100),
    ("create_parallelism", 32, 32),
    ("max_sandboxes", 0, 0),
    ("max_sandboxes", "4", 4),
    ("memory_reserve_mb", 0, 0),
    ("disk_reserve_mb", 0, 0),
    ("build_memory_mb", 256, 256),
    ("build_cpus", "0.5", 0.5),
    ("build_timeout_s", 86400, 86400),
    ("cleanup_schedule", "@daily", "@daily"),
    ("cleanup_schedule", "*/5 0-23 1,15 * 1-5", ...),
    ("cleanup_older_than", "90d", "90d"),
    ("egress_address", "192.0.2.1", "192.0.2.1"),
    ("metrics_listen", "", ""),
    ("metrics_listen", "127.0.0.53:65535", "127.0.0.53:65535"),
    ("wake_on_visit", "no", False),
    ("idle_pause_after", "", ""),
    ("idle_pause_after", "90m", "90m"),
    ("failed_tries_per_minute", 1, 1),
    ("api_requests_per_minute", 0, 0),
    ("sandbox_users", "ada,grace", ("ada", "grace")),
    ("skills_users", [], ()),
    ("unattended_upgrades", False, False),
    ("console", "no", False),
    ("docker_group", "yes", True),
    ("journal_max_size", "", ""),
    ("journal_max_size", "500M", "500M"),
    ("ssh_hardening", "true", True),
    ("audit_rules", True, True),
    ("sandbox_network", "none", "none"),
    ("network_allow", "10.1.2.3/32,10.2.0.0/16", ("10.1.2.3/32", "10.2.0.0/16")),
    ("sysctls", {}, {}),
    ("sysctls", {"vm.swappiness": 10}, {"vm.swappiness": 10}),
]


@pytest.mark.parametrize(
    ("key", "given", "value"), ACCEPTED, ids=lambda value: None if value is ... else str(value)[:30]
)
def test_accepted(key: str, given: Any, value: Any, data: dict[str, Any]) -> None:
    assert getattr(load({**data, key: given}), key) == (given if value is ... else value)


# --- What is refused -------------------------------------------------------------------------------------------------

# Key, value, and words of the remedy. Key and value must be in the message as they are given here.
REFUSED: list[tuple[str, Any, str]] = [
    ("project", "", NAME_RULE),
    ("project", "Acme", NAME_RULE),
    ("project", "1st", NAME_RULE),
    ("project", "a" * 32, "at most 31"),
    ("domain", "", "make deploy HOST=... DOMAIN=example.com"),
    ("domain", "Example.com", "in lower case"),
    ("domain", "localhost", "a DNS name"),
    ("domain", "*.example.com", "a DNS name"),
    ("domain", "https://example.com", "a DNS name"),
    ("domain", "203.0.113.7", "a DNS name"),
    ("domain", 7, "use a text"),
    ("default_port", 0, "between 1 and 65535"),
    ("default_port", 65536, "between 1 and 65535"),
    ("default_port", "http", "use a whole number"),
    ("default_port", 80.5, "use a whole number"),
    ("default_port", True, "use a whole number"),
    ("tls_mode", "none", "internal, files, acme"),
    ("extra_ca_certificates", ["/none.crt"], "no such file or directory"),
    ("extra_ca_certificates", 7, "use a list of texts"),
    ("docker_source", "snap", "debian, docker"),
    ("docker_apt_uri", "ftp://example.com", "http(s)://"),
    ("docker_apt_uri", "https://example.com/ trixie main", "http(s)://"),
    ("docker_apt_key", "/none.asc", "no such key file"),
    ("docker_runtime", "kata", "crun, runc"),
    ("docker_userns_remap", "maybe", "use True or False"),
    ("docker_userns_remap", 2, "use True or False"),
    ("docker_network_pool", "10.200.0.1/16", "use a network like 10.200.0.0/16"),
    ("docker_network_pool", "fd00::/16", "use a network like 10.200.0.0/16"),
    ("docker_network_pool", "10.200.0.0/25", "the pools and ten sandboxes need 13"),
    ("docker_network_prefix", 16, "longer than /16"),
    ("docker_network_prefix", 30, "at most 29"),
    ("docker_bridge", "10.200.5.1/24", "overlaps docker_network_pool 10.200.0.0/16"),
    ("docker_bridge", "docker0", "use an address like 10.199.0.1/24"),
    ("docker_bridge", "fd00::1/64", "use an address like 10.199.0.1/24"),
    ("docker_log_max_size", "10", "such as '10m'"),
    ("docker_log_max_files", 0, "between 1 and 100"),
    ("docker_log_max_files", 101, "between 1 and 100"),
    ("docker_build_cache", "lots", "such as '10GB'"),
    ("base_suite", "sid", "use 'bookworm', 'trixie'"),
    ("base_image", "debian; reboot", "image reference"),
    ("default_template", "none", "choose one of base, playwright"),
    ("python_mirror", "github", "http(s)://"),
    ("templates", "base", "use a dictionary"),
    ("templates", {"Base": {}}, "lower-case letters"),
    ("sandbox_memory_mb", "2GB", "use a whole number"),
    ("sandbox_cpus", "two", "use a number"),
    ("sandbox_cpus", True, "use a number"),
    ("sandbox_pids", None, "use a whole number"),
    ("sandbox_disk_mb", "10g", "use a whole number"),
    ("sandbox_layer_mb", "10g", "use a whole number"),
    ("traefik_image", "traefik v3", "image reference"),
    ("pool_size", -1, "between 0 and 100"),
    ("pool_size", 101, "between 0 and 100"),
    ("pool_size", 2.5, "use a whole number"),
    ("max_sandboxes", -1, "between 0 and 1000000"),
    ("max_sandboxes", 3, "the pools have 3 members: no sandbox could be made besides"),
    ("memory_reserve_mb", -1, "between 0 and 1048576"),
    ("disk_reserve_mb", -1, "between 0 and 16777216"),
    ("build_memory_mb", 255, "between 256 and 16777216"),
    ("build_cpus", 0, "between 0.1 and 1024"),
    ("build_timeout_s", 9, "between 10 and 86400"),
    ("create_parallelism", 0, "between 1 and 32"),
    ("create_parallelism", 33, "between 1 and 32"),
    ("cleanup_schedule", "hourly", "five cron fields"),
    ("cleanup_schedule", "0 * * *", "five cron fields"),
    ("cleanup_older_than", "24", "such as '24h'"),
    ("docker_group", "docker", "True or False"),
    ("journal_max_size", "1GB", "such as '1G'"),
    ("journal_max_size", "10%", "such as '1G'"),
    ("ssh_hardening", "keys", "True or False"),
    ("audit_rules", "some", "True or False"),
    ("wake_on_visit", "maybe", "True or False"),
    ("idle_pause_after", "30", "such as '30m', or '' for never"),
    ("idle_pause_after", "none", "such as '30m', or '' for never"),
    ("failed_tries_per_minute", 0, "between 1 and"),
    ("api_requests_per_minute", -1, "0 for no limit"),
    ("cleanup_older_than", "0h", "such as '24h'"),
    ("metrics_listen", "0.0.0.0:9464", "an address of the loopback"),
    ("metrics_listen", "127.0.0.1:0", "an address of the loopback"),
    ("metrics_listen", "127.0.0.1:65536", "an address of the loopback"),
    ("metrics_listen", "127.0.0.1:8090", "port 8090 is taken"),
    ("sandbox_network", "closed", "choose one of open, public, none"),
    ("api_open_network", "sometimes", "use True or False"),
    ("network_allow", ["10.1.2.3/8"], "use IPv4 networks, such as '10.1.2.3/32'"),
    ("network_allow", ["10.0.0.0/8", "mirror.example.com"], "use IPv4 networks"),
    ("network_deny", ["2001:db8::/32"], "use IPv4 networks"),
    ("egress_address", "198.18.0.0/15", "use an IPv4 address"),
    ("egress_address", "2001:db8::1", "use an IPv4 address"),
    ("egress_address", "127.0.0.5", "no packet of a sandbox is led there"),
    ("egress_address", "10.200.3.4", "is in docker_network_pool 10.200.0.0/16"),
    ("egress_address", "10.199.0.9", "is in docker_bridge 10.199.0.0/24"),
    ("sandbox_users", ["Ada"], "login names"),
    ("skills_users", ["root", "a b"], "login names"),
    ("unattended_upgrades", "sometimes", "use True or False"),
    ("console", "sometimes", "use True or False"),
    ("sysctls", {"vm.swappiness": "10"}, "whole numbers"),
    ("sysctls", {"vm.swappiness": True}, "whole numbers"),
    ("sysctls", {"vm.swappiness; reboot": 1}, "names such as 'vm.swappiness'"),
    ("sysctls", {"net.ipv4.ip_forward": 1}, "leave it out"),
    ("fleet_role", "leader", "manager, worker"),
    ("fleet_address", "192.0.2.1", "a single host has none"),
    ("fleet_port", 80, "such as 8443"),
    ("fleet_memory_share", 0, "0.01 to 1"),
    ("fleet_cpus_share", 1.5, "0.01 to 1"),
    ("fleet_nodes", ["a"], "use a dictionary"),
    ("shared_storage", "/srv/volumes", "only the hosts of a fleet"),
    ("fence_command", "fence -x", "the absolute path of a program"),
    ("fence_after_s", 4, "5 to 86400 seconds"),
    ("sysctls", ["vm.swappiness"], "use a dictionary"),
]
# These stand between other settings: tested below.
ELSEWHERE = {
    "tls_certificate",
    "tls_key",
    "acme_email",
    "acme_dns_provider",
    "acme_credentials",
    "acme_server",
    "acme_resolvers",
}


@pytest.mark.parametrize(("key", "value", "remedy"), REFUSED, ids=lambda value: str(value)[:30])
def test_refused(key: str, value: Any, remedy: str, data: dict[str, Any]) -> None:
    message = refusal({**data, key: value})
    shown = value
    if isinstance(value, list) and key not in ("sysctls", "fleet_nodes"):
        shown = value[-1]
    if isinstance(value, dict):
        shown = next(iter(value))
    assert message.startswith(f"{key} = ")
    assert repr(shown) in message
    assert remedy in message


def test_every_setting_is_refused_somewhere() -> None:
    assert {key for key, _, _ in REFUSED} | ELSEWHERE == set(KEYS)


def test_the_pool_must_fit_its_networks(data: dict[str, Any]) -> None:
    data |= {"docker_network_pool": "10.200.0.0/24", "docker_network_prefix": 28}  # 16 networks
    assert load({**data, "pool_size": 6}).pool_size == 6
    assert "holds 16 networks; the pools and ten sandboxes need 17" in refusal({**data, "pool_size": 7})


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["tls_certificate", "tls_key"])
def test_tls_files_are_on_the_workstation(missing: str, data: dict[str, Any], tmp_path: Path) -> None:
    for key in ("tls_certificate", "tls_key"):
        data[key] = str(tmp_path / key)
        (tmp_path / key).touch()
    data["tls_mode"] = "files"
    load(data)
    (tmp_path / missing).unlink()
    message = refusal(data)
    assert message.startswith(f"{missing} = '{data[missing]}': ")
    assert "PEM file on the workstation" in message


@pytest.mark.parametrize(
    ("key", "value", "remedy"),
    [
        ("acme_email", "", "the e-mail of the account"),
        ("acme_email", "ops", "the e-mail of the account"),
        ("acme_email", "ops@example.com\nstorage: /etc/shadow", "the e-mail of the account"),
        ("acme_dns_provider", "", "such as 'cloudflare'"),
        ("acme_dns_provider", "Cloud Flare", "such as 'cloudflare'"),
        ("acme_credentials", [], "environment variables"),
        ("acme_credentials", "/none", "NAME=value"),
        ("acme_credentials", "lower_case", "for a variable write its NAME"),
        ("acme_server", "", "'production' or 'staging'"),
        ("acme_server", "Staging", "'production' or 'staging'"),
        ("acme_server", "http://example.com/dir", "https://"),
        ("acme_server", "https://example.com/ x: y", "https://"),
        ("acme_resolvers", "1.1.1.1/32", "addresses of DNS servers"),
        ("acme_resolvers", "1.1.1.1:53]", "addresses of DNS servers"),
    ],
)
def test_acme(key: str, value: str, remedy: str, data: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "dns.env").touch()
    data |= {"tls_mode": "acme", "acme_email": "ops@example.com", "acme_dns_provider": "rfc2136"}
    data["acme_credentials"] = str(tmp_path / "dns.env")
    load(data)
    message = refusal({**data, key: value})
    assert message.startswith(f"{key} = {value!r}: ")
    assert remedy in message


ACME = {"tls_mode": "acme", "acme_email": "ops@example.com", "acme_dns_provider": "rfc2136"}


@pytest.mark.parametrize(
    ("key", "given", "value"),
    [
        ("acme_server", "staging", "staging"),
        ("acme_server", "https://ca.example.com:14000/dir", "https://ca.example.com:14000/dir"),
        ("acme_resolvers", "1.1.1.1,[2606:4700::1111]:53", ("1.1.1.1", "[2606:4700::1111]:53")),
        ("acme_resolvers", ["ns1.example.com:5353"], ("ns1.example.com:5353",)),
        ("acme_credentials", "DNS_TOKEN,DNS_USER", ("DNS_TOKEN", "DNS_USER")),
    ],
)
def test_acme_accepted(key: str, given: Any, value: Any, data: dict[str, Any]) -> None:
    """Whether variables are set is asked by a deploy alone: `make verify` needs none of them."""
    assert getattr(load({**data, **ACME, "acme_credentials": ["DNS_TOKEN"], key: given}), key) == value


def test_names_by_address_have_no_certificate_by_acme(data: dict[str, Any]) -> None:
    by_address = {"domain": "sslip.io", "ssh_hostname": "203.0.113.7", "acme_credentials": ["DNS_TOKEN"]}
    assert "tls_mode = 'acme': names of sslip.io take no record" in refusal({**data, **ACME, **by_address})


def test_keys_of_another_tls_mode_do_not_matter(data: dict[str, Any]) -> None:
    load({**data, "tls_key": "/none", "acme_email": "nobody"})
