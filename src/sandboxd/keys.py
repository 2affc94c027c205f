"""Keys of the API: made, told apart, taken back. A key has 160 random bits, so a plain digest keeps it secret."""

import hashlib
import re
import secrets
from collections.abc import Mapping

from sandboxd.catalog import Catalog
from sandboxd.errors import NotFound
from sandboxd.records import ApiKey

PREFIX = "e2b_"  # E2B's clients refuse keys of another form
FIRST = "first_key"
KEY = re.compile(r"e2b_[0-9a-f]{40}")


class Keys:
    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def create(self, name: str, max_sandboxes: int, now: float, host: bool = False) -> tuple[ApiKey, str]:
        """Returns the key's record, and the key itself, which nobody can find out later."""
        made, text = new_key(name, max_sandboxes, now, host)
        self._catalog.add_key(made, digest(text))
        return made, text

    def create_first(self, name: str, now: float, host: bool = False) -> tuple[ApiKey, str] | None:
        """The same, unless this host has had a first key, whatever has become of it: then None."""
        made, text = new_key(name, 0, now, host)
        return (made, text) if self._catalog.add_key(made, digest(text), once=FIRST) else None

    def find(self, text: str) -> ApiKey | None:
        """Whose key it is. The comparison is one of digests, so its time tells nothing of a key."""
        if not KEY.fullmatch(text):
            return None
        return next(iter(self._catalog.keys(digest(text))), None)

    def get(self, key_id: str) -> ApiKey:
        """Raises NotFound, as for a key that was revoked."""
        for key in self.all():
            if key.id == key_id:
                return key
        raise NotFound(f"key {key_id!r} not found. Those there are: docker-sandbox key ls")

    def all(self) -> list[ApiKey]:
        return self._catalog.keys()

    def digests(self) -> tuple[int, dict[str, ApiKey]]:
        """Their version, which grows with each change once they are shared, and all keys by their digests."""
        return self._catalog.digests()

    def replace(self, version: int, keys: Mapping[str, ApiKey], known: bool = False) -> None:
        """Takes over all keys of another host of the fleet. Raises Conflict unless that version is newer, and with
        `known`, which is for the host that they are of, unless they are still the same."""
        self._catalog.replace_keys(version, keys, known)

    def revoke(self, key_id: str) -> None:
        """It opens nothing from now on; sandboxes stay. Raises NotFound."""
        self._catalog.remove_key(key_id)


def new_key(name: str, max_sandboxes: int, now: float, host: bool) -> tuple[ApiKey, str]:
    return ApiKey(secrets.token_hex(4), name, max_sandboxes, now, host), PREFIX + secrets.token_hex(20)


def fingerprint(keys: Mapping[str, ApiKey]) -> str:
    """Of all keys: another one when any of them is another one."""
    return digest("".join(f"{found} {key}\n" for found, key in sorted(keys.items())))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
