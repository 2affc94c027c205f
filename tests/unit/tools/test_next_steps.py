"""What is said at the end of a deploy; that a host is asked for it is for the host tests."""

import shlex
from dataclasses import replace
from typing import Any

import pytest

from deploys.hosts import Target
from tools import next_steps

ONE = Target("one", "203.0.113.7", settings={"domain": "sandbox.example.com"})
ACME = {
    "tls_mode": "acme",
    "acme_email": "ops@example.com",
    "acme_dns_provider": "cloudflare",
    "acme_credentials": ["CLOUDFLARE_DNS_API_TOKEN"],
}
OK = {"name": "dns", "level": "ok", "seen": "doctor-1.sandbox.example.com is 203.0.113.7", "remedy": ""}
BAD = {"name": "dns", "level": "warn", "seen": "doctor-1 has no address (resolver: ::1)", "remedy": "make the record"}


def settings(**changes: Any) -> Any:
    return replace(ONE, settings={**ONE.settings, **changes}).load_settings()


def test_how_to_trust_the_authority_of_a_host() -> None:
    said = next_steps.trust(ONE, settings())
    (command,) = [line.strip() for line in said.splitlines() if line.startswith("  ")]
    assert command == (
        "ssh root@203.0.113.7 docker-sandbox ca | "
        "sudo tee /usr/local/share/ca-certificates/sandbox.example.com.crt >/dev/null && sudo update-ca-certificates"
    )
    assert "docs/certificates.md" in said


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (ONE, "ssh root@203.0.113.7"),
        (replace(ONE, user="ada", port=2222, key="/my keys/id"), "ssh -p 2222 -i '/my keys/id' ada@203.0.113.7 sudo"),
        (replace(ONE, name="lab", group="lab", key="/key"), "python3 -m lab ssh lab"),
    ],
)
def test_how_a_host_is_reached(target: Target, words: str) -> None:
    assert shlex.split(next_steps.shell(target)) == shlex.split(words)


@pytest.mark.parametrize("changes", [ACME, {"tls_mode": "files", "tls_certificate": __file__, "tls_key": __file__}])
def test_other_certificates_need_no_trust(changes: dict[str, Any]) -> None:
    assert next_steps.trust(ONE, settings(**changes)) == ""


def test_records() -> None:
    other = {"name": "engine", "seen": "Docker", "remedy": ""}
    assert next_steps.names("one", settings(), [other, OK]) == f"\nDNS: {OK['seen']}"
    assert next_steps.names("one", settings(), [other, BAD]) == f"\nDNS: {BAD['seen']}\n  make the record"


def test_a_manager_tells_of_its_own_record_among_those_of_all_hosts() -> None:
    found = [{**OK, "name": "two: dns"}, {**BAD, "name": "one: dns"}]
    assert next_steps.names("one", settings(), found) == f"\nDNS: {BAD['seen']}\n  make the record"


def test_nobody_comes_in_by_a_worker() -> None:
    fleet = [replace(ONE, name=role, settings={"fleet_role": role}) for role in ("manager", "worker")]
    assert [one.name for one in next_steps.ways_in([ONE, *fleet])] == ["one", "manager"]


def test_the_record_of_orders() -> None:
    assert next_steps.names("one", settings(**ACME), [OK]).splitlines()[-1] == (
        "  _acme-challenge.sandbox.example.com TXT: made by Traefik for each order, through cloudflare"
    )
