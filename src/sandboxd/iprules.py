"""The second wall, in the routing rules (ip-rule(8)): what has a sandbox's address is passed on only with the mark that
the packet rules give. Whoever flushes those closes the sandboxes, and does not open them.

Values, and what brings the host in step with them through a runner. Other routing rules are neither read nor touched,
and what comes through goes on to them.
"""

from collections.abc import Sequence

from sandboxd.nftables import Runner, step
from sandboxd.wall import SEEN

FIRST = 90  # before those of VPNs, which begin at 1000 or later
THROUGH = FIRST + 3
SHOW = ["ip", "-4", "rule", "show"]
# The kernel's look at the way back of an answer (rp_filter) heeds its mark, too.
HEED = "net.ipv4.conf.all.src_valid_mark"
HEEDED = "1"
# By the host's own /proc/sys: our units may have none that can be written. That of the firewall does it at its start.
SET = ["nsenter", "--target", "1", "--mount", "sysctl", "-q", "-w", f"{HEED}={HEEDED}"]


def wanted(sources: Sequence[str]) -> list[str]:
    """As ip(8) shows them, and takes them. `iif lo`: what the host itself sends.

    The order in which they are made: the one that closes comes last.
    """
    made = [f"{THROUGH}: from all nop"]
    for source in sources:
        made += [
            f"{FIRST}: from {source} iif lo goto {THROUGH}",
            f"{FIRST + 1}: from {source} fwmark {SEEN:#x}/{SEEN:#x} goto {THROUGH}",
        ]
    return made + [f"{FIRST + 2}: from {source} prohibit" for source in sources]


def standing(runner: Runner) -> list[str]:
    """Those that are there at our places. Raises HostError."""
    lines = (" ".join(line.split()) for line in runner(SHOW, "").splitlines())
    return [line for line in lines if FIRST <= int(line.partition(":")[0]) <= THROUGH]


def missing(sources: Sequence[str], runner: Runner) -> list[str]:
    """What does not stand as it should, in words of ip(8). Raises HostError."""
    found, right = standing(runner), wanted(sources)
    heeded = _heeded(runner)
    unheeded = [] if heeded else [f"{HEED} is not {HEEDED}"]
    return [*(one for one in right if one not in found), *(one for one in found if one not in right), *unheeded]


def ensure(sources: Sequence[str], runner: Runner) -> bool:
    """Makes what is missing, then takes away what another setting has left. False when all was right.

    Raises HostError.
    """
    found, right, heeded = standing(runner), wanted(sources), _heeded(runner)
    if not heeded:
        runner(SET, "")
    made = [_command("add", line) for line in right if line not in found]
    undone = [_command("del", line) for line in found if line not in right]
    step(made + undone, lambda: set(standing(runner)) == set(right), runner)
    return bool(made or undone) or not heeded


def _heeded(runner: Runner) -> bool:
    return runner(["sysctl", "-n", HEED], "").strip() == HEEDED


def _command(verb: str, line: str) -> list[str]:
    place, _, rule = line.partition(": ")
    return ["ip", "-4", "rule", verb, "pref", place, *rule.removeprefix("from all ").split()]
