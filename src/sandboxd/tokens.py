"""The tokens that clients are told: hex HMAC-SHA256 of an id, by the host's key. Values only.

There is nothing to store, and they are the same after a restart. What is before the id keeps one kind from being
another; the agent's, which is older than the others, has nothing there.
"""

import hashlib
import hmac


def agent_token(key: bytes, sandbox_id: str) -> str:
    """Opens the agent of a sandbox; E2B's envdAccessToken."""
    return _token(key, sandbox_id)


def traffic_token(key: bytes, sandbox_id: str) -> str:
    """Opens the other ports of a private sandbox."""
    return _token(key, f"traffic:{sandbox_id}")


def volume_token(key: bytes, volume_id: str) -> str:
    """Opens the content of a volume. It is as good as the volume, and opens no other."""
    return _token(key, f"volume:{volume_id}")


def _token(key: bytes, text: str) -> str:
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
