"""Whether names below the domain lead to this host, and which records they need."""

import ipaddress
import json
import secrets

from sandboxd.doctor.effects import Output
from sandboxd.doctor.findings import Verdict, ok, warn
from sandboxd.doctor.readers import Readers

BY_ADDRESS = ".sslip.io"
# Addresses that nobody has: the kernel says by which of its own it would reach the world, and sends nothing.
FAR = {"A": ("-4", "192.0.2.1"), "AAAA": ("-6", "2001:db8::1")}


def dns(readers: Readers) -> Verdict:
    """A name below the domain leads here: to an address of this host, or to one where the same certificate answers."""
    name = f"doctor-{secrets.token_hex(4)}.{readers.config.domain}"
    found = addresses(readers.effects.run(["getent", "ahosts", name]))
    asked = f"resolver: {', '.join(resolvers(readers)) or 'none'}"
    here = own_addresses(readers.effects.run(["ip", "-json", "address"]))
    foreign = [address for address in found if not _leads_here(readers, address, name, here)]
    if found and not foreign:
        return ok(f"{name} is {', '.join(found)} ({asked})")
    remedy = f"{needed(readers)}; look with: getent ahosts {name}"
    if not found:
        return warn(f"{name} has no address ({asked})", remedy)
    return warn(f"{name} is {', '.join(foreign)}, where this host does not answer ({asked})", remedy)


def needed(readers: Readers) -> str:
    """Which records lead here, in words."""
    domain = readers.config.domain
    if domain.endswith(BY_ADDRESS):
        return (
            "ask another resolver: this one gives no such addresses, or no private ones; or take a domain of your own"
        )
    wanted = []
    for kind, (family, far) in FAR.items():
        address = source(readers.effects.run(["ip", "-json", family, "route", "get", far]))
        if address and ipaddress.ip_address(address).is_global:
            wanted.append(f"*.{domain} {kind} {address}")
        elif kind == "A":
            wanted.append(f"*.{domain} A <the public address that leads to {address or 'this host'}>")
    return f"make the record {' and '.join(wanted)}"


def resolvers(readers: Readers) -> list[str]:
    """Whom this host asks."""
    try:
        lines = readers.effects.text("/etc/resolv.conf").splitlines()
    except OSError:
        return []
    return [words[1] for words in map(str.split, lines) if words[:1] == ["nameserver"] and len(words) > 1]


def source(output: Output) -> str:
    """The own address in what `ip -json route get` prints; "" when there is no way."""
    ways = json.loads(output.text) if output.code == 0 else []
    return str(ways[0].get("prefsrc", "")) if ways else ""


def _leads_here(readers: Readers, address: str, name: str, here: set[str]) -> bool:
    if ipaddress.ip_address(address).is_loopback:
        return False  # each client would be led to itself
    if address in here:
        return True
    ask, edge = readers.effects.certificate, readers.effects.edge
    try:  # behind a translated address no interface has it, but the same certificate answers there
        return ask((address, edge[1]), name) == ask(edge, name)
    except OSError:
        return False


def addresses(output: Output) -> list[str]:
    """Of `getent ahosts`: each address once, in order."""
    lines = output.text.splitlines() if output.code == 0 else []
    return list(dict.fromkeys(line.split()[0] for line in lines if line.strip()))


def own_addresses(output: Output) -> set[str]:
    """Of `ip -json address`."""
    links = json.loads(output.text) if output.code == 0 else []
    return {one["local"] for link in links for one in link.get("addr_info", ()) if "local" in one}
