"""The rules on the host that hold a sandbox to its policy, as text for nft(8), and `run`, which performs it.

They are in a table of our own, which neither Docker nor a host's other rules touch, and match the sandbox's bridge:
nothing inside undoes them, and they may stand before the bridge does. Only connections that the sandbox itself opens
are judged, so the gateway reaches it always; and each of their packets, both ways, not the first alone: a policy that
changes cuts what is open. What all sandboxes share is in `wall`; one without rules of its own reaches nothing.
"""

import hashlib
import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable

from sandboxd.errors import HostError
from sandboxd.policy import Policy
from sandboxd.spec import bridge_name
from sandboxd.wall import NAMED, Wall, each

Runner = Callable[[list[str], str], str]
TIMEOUT_S = 30
WAYS = ("from", "to")  # a map of each name leads the packets of a bridge to the chain of its sandbox
ABSENT = "No such file or directory"  # what nft says of a table, chain or map that is not there

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
# Whether it is led to the egress proxy.
LED = 'add element inet {table} {named} {{ "{bridge}" }}\n'
NOT_LED = LED + 'delete element inet {table} {named} {{ "{bridge}" }}\n'


def table_name(project: str) -> str:
    return f"{project}-policies"


def chains(policy: Policy) -> dict[str, list[str]]:
    """What a sandbox sends, by the chain `from`, and what comes back, by `to`; each goes on to the wall at its end.

    TCP may come back: the sandbox answers, and that is refused with a reset, which tells it of the end.
    """
    wall = {"from": "accept", "to": "accept"} if policy.open else {"from": "goto public", "to": "goto back"}
    allowed, denied = policy.allowed(), policy.denied()
    sent, back = ["ct direction reply accept", "meta nfproto ipv6 goto refuse"], []
    if allowed and denied:
        sent += each("ip daddr {}", allowed, wall["from"])
        back += each("ip saddr {}", allowed, wall["to"])
    if policy.closed:
        return {"from": [*sent, "goto refuse"], "to": [*back, "meta l4proto != tcp drop", "accept"]}
    if denied:
        sent += each("ip daddr {}", denied, "goto refuse")
        back += each("ip saddr {}", denied, "meta l4proto != tcp drop")
    return {"from": [*sent, wall["from"]], "to": [*back, wall["to"]]}


def script(table: str, slot: str, policy: Policy) -> str:
    """What makes the rules of one sandbox those of its policy, whatever stands, in one step. The table is there."""
    text = ""
    for way, found in chains(policy).items():
        mark = _mark(way, found, policy)
        rules = [f'add rule inet {table} {way}-{slot} {rule} comment "{mark}"' for rule in found]
        text += ADD.format(table=table, way=way, slot=slot, bridge=bridge_name(slot), rules="\n".join(rules))
    return text + (LED if policy.names else NOT_LED).format(table=table, named=NAMED, bridge=bridge_name(slot))


def removal(table: str, slot: str) -> str:
    """What takes the rules of one sandbox away, whatever stands. It reaches nothing then."""
    bridge = bridge_name(slot)
    text = "".join(REMOVE.format(table=table, way=way, slot=slot, bridge=bridge) for way in WAYS)
    return text + NOT_LED.format(table=table, named=NAMED, bridge=bridge)


def marks(policy: Policy) -> Counter[str]:
    """What `standing` says of a sandbox whose rules are those of this policy."""
    found = Counter({_mark(way, rules, policy): len(rules) for way, rules in chains(policy).items()})
    return found + Counter([NAMED] if policy.names else [])


def apply(text: str, runner: Runner) -> None:
    """Raises HostError when nft refuses; nothing has changed then."""
    runner(["nft", "-f", "-"], text)


def standing(table: str, wall: Wall, runner: Runner) -> dict[str, Counter[str]] | None:
    """slot -> the marks of its rules, of all that have any; None when what all sandboxes share is not there.

    Raises HostError.
    """
    try:
        return parse(runner(["nft", "-j", "list", "table", "inet", table], ""), wall)
    except HostError as error:
        if ABSENT in str(error):
            return None
        raise


def parse(listing: str, wall: Wall) -> dict[str, Counter[str]] | None:
    """The same from nft's JSON."""
    found: dict[str, Counter[str]] = {}
    shared, led, named = Counter[str](), set[str](), set[str]()
    for entry in json.loads(listing)["nftables"]:
        if "chain" in entry:
            _, dash, slot = entry["chain"]["name"].partition("-")
            if dash:
                found.setdefault(slot, Counter())
        elif "map" in entry:
            led |= {f"{entry['map']['name']} {bridge}" for bridge, _ in entry["map"].get("elem", [])}
        elif "set" in entry and entry["set"]["name"] == NAMED:
            named |= set(entry["set"].get("elem", []))
        elif "rule" in entry:
            name, dash, slot = entry["rule"]["chain"].partition("-")
            mark = entry["rule"].get("comment", "")
            if dash:
                found.setdefault(slot, Counter())[mark] += 1
            else:
                shared[name if mark == wall.mark else "strange"] += 1
    for slot, seen in found.items():
        if not {f"{way} {bridge_name(slot)}" for way in WAYS} <= led:
            seen.clear()  # no packet is led to its rules
        if bridge_name(slot) in named:
            seen[NAMED] += 1
    return found if shared == wall.counts else None


def run(command: list[str], text: str) -> str:
    """Runs a command with that input and returns its output. Raises HostError with what it said when it fails."""
    environment = os.environ | {"LC_ALL": "C"}
    shown = " ".join(command)
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        # Not in the words of the system, which are those of ABSENT for a program that is not there.
        told = type(error).__name__ if isinstance(error, OSError) else error
        raise HostError(f"{shown}: {told}. Are nftables and iproute2 installed on the host? Deploy again.") from error
    if done.returncode:
        raise HostError(f"{shown}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout


def step(commands: Iterable[list[str]], right: Callable[[], bool], runner: Runner) -> None:
    """Runs all of them. One that fails is taken for done if all is right then: the unit of the firewall and sandboxd
    may do the same at the same time. Else raises its HostError.
    """
    failed: HostError | None = None
    for command in commands:
        try:
            runner(command, "")
        except HostError as error:
            failed = failed or error
    if failed and not right():
        raise failed


def _mark(way: str, rules: list[str], policy: Policy) -> str:
    """The comment that each rule of a chain has; it is another when any of them is, or any of the names."""
    return f"{way} {hashlib.sha256(chr(10).join([*rules, *policy.names]).encode()).hexdigest()[:16]}"
