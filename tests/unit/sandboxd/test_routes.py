"""What the gateway's map says of a sandbox."""

import hashlib

import pytest

from sandboxd.routes import HOST, Route, table, text
from sandboxd.tokens import traffic_token

KEY = b"k"
TOKEN = traffic_token(KEY, "a1")
DIGEST = hashlib.sha256(TOKEN.encode()).hexdigest()
DIGEST_3 = hashlib.sha256(traffic_token(KEY, "a1", 3).encode()).hexdigest()


@pytest.mark.parametrize(
    ("route", "value"),
    [
        (Route("a1", "10.0.0.1"), "10.0.0.1"),
        (Route("a1", ""), "asleep"),
        (Route("a1", "10.0.0.1", access="token"), f"10.0.0.1|{DIGEST}||0"),
        (Route("a1", "", access="token"), f"asleep|{DIGEST}||0"),
        (Route("a1", "10.0.0.1", host="localhost:${PORT}"), "10.0.0.1||localhost:*"),
        (Route("a1", "10.0.0.1", "www.example.com", "token"), f"10.0.0.1|{DIGEST}|www.example.com|0"),
        (Route("a1", "10.0.0.1", access="token", access_round=3), f"10.0.0.1|{DIGEST_3}||3"),
        (Route("a1", "", access="basic", access_round=3, password_digest="d1"), "asleep|d1||basic"),
        (Route("a1", "10.0.0.1", access="public", access_round=3), "10.0.0.1"),
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
