"""What all sandboxes of a host share of its packet rules, as text for nft(8). Nothing is touched.

Closed unless it is said otherwise: a sandbox that no rule knows reaches nothing, and what comes from the networks of
sandboxes is passed on only with a mark that is given here (see `iprules`), so not even then when all rules are gone.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

from sandboxd.egress import HOST_PORTS, MAIL_PORTS, Egress

# Of the marks of packets, which are 32 bits for all programs of a host: one by which these rules say that they stand,
# and one by which they know again, after its routing, what a sandbox has sent.
SEEN, OURS = 0x20000000, 0x10000000
NAMED = "named"  # the set of the bridges whose sandboxes have names in their allow list
NAMES_PORT, PROXY_PORTS = 15353, {80: 15080, 443: 15443}  # of those who listen there; the deploy says so, too
SANDBOXES = '"sb-*"'  # spec.bridge_name
BUILDS = '"docker0"'  # where the engine runs the builds of templates

# `forward` and `input` come before the chains of iptables, at `filter`; a refusal here is final, whatever those would
# say. `seen` and `known` come before the routing; the latter when an answer has the sandbox's own address again, since
# the kernel looks at the way back, too. `hidden` does nothing unless somebody has flushed Docker's own rules. `asked`
# comes before Docker's own, and the first that changes an address is the only one.
HOOKS = {
    "seen": "type filter hook prerouting priority mangle",
    "known": "type filter hook prerouting priority dstnat + 10",
    "forward": "type filter hook forward priority filter - 10",
    "input": "type filter hook input priority filter - 10",
    "asked": "type nat hook prerouting priority dstnat - 10",
    "dialled": "type filter hook output priority filter - 10",
    "hidden": "type nat hook postrouting priority srcnat + 10",
}


@dataclass(frozen=True)
class Door:
    """Where sandboxes with names are led, whatever name server they ask: to one that answers all of them with this same
    address, where the egress proxy waits (see `egressproxy`). So nothing is carried out in names.

    Both listen on ports of their own: the usual ones are others', on all addresses of the host.

    `uid` is the proxy's, None where there is no such user: then nobody is led there. `asks` are its name servers.
    """

    address: str
    uid: int | None
    asks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wall:
    """Each line of `text` may be repeated: whoever comes first makes the table, and one that was flushed is made anew.

    `counts` are the rules of each chain, all with the comment `mark`: another release's, or settings', may be others.
    """

    text: str
    mark: str
    counts: Counter[str]


def chains(egress: Egress, resolvers: Sequence[str], door: Door) -> dict[str, list[str]]:
    """`resolvers` are name servers that sandboxes ask themselves: of those, and of no other address, the port 53 is
    theirs, wherever it is."""
    asked = [IPv4Network(one) for one in resolvers]
    sources = [IPv4Network(one) for one in egress.sources]
    exempt, walled = egress.exempt(), egress.walled()
    return {
        "seen": [
            *each("ip saddr {}", sources, f"meta mark set meta mark or {SEEN:#x}"),
            f"iifname {SANDBOXES} meta mark set meta mark or {OURS:#x}",
            f"iifname {BUILDS} meta mark set meta mark or {OURS:#x}",
        ],
        "known": each("ip daddr {}", sources, f"meta mark set meta mark or {SEEN:#x}"),
        "hidden": [f"meta mark & {OURS:#x} != 0 oifname != {SANDBOXES} oifname != {BUILDS} masquerade"],
        "forward": [
            f"iifname {SANDBOXES} oifname {SANDBOXES} goto refuse",
            f"iifname {SANDBOXES} oifname {BUILDS} goto refuse",
            f"iifname {BUILDS} oifname {SANDBOXES} goto refuse",
            # In every mode: what a sandbox sends there would come from this host, which the others let in.
            *(f"iifname {name} jump fleet" for name in (SANDBOXES, BUILDS) if egress.fleet),
            "iifname vmap @from",
            f"iifname {SANDBOXES} drop",  # nobody has said yet what it may: no reset, it will be told soon
            f"iifname {BUILDS} goto build",
            f"oifname {SANDBOXES} ct direction original drop",  # only the host itself connects to sandboxes
            # Routers have private addresses, and must be heard: "this packet is too large for the way".
            f"oifname {SANDBOXES} meta l4proto icmp ct state related accept",
            "oifname vmap @to",
        ],
        "fleet": [f"{kind} dport {port} goto hosts" for port in egress.fleet_ports for kind in ("tcp", "udp")],
        "hosts": each("ip daddr {}", egress.fleet, "goto refuse"),
        **_behind(egress, door),
        "input": [
            f"ip daddr {door.address} goto door",
            "iifname vmap @from",
            f"iifname {SANDBOXES} drop",
            f"iifname {BUILDS} goto build",
        ],
        "build": ["ct direction reply accept", "meta nfproto ipv6 goto refuse", "goto public"],
        "public": [
            *each("ip daddr {}", asked, "meta l4proto { tcp, udp } th dport 53 accept"),
            "fib daddr type local goto host",
            *each("ip daddr {}", exempt, "accept"),
            *each("ip daddr {}", walled, "goto refuse"),
            *each("tcp dport {}", MAIL_PORTS, "goto refuse"),
            "accept",
        ],
        # The engine lets the host's loopback be routed to (route_localnet) for its own ends.
        "host": [
            "ip daddr 127.0.0.0/8 goto refuse",
            f"tcp dport {{ {_listed(HOST_PORTS)} }} accept",
            "goto refuse",
        ],
        # TCP may come back: the sandbox answers, and that is refused with a reset, which tells it of the end.
        "back": [
            *each("ip saddr {}", asked, "meta l4proto { tcp, udp } th sport 53 accept"),
            *each("ip saddr {}", exempt, "accept"),
            *each("ip saddr {}", walled, "meta l4proto != tcp drop"),
            "accept",
        ],
        # The first two let an answer to the gateway live which the kernel cannot tell for one at the moment, as after a
        # flush of its connections: it is lost, and sent again. A reset would end the connection.
        "refuse": [
            "ct state invalid,untracked drop",
            "ct state new tcp flags & (fin|syn|rst|ack) != syn drop",
            "meta l4proto tcp reject with tcp reset",
            "reject with icmpx admin-prohibited",
        ],
    }


def _behind(egress: Egress, door: Door) -> dict[str, list[str]]:
    """What concerns the egress proxy. It checks itself where a name leads; here that holds even if it does not."""
    led, asked, dialled, dial = list[str](), list[str](), list[str](), list[str]()
    if door.uid is not None:
        both = "meta l4proto { tcp, udp } th dport"
        asked = [
            f"iifname @{NAMED} meta nfproto ipv4 {both} 53 dnat ip to {door.address}:{NAMES_PORT}",
            *(
                f"iifname @{NAMED} ip daddr {door.address} tcp dport {port} dnat ip to {door.address}:{led_to}"
                for port, led_to in PROXY_PORTS.items()
            ),
        ]
        led = [
            f"iifname @{NAMED} {both} {NAMES_PORT} accept",
            f"iifname @{NAMED} tcp dport {{ {_listed(list(PROXY_PORTS.values()))} }} accept",
        ]
        dialled = [f"meta skuid {door.uid} goto dial"]
        own = [IPv4Network(one) for one in egress.sources]
        dial = [
            "ct direction reply accept",
            *(
                f"{'ip6' if ':' in one else 'ip'} daddr {one} meta l4proto {{ tcp, udp }} th dport 53 accept"
                for one in door.asks
            ),
            "meta nfproto ipv6 goto refuse",
            "fib daddr type local goto refuse",
            *each("ip daddr {}", own, "goto refuse"),
            f"tcp dport != {{ {_listed(list(PROXY_PORTS))} }} goto refuse",
            "meta l4proto != tcp goto refuse",
            *each("ip daddr {}", egress.exempt(), "accept"),
            *each("ip daddr {}", egress.walled(), "goto refuse"),
            "accept",
        ]
    return {
        "asked": asked,
        "dialled": dialled,
        "dial": dial,
        "door": [*led, f"iifname != {SANDBOXES} drop", "goto refuse"],
    }


def build(table: str, egress: Egress, resolvers: Sequence[str], door: Door) -> Wall:
    found = chains(egress, resolvers, door)
    plain = "\n".join(f"{chain} {HOOKS.get(chain, '')} {rule}" for chain, rules in found.items() for rule in rules)
    mark = hashlib.sha256(plain.encode()).hexdigest()[:16]
    made = [f"add table inet {table}"]
    made += [f"add map inet {table} {way} {{ type ifname : verdict; }}" for way in ("from", "to")]
    made.append(f"add set inet {table} {NAMED} {{ type ifname; }}")
    for chain in found:
        hook = f" {{ {HOOKS[chain]}; policy accept; }}" if chain in HOOKS else ""
        made += [f"add chain inet {table} {chain}{hook}", f"flush chain inet {table} {chain}"]
    made += [f'add rule inet {table} {chain} {rule} comment "{mark}"' for chain in found for rule in found[chain]]
    return Wall("\n".join([*made, ""]), mark, Counter({chain: len(rules) for chain, rules in found.items()}))


def each(match: str, values: Iterable[object], verdict: str) -> list[str]:
    """A rule for each value, and not one rule with a set of them: the kernel may fill a set of networks only a moment
    after the rules that ask it have come, in the same transaction (seen with Linux 6.18.44; its change "nft_set_rbtree:
    translate rbtree to array for binary search"). Until then none is in it, and what is to be refused passes.
    """
    return [f"{match.format(value)} {verdict}" for value in values]


def _listed(ports: Sequence[int]) -> str:
    return ", ".join(map(str, ports))
