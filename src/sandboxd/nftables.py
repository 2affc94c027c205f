"""The rules on the host that hold a sandbox to its policy, as text for nft(8), and `run`, which performs it.

They are in a table of our own, which neither Docker nor a host's other rules touch, and match the sandbox's bridge:
nothing inside undoes them, and they may stand before the bridge does. Only connections that the sandbox itself opens
are judged, so the gateway reaches it always; and each of their packets, both ways, not the first alone: a policy that
changes cuts what is open.
"""

import hashlib
import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network

from sandboxd.errors import HostError
from sandboxd.policy import Policy
from sandboxd.spec import bridge_name

Runner = Callable[[list[str], str], str]
TIMEOUT_S = 30
WAYS = ("from", "to")  # a map of each name leads the packets of a bridge to the chain of its sandbox

# Earlier than the chains of iptables, at `filter`; a refusal here is final, whatever they would say. Each line may be
# repeated: whoever comes first makes the table, and one that was flushed is made anew.
BASE = """\
add table inet {table}
add map inet {table} from {{ type ifname : verdict; }}
add map inet {table} to {{ type ifname : verdict; }}
add chain inet {table} forward {{ type filter hook forward priority filter - 10; policy accept; }}
add chain inet {table} input {{ type filter hook input priority filter - 10; policy accept; }}
add chain inet {table} refuse
flush chain inet {table} forward
flush chain inet {table} input
flush chain inet {table} refuse
add rule inet {table} forward iifname vmap @from comment "{mark}"
add rule inet {table} forward oifname vmap @to comment "{mark}"
add rule inet {table} input iifname vmap @from comment "{mark}"
add rule inet {table} refuse ct state invalid,untracked drop comment "{mark}"
add rule inet {table} refuse ct state new tcp flags & (fin|syn|rst|ack) != syn drop comment "{mark}"
add rule inet {table} refuse meta l4proto tcp reject with tcp reset comment "{mark}"
add rule inet {table} refuse reject with icmpx admin-prohibited comment "{mark}"
"""
# The first two of `refuse` let an answer to the gateway live which the kernel cannot tell for one at the moment, as
# after a flush of its connections: it is lost, and sent again. A reset would end the connection.
BASE_RULES = Counter({"forward": 2, "input": 1, "refuse": 4})
BASE_MARK = hashlib.sha256(BASE.encode()).hexdigest()[:16]  # another release's may be others

ADD = """\
add chain inet {table} {way}-{slot}
flush chain inet {table} {way}-{slot}
{rules}
add element inet {table} {way} {{ "{bridge}" : jump {way}-{slot} }}
"""
# What is not there cannot be deleted, so it is added first; all of one script happens at once, or nothing of it.
REMOVE = """\
add chain inet {table} {way}-{slot}
add element inet {table} {way} {{ "{bridge}" : jump {way}-{slot} }}
delete element inet {table} {way} {{ "{bridge}" : jump {way}-{slot} }}
flush chain inet {table} {way}-{slot}
delete chain inet {table} {way}-{slot}
"""


def base(table: str) -> str:
    """What makes the table, and what all sandboxes share in it."""
    return BASE.format(table=table, mark=BASE_MARK)


def table_name(project: str) -> str:
    return f"{project}-policies"


def chains(policy: Policy) -> dict[str, list[str]]:
    """What a sandbox sends, by the chain `from`, and what comes back, by `to`. Empty when nothing is denied.

    TCP may come back: the sandbox answers, and that is refused with a reset, which tells it of the end.
    """
    if not policy.restricts:
        return {}
    denied = [] if policy.closed else policy.denied()
    sent = ["ct direction reply return", *_exceptions("ip daddr", policy), "meta nfproto ipv6 goto refuse"]
    back = ["ct direction original return", *_exceptions("ip saddr", policy)]
    return {
        "from": [*sent, f"{_among('ip daddr', denied)}goto refuse"],
        "to": [*back, f"{_among('ip saddr', denied)}meta l4proto != tcp drop"],
    }


def script(table: str, slot: str, policy: Policy) -> str:
    """What makes the rules of one sandbox those of its policy, whatever stands, in one step."""
    found = chains(policy)
    text = base(table)
    for way in WAYS:
        values = {"table": table, "way": way, "slot": slot, "bridge": bridge_name(slot)}
        if found:
            mark = _mark(way, found[way])
            rules = [f'add rule inet {table} {way}-{slot} {rule} comment "{mark}"' for rule in found[way]]
            text += ADD.format(**values, rules="\n".join(rules))
        else:
            text += REMOVE.format(**values)
    return text


def marks(policy: Policy) -> Counter[str]:
    """What `standing` says of a sandbox whose rules are those of this policy."""
    return Counter({_mark(way, rules): len(rules) for way, rules in chains(policy).items()})


def apply(table: str, slot: str, policy: Policy, runner: Runner) -> None:
    """Raises HostError when nft refuses; nothing has changed then."""
    runner(["nft", "-f", "-"], script(table, slot, policy))


def standing(table: str, runner: Runner) -> dict[str, Counter[str]]:
    """slot -> the marks of its rules, of all that have any. Makes what all sandboxes share if it is not there.

    Raises HostError.
    """
    listing = ["nft", "-j", "list", "table", "inet", table]
    try:
        found = parse(runner(listing, ""))
    except HostError:  # there is no such table, or no nft: then the next step says so
        found = None
    if found is None:
        runner(["nft", "-f", "-"], base(table))
        found = parse(runner(listing, ""))
    return found or {}


def parse(listing: str) -> dict[str, Counter[str]] | None:
    """The same from nft's JSON. None when the rules that all sandboxes share are not there."""
    found: dict[str, Counter[str]] = {}
    shared, led = Counter[str](), set[str]()
    for entry in json.loads(listing)["nftables"]:
        if "chain" in entry:
            _, dash, slot = entry["chain"]["name"].partition("-")
            if dash:
                found.setdefault(slot, Counter())
        elif "map" in entry:
            led |= {f"{entry['map']['name']} {bridge}" for bridge, _ in entry["map"].get("elem", [])}
        elif "rule" in entry:
            name, dash, slot = entry["rule"]["chain"].partition("-")
            mark = entry["rule"].get("comment", "")
            if dash:
                found.setdefault(slot, Counter())[mark] += 1
            elif mark == BASE_MARK:
                shared[name] += 1
    for slot, seen in found.items():
        if not {f"{way} {bridge_name(slot)}" for way in WAYS} <= led:
            seen.clear()  # no packet is led to its rules
    return found if shared == BASE_RULES else None


def run(command: list[str], text: str) -> str:
    """Runs a command with that input and returns its output. Raises HostError with what it said when it fails."""
    environment = os.environ | {"LC_ALL": "C"}
    shown = " ".join(command)
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"{shown}: {error}. Is nftables installed on the host? Deploy again.") from error
    if done.returncode:
        raise HostError(f"{shown}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout


def _exceptions(side: str, policy: Policy) -> list[str]:
    allowed = policy.allowed()
    return [f"{_among(side, allowed)}return"] if allowed else []


def _among(side: str, networks: Sequence[IPv4Network]) -> str:
    """A match that ends with a space; nothing, which matches all, for no networks."""
    return f"{side} {{ {', '.join(str(one) for one in networks)} }} " if networks else ""


def _mark(way: str, rules: list[str]) -> str:
    """The comment that each rule of a chain has; it is another when any of them is."""
    return f"{way} {hashlib.sha256(chr(10).join(rules).encode()).hexdigest()[:16]}"
