"""What the gateway's map says of a sandbox."""

import hashlib
import hmac

import pytest

from sandboxd.routes import HOST, Route, table, text, traffic_token

KEY = b"k"
TOKEN = hmac.new(KEY, b"traffic:a1", hashlib.sha256).hexdigest()
DIGEST = hashlib.sha256(TOKEN.encode()).hexdigest()


def test_the_token_is_the_sandbox_s_own_and_never_changes() -> None:
    assert traffic_token(KEY, "a1") == TOKEN
    assert len({traffic_token(KEY, "a1"), traffic_token(KEY, "a2"), traffic_token(b"other", "a1")}) == 3


@pytest.mark.parametrize(
    ("route", "value"),
    [
        (Route("a1", "10.0.0.1"), "10.0.0.1"),
        (Route("a1", ""), "asleep"),
        (Route("a1", "10.0.0.1", private=True), f"10.0.0.1|{DIGEST}"),
        (Route("a1", "", private=True), f"asleep|{DIGEST}"),
        (Route("a1", "10.0.0.1", host="localhost:${PORT}"), "10.0.0.1||localhost:*"),
        (Route("a1", "10.0.0.1", private=True, host="www.example.com"), f"10.0.0.1|{DIGEST}|www.example.com"),
    ],
)
def test_values(route: Route, value: str) -> None:
    assert text(route, KEY) == value and TOKEN not in value
    assert table([route], KEY) == {"a1": value}


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("localhost", True),
        ("localhost:3000", True),
        ("localhost:${PORT}", True),
        ("${PORT}.example.com", True),
        ("", True),
        ("a b", False),
        ("a|b", False),
        ("a\nb", False),
        ("${PORT}${PORT}", False),
        ("a%[env(X)]", False),
    ],
)
def test_hosts(host: str, good: bool) -> None:
    assert (HOST.fullmatch(host) is not None) == good
