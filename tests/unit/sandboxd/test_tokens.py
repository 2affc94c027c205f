"""The tokens that clients are told."""

import hashlib
import hmac
from collections.abc import Callable

import pytest

from sandboxd.tokens import agent_token, traffic_token, volume_token


@pytest.mark.parametrize(
    ("token", "text"), [(agent_token, b"a1"), (traffic_token, b"traffic:a1"), (volume_token, b"volume:a1")]
)
def test_each_is_derived_from_key_and_id(token: Callable[[bytes, str], str], text: bytes) -> None:
    """In this way and no other: clients have the tokens of an older release still."""
    assert token(b"key", "a1") == hmac.new(b"key", text, hashlib.sha256).hexdigest()
    assert len({token(b"key", "a1"), token(b"key", "a2"), token(b"kez", "a1")}) == 3


def test_none_opens_what_another_does() -> None:
    assert len({token(b"key", "a1") for token in (agent_token, traffic_token, volume_token)}) == 3
