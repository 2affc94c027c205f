"""The tokens that clients are told."""

import hashlib
import hmac
from collections.abc import Callable

import pytest

from sandboxd.tokens import agent_token, link_token, password_digest, traffic_token, volume_token


@pytest.mark.parametrize(
    ("token", "text"), [(agent_token, b"a1"), (traffic_token, b"traffic:a1"), (volume_token, b"volume:a1")]
)
def test_each_is_derived_from_key_and_id(token: Callable[[bytes, str], str], text: bytes) -> None:
    """In this way and no other: clients have the tokens of an older release still."""
    assert token(b"key", "a1") == hmac.new(b"key", text, hashlib.sha256).hexdigest()
    assert len({token(b"key", "a1"), token(b"key", "a2"), token(b"kez", "a1")}) == 3


def test_none_opens_what_another_does() -> None:
    assert len({token(b"key", "a1") for token in (agent_token, traffic_token, volume_token)}) == 3


def test_each_round_has_another_traffic_token() -> None:
    assert traffic_token(b"key", "a1", 0) == traffic_token(b"key", "a1"), "that of an older release"
    assert len({traffic_token(b"key", "a1", number) for number in range(3)}) == 3


def test_a_link_holds_for_what_it_was_made_for() -> None:
    token = link_token(b"key", "a1", 8000, 1_800_000_000, 2)
    until, _, proof = token.partition(".")
    assert until == "1800000000"
    assert proof == hmac.new(b"key", b"link:a1:8000:1800000000:2", hashlib.sha256).hexdigest()
    others = (
        link_token(b"kez", "a1", 8000, 1_800_000_000, 2),
        link_token(b"key", "a2", 8000, 1_800_000_000, 2),
        link_token(b"key", "a1", 8001, 1_800_000_000, 2),
        link_token(b"key", "a1", 8000, 1_800_000_001, 2),
        link_token(b"key", "a1", 8000, 1_800_000_000, 3),
    )
    assert len({proof, *(other.partition(".")[2] for other in others)}) == 6


def test_a_password_is_kept_as_a_digest_of_both() -> None:
    assert password_digest("u", "p") == hashlib.sha256(b"u:p").hexdigest()
