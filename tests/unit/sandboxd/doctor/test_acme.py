"""What became of orders, from Traefik's log as Traefik writes it."""

import json
import os
from datetime import UTC, datetime

import pytest

from sandboxd.doctor import acme
from sandboxd.doctor.acme import last_trouble, mask, readable, since_start
from sandboxd.doctor.effects import Output
from sandboxd.doctor.readers import Readers
from tests.unit.sandboxd.doctor.conftest import CERTIFICATE, FakeHost
from tests.unit.sandboxd.doctor.test_engine import check, with_wanted
from tests.unit.sandboxd.fake_engine import START

DEFAULT = "subject=CN=TRAEFIK DEFAULT CERT\nissuer=CN=TRAEFIK DEFAULT CERT\n" + "\n".join(
    CERTIFICATE.replace("example.com", "traefik.default").splitlines()[2:]
)
WHY = "acme: error presenting token (*.example.com): dnsupdate: DNS update failed: dns: bad authentication"
# Traefik 3.7, shortened.
STARTED = {"level": "info", "version": "3.7.15", "message": "Traefik version 3.7.15 built on 2026-07-01T09:12:11Z"}
FIRST = {
    "level": "error",
    "providerName": "acme.acme",
    "error": "unable to generate a certificate for the domains [*.example.com]: error: one or more domains "
    f"had a problem:\n[*.example.com] [*.example.com] {WHY}\n",
    "message": "Unable to obtain ACME certificate for domains",
}
RENEWAL = {"level": "error", "providerName": "acme.acme", "error": WHY, "message": "Error renewing ACME certificate"}
DOWN = RENEWAL | {"level": "info", "error": "get directory at 'https://ca': connection refused"}
OTHER = {"level": "error", "error": "EOF", "message": "Error while reading the configuration"}


def log(*entries: tuple[float, dict[str, str]]) -> str:
    """Lines with their times, in seconds after START."""
    lines = [json.dumps(entry | {"time": _time(START + seconds)}) for seconds, entry in entries]
    return "".join(f"{line}\n" for line in lines)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def by_acme(readers: Readers) -> Readers:
    return with_wanted(readers, tls_mode="acme")


def write(readers: Readers, host: FakeHost, text: str, stored_at: float | None = None) -> None:
    """Traefik's log, and its store as an order has left it."""
    folder = acme.store(readers.config.state_dir).lstrip("/")
    host.write(f"{folder}/traefik.log", text)
    if stored_at is not None:
        host.write(f"{folder}/production-example.com.json", "{}", START + stored_at)


def test_other_modes_have_no_orders(readers: Readers) -> None:
    check(acme.orders(readers), "skip", "tls_mode is internal", "")


def test_a_certificate_and_no_trouble(by_acme: Readers, host: FakeHost) -> None:
    seen = "issued by CN=acme internal CA, ends in 90 days; no failed order since"
    check(acme.orders(by_acme), "ok", seen, "")
    write(by_acme, host, log((0, STARTED), (1, OTHER)))
    check(acme.orders(by_acme), "ok", seen, "")


@pytest.mark.parametrize(("entry", "why"), [(FIRST, WHY), (RENEWAL, WHY), (DOWN, "connection refused")])
def test_a_renewal_that_failed_is_a_warning_while_the_old_one_holds(
    by_acme: Readers, host: FakeHost, entry: dict[str, str], why: str
) -> None:
    write(by_acme, host, log((0, STARTED), (60, entry)), stored_at=60)
    verdict = acme.orders(by_acme)
    check(verdict, "warn", "ends in 90 days", "acme_credentials")
    assert why in verdict.seen and "\n" not in verdict.seen


def test_a_first_order_that_failed_is_a_failure(by_acme: Readers, host: FakeHost) -> None:
    host.outputs["openssl x509 "] = Output(0, DEFAULT)
    write(by_acme, host, log((0, STARTED), (60, FIRST)), stored_at=59)
    check(acme.orders(by_acme), "fail", WHY, "deploy again")


def test_an_order_under_way(by_acme: Readers, host: FakeHost) -> None:
    host.outputs["openssl x509 "] = Output(0, DEFAULT)
    write(by_acme, host, log((0, STARTED)))
    check(acme.orders(by_acme), "fail", "no certificate for *.example.com yet, and no failed order", "deploy again")


def test_what_a_success_or_a_restart_has_ended_is_not_told(by_acme: Readers, host: FakeHost) -> None:
    write(by_acme, host, log((0, STARTED), (60, RENEWAL)), stored_at=61)
    assert acme.orders(by_acme).level == "ok"
    write(by_acme, host, log((0, STARTED), (60, RENEWAL), (90, STARTED)), stored_at=0)
    assert acme.orders(by_acme).level == "ok"


def test_a_certificate_for_tests(by_acme: Readers, host: FakeHost) -> None:
    issuer = "issuer=C=US, O=(STAGING) Let's Encrypt, CN=(STAGING) Tenuous Tomato R13"
    host.outputs["openssl x509 "] = Output(0, CERTIFICATE.replace("issuer=CN=acme internal CA", issuer))
    check(acme.orders(by_acme), "warn", "no client trusts it", 'acme_server to "production"')


def test_no_secret_is_told(by_acme: Readers, host: FakeHost) -> None:
    for name, value in (("TOKEN", "s3cret-token\n"), ("TOKEN_LONG", "s3cret-token-long\n"), ("PORT", "53\n")):
        host.write(f"etc/traefik/secrets/{name}", value)
    error = "GET https://dns.example.com:53/?key=s3cret-token&other=s3cret-token-long: 401"
    write(by_acme, host, log((0, STARTED), (60, RENEWAL | {"error": error})))
    assert "failed: GET https://dns.example.com:53/?key=***&other=***: 401;" in acme.orders(by_acme).seen


def test_the_last_one_counts() -> None:
    found = last_trouble(log((0, STARTED), (1, FIRST), (2, DOWN), (3, OTHER)))
    assert found is not None and (found.at, found.text) == (START + 2, DOWN["error"])
    assert last_trouble(log((0, STARTED), (3, OTHER))) is None
    assert last_trouble("no JSON\n[]\n") is None


def test_an_entry_without_time_or_error() -> None:
    found = last_trouble('{"level": "error", "message": "The ACME resolver is skipped"}')
    assert found is not None and (found.at, found.text) == (0.0, "The ACME resolver is skipped")


def test_since_the_last_start() -> None:
    text = log((0, STARTED), (1, FIRST), (2, STARTED), (3, DOWN))
    assert since_start(text) == log((2, STARTED), (3, DOWN)).rstrip("\n")
    assert since_start(log((1, FIRST))) == log((1, FIRST)).rstrip("\n"), "the start is in a log before"


def test_errors_in_one_line() -> None:
    assert readable(FIRST["error"]) == f"[*.example.com] [*.example.com] {WHY}"
    assert readable("one\n  line") == "one line" and len(readable("x" * 5000)) == acme.SHOWN_CHARACTERS


def test_longer_secrets_first() -> None:
    assert mask("abcdef abcdefgh", ["abcdef", "abcdefgh"]) == "*** ***"


def test_times_of_the_store_are_whole_seconds(by_acme: Readers, host: FakeHost) -> None:
    """An account is stored, and the order fails within the same second."""
    write(by_acme, host, log((0, STARTED), (60, FIRST)), stored_at=60)
    store = host.root / acme.store(by_acme.config.state_dir).lstrip("/") / "production-example.com.json"
    os.utime(store, (START + 60.9, START + 60.9))
    assert acme.orders(by_acme).level == "warn"
