"""The tokens that clients are told: hex HMAC-SHA256 of an id, by the host's key. Values only.

There is nothing to store, and they are the same after a restart. What is before the id keeps one kind from being
another; the agent's, which is older than the others, has nothing there.
"""

import hashlib
import hmac


class TokenKey(bytes):
    """The host's key. Sandboxes that were made anew here keep the tokens that they had on the host before, which has
    another key: `brought` has those, by the text that they are proofs of."""

    brought: dict[str, str]

    def __new__(cls, key: bytes) -> "TokenKey":
        made = super().__new__(cls, key)
        made.brought = {}
        return made


def agent_token(key: bytes, sandbox_id: str) -> str:
    """Opens the agent of a sandbox; E2B's envdAccessToken."""
    return _token(key, sandbox_id)


def traffic_token(key: bytes, sandbox_id: str, access_round: int = 0) -> str:
    """Opens the other ports of a private sandbox, until its access is changed: each round has another one."""
    return _token(key, _of_traffic(sandbox_id, access_round))


def brought_along(key: bytes, sandbox_id: str, access_round: int) -> dict[str, str]:
    """The tokens of a sandbox, for another host: by the texts that they are proofs of."""
    return {text: _token(key, text) for text in (sandbox_id, _of_traffic(sandbox_id, access_round))}


def volume_token(key: bytes, volume_id: str) -> str:
    """Opens the content of a volume. It is as good as the volume, and opens no other."""
    return _token(key, f"volume:{volume_id}")


def link_token(link_key: bytes, sandbox_id: str, port: int, until: int, access_round: int) -> str:
    """What a link to one port of a private sandbox has as its parameter: until when (Unix seconds), and the proof.

    The gateway makes the same proof from what it was asked for; see haproxy.cfg.
    """
    return f"{until}.{_token(link_key, f'link:{sandbox_id}:{port}:{until}:{access_round}')}"


def password_digest(user: str, password: str) -> str:
    """What is kept of them. They are random, so a plain digest tells nothing."""
    return hashlib.sha256(f"{user}:{password}".encode()).hexdigest()


def _of_traffic(sandbox_id: str, access_round: int) -> str:
    return f"traffic:{sandbox_id}" + (f":{access_round}" if access_round else "")


def _token(key: bytes, text: str) -> str:
    if isinstance(key, TokenKey) and (brought := key.brought.get(text)):
        return brought
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
