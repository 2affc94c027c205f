"""Whom the engine asks for names in a sandbox's stead, and whether the sandbox's policy leaves that open.

Docker answers on 127.0.0.11 inside a sandbox, and asks the host's name servers: from the sandbox's own network, where
the rules of its bridge judge it, but those on the host's loopback, and those with an IPv6 address, from the host's
network, where they do not. Reads files of the host; changes nothing.
"""

import ipaddress
from pathlib import Path

from sandboxd.policy import Policy

STUB = "127.0.0.53"  # of systemd-resolved: if it is the only one, Docker reads the servers behind it
FILE, BEHIND_STUB = "etc/resolv.conf", "run/systemd/resolve/resolv.conf"
DOCKERS_OWN = ["8.8.8.8", "8.8.4.4"]  # whom it asks on a host that names nobody


def servers(root: Path) -> list[str]:
    """Addresses of the name servers of the host whose files are below `root`, as Docker finds them."""
    found = _listed(root / FILE)
    if found == [STUB]:
        found = _listed(root / BEHIND_STUB) or found
    return found or DOCKERS_OWN


def from_sandbox(found: list[str]) -> list[str]:
    """What a sandbox must be told to ask, so that nobody is asked from the host's network in its stead.

    Empty when Docker's own choice is right, and when only the host can ask: then `shut` has the last word.
    """
    if any(_loopback(one) for one in found) or not any(_v6(one) for one in found):
        return []
    return [one for one in found if not _v6(one)]


def reached(found: list[str]) -> list[str]:
    """Those that a sandbox asks by itself, and so must reach."""
    return [one for one in from_sandbox(found) or found if not (_loopback(one) or _v6(one))]


def asked_by_programs(root: Path) -> tuple[str, ...]:
    """As the host's own programs find them; but for those with a link-local address (`fe80::1%eth0`), which packet
    rules and the egress proxy cannot name."""
    return tuple(one for one in _listed(root / FILE) if "%" not in one)


def outdated(root: Path, proxy: str) -> bool:
    """Whether the egress proxy, whose unit is `proxy`, asks others than the host has now.

    The unit notes at its start whom it asks; without a note it does not run.
    """
    try:
        noted, present = ((root / file).read_bytes().splitlines() for file in (f"run/{proxy}/name-servers", FILE))
    except OSError:
        return False
    return noted != [line for line in present if line.startswith(b"nameserver")]


def asked_by_host(found: list[str]) -> list[str]:
    """Those that are asked from the host's network in a sandbox's stead."""
    return [one for one in from_sandbox(found) or found if _loopback(one) or _v6(one)]


def shut(policy: Policy, found: list[str]) -> bool:
    """Whether names must not be asked for: nobody may be reached who knows them, or a question would leave the host
    although the sandbox has no internet."""
    asked, by_host = from_sandbox(found) or found, asked_by_host(found)
    if policy.closed and by_host:
        return True
    if policy.names:
        return False  # every question is led to where all names are answered
    return not any(one in by_host or policy.permits(one) for one in asked)


def _listed(file: Path) -> list[str]:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return []
    words = [line.split() for line in lines]
    return [one[1] for one in words if len(one) > 1 and one[0] == "nameserver" and _address(one[1])]


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _loopback(text: str) -> bool:
    found = _address(text)
    return found is not None and found.is_loopback


def _v6(text: str) -> bool:
    return ":" in text
