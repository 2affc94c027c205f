"""What openssl says of a certificate."""

from dataclasses import replace

from sandboxd.doctor.certificates import Certificate, parse
from tests.unit.sandboxd.doctor.conftest import CERTIFICATE, DAY_S
from tests.unit.sandboxd.fake_engine import START

FOUND = Certificate(
    "CN=*.example.com",
    "CN=acme internal CA",
    ("*.example.com", "example.com"),
    START - 5 * DAY_S,
    START + 90 * DAY_S,
)


def test_what_openssl_prints() -> None:
    assert parse(CERTIFICATE) == FOUND


def test_what_is_good_for_a_domain() -> None:
    assert FOUND.good_for("example.com", START) and FOUND.days_left(START) == 90
    assert not FOUND.good_for("other.example", START)
    assert not FOUND.good_for("example.com", START + 90 * DAY_S)
    assert not FOUND.good_for("example.com", START - 6 * DAY_S)
    assert not replace(FOUND, names=("example.com",)).good_for("example.com", START)
