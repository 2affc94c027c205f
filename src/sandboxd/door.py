"""The address at which the egress proxy waits for sandboxes with names: on the host's loopback, known by its label.

Values, and what brings the host in step with them through a runner. Other addresses are neither read nor touched.
"""

from sandboxd.nftables import Runner, step
from sandboxd.wall import Door

LABEL = "lo:egress"
SHOW = ["ip", "-4", "-oneline", "address", "show", "dev", "lo", "label", LABEL]


def standing(runner: Runner) -> list[str]:
    """Addresses of ours that are there. Raises HostError."""
    words = (line.split() for line in runner(SHOW, "").splitlines())
    return [line[3].partition("/")[0] for line in words if len(line) > 3 and line[2] == "inet"]


def ensure(door: Door, runner: Runner) -> bool:
    """Adds the address, and takes away one of another setting. False when all was right. Raises HostError.

    Of the scope `host`: nothing that the host sends has it as its sender, but for answers.
    """
    found = standing(runner)
    made = [[*_command("add", door.address), "scope", "host", "label", LABEL]] if door.address not in found else []
    undone = [_command("del", one) for one in found if one != door.address]
    step(made + undone, lambda: standing(runner) == [door.address], runner)
    return bool(made or undone)


def _command(verb: str, address: str) -> list[str]:
    return ["ip", "-4", "address", verb, f"{address}/32", "dev", "lo"]
