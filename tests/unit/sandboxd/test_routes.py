"""What the gateway's map says of a sandbox."""

import hashlib

import pytest

from sandboxd.routes import HOST, Route, table, text
from sandboxd.tokens import traffic_token

KEY = b"k"
TOKEN = traffic_token(KEY, "a1")
DIGEST = hashlib.sha256(TOKEN.encode()).hexdigest()


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
