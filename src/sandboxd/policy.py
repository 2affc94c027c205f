"""Where a sandbox may connect to, as a value: addresses that are denied, and exceptions from that. Nothing is touched.

A sandbox has no IPv6 at all, so what is said about IPv6 is true already, and only IPv4 becomes rules. Names may be
allowed where all else is denied: those the egress proxy tells apart, and no rule.
"""

import ipaddress
import json
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network

from sandboxd import domains
from sandboxd.errors import BadRequest

EVERYTHING = "0.0.0.0/0"
ALLOW = "network.allowOut"
MOST = 1000  # entries of a list: each is a rule in the kernel, and all are sent at every change


@dataclass(frozen=True)
class Policy:
    """Addresses and CIDRs as they were given. What is in `allow` is let through whatever `deny` says, and so is all
    that is in neither: to the wall that the host has around its sandboxes (see `egress`), and past it if it is `open`.

    `allow` may have names, too, as `domains.normal` gives them: never past the wall.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    open: bool = False

    def allowed(self) -> list[IPv4Network]:
        """In order and without overlaps; not the names."""
        return _networks(one for one in self.allow if not domains.is_name(one))

    def denied(self) -> list[IPv4Network]:
        return _networks(self.deny)

    @property
    def names(self) -> tuple[str, ...]:
        """Those that are allowed: they are there only if all else is denied."""
        return tuple(one for one in self.allow if domains.is_name(one))

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


def parse(allow: Iterable[str], deny: Iterable[str], internet: bool = True, past_wall: bool = False) -> Policy:
    """What somebody asked for; `internet` false denies everything. Raises BadRequest, which names field and value."""
    allowed, denied = _checked(ALLOW, allow, allowing=True), _checked("network.denyOut", deny, allowing=False)
    if not internet and EVERYTHING not in denied:
        denied = (*denied, EVERYTHING)
    made = Policy(allowed, denied, past_wall)
    if made.names and not made.closed:
        raise BadRequest(
            f"{ALLOW}: {made.names[0]!r} is a name, which does nothing unless all else is denied: with the mode 'none',"
            f" or {EVERYTHING} in denyOut (docker-sandbox: --network none)."
        )
    _check_size(made.names)
    return made


def to_text(policy: Policy) -> str:
    """JSON, for the ledger."""
    return json.dumps({"allow": policy.allow, "deny": policy.deny, "open": policy.open})


def from_text(text: str) -> Policy:
    values = json.loads(text)
    return Policy(tuple(values.get("allow", ())), tuple(values.get("deny", ())), values.get("open", False))


def _checked(field: str, entries: Iterable[str], allowing: bool) -> tuple[str, ...]:
    values = tuple(entries)
    if len(values) > MOST:
        raise BadRequest(f"{field}: {len(values)} entries are too many: at most {MOST}. Join them to larger CIDRs.")
    return tuple(_entry(field, value, allowing) for value in values)


def _entry(field: str, value: str, allowing: bool) -> str:
    """As it is kept."""
    if domains.is_name(value):
        if not allowing:
            raise BadRequest(f"{field}: {value!r} is a name, and names can only be allowed. Deny addresses or CIDRs.")
        try:
            return domains.normal(value)
        except ValueError as error:
            raise BadRequest(f"{field}: {value!r} {error}.") from None
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise BadRequest(
            f"{field}: {value!r} is no address and no CIDR, such as 203.0.113.7 or 203.0.113.0/24."
        ) from None
    if network.version == 6 and allowing:
        raise BadRequest(
            f"{field}: {value!r} cannot be allowed, because sandboxes have no IPv6. Leave it out, or give IPv4."
        )
    return value


def _check_size(names: tuple[str, ...]) -> None:
    size = sum(len(name) for name in names)
    if len(names) > domains.MOST or size > domains.TOGETHER:
        raise BadRequest(
            f"{ALLOW}: {len(names)} names with {size} characters are too many: at most {domains.MOST} with"
            f" {domains.TOGETHER}. Join them, such as to *.example.com."
        )


def _networks(entries: Iterable[str]) -> list[IPv4Network]:
    found = [ipaddress.ip_network(one, strict=False) for one in entries]
    return list(ipaddress.collapse_addresses(one for one in found if isinstance(one, IPv4Network)))
