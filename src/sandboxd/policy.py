"""Where a sandbox may connect to, as a value: addresses that are denied, and exceptions from that. Nothing is touched.

A sandbox has no IPv6 at all, so what is said about IPv6 is true already, and only IPv4 becomes rules.
"""

import ipaddress
import json
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network

from sandboxd.errors import BadRequest

EVERYTHING = "0.0.0.0/0"
MOST = 1000  # entries of a list: each is an element of a set in the kernel, and is sent whole at every change


@dataclass(frozen=True)
class Policy:
    """Addresses and CIDRs as they were given. What is in `allow` is let through whatever `deny` says, and so is all
    that is in neither."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    def allowed(self) -> list[IPv4Network]:
        """In order and without overlaps."""
        return _networks(self.allow)

    def denied(self) -> list[IPv4Network]:
        return _networks(self.deny)

    @property
    def restricts(self) -> bool:
        """Whether anything is denied that a sandbox could reach."""
        return bool(self.denied())

    @property
    def closed(self) -> bool:
        """No internet: all is denied but what `allow` names."""
        return self.denied() == [IPv4Network(EVERYTHING)]

    def permits(self, address: str) -> bool:
        found = IPv4Network(address)
        if any(found.subnet_of(one) for one in self.allowed()):
            return True
        return not any(found.subnet_of(one) for one in self.denied())


UNRESTRICTED = Policy()


def parse(allow: Iterable[str], deny: Iterable[str], internet: bool = True) -> Policy:
    """What somebody asked for; `internet` false denies everything. Raises BadRequest, which names field and value."""
    allowed, denied = _checked("network.allowOut", allow, v6=False), _checked("network.denyOut", deny, v6=True)
    if not internet and EVERYTHING not in denied:
        denied = (*denied, EVERYTHING)
    return Policy(allowed, denied)


def to_text(policy: Policy) -> str:
    """JSON, for the ledger."""
    return json.dumps({"allow": policy.allow, "deny": policy.deny})


def from_text(text: str) -> Policy:
    values = json.loads(text)
    return Policy(tuple(values.get("allow", ())), tuple(values.get("deny", ())))


def _checked(field: str, entries: Iterable[str], v6: bool) -> tuple[str, ...]:
    values = tuple(entries)
    if len(values) > MOST:
        raise BadRequest(f"{field}: {len(values)} entries are too many: at most {MOST}. Join them to larger CIDRs.")
    for value in values:
        try:
            network = ipaddress.ip_network(value, strict=False)
        except ValueError:
            raise BadRequest(f"{field}: {_wrong(value)}") from None
        if network.version == 6 and not v6:
            raise BadRequest(
                f"{field}: {value!r} cannot be allowed, because sandboxes have no IPv6. Leave it out, or give IPv4."
            )
    return values


def _wrong(value: str) -> str:
    if ":" not in value and any(char.isalpha() for char in value):
        return (
            f"{value!r} is a name, and this host tells addresses apart, not names."
            " Give addresses or CIDRs, such as 203.0.113.0/24."
        )
    return f"{value!r} is no address and no CIDR, such as 203.0.113.7 or 203.0.113.0/24."


def _networks(entries: tuple[str, ...]) -> list[IPv4Network]:
    found = [ipaddress.ip_network(one, strict=False) for one in entries]
    return list(ipaddress.collapse_addresses(one for one in found if isinstance(one, IPv4Network)))
