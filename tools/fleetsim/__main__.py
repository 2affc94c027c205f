"""What a fleet of up to 1,000 hosts would do: how many creates come from a pool, how long they take, how even the load
is, and what the managers have to do, for several ways to choose a node.

The times of its parts were measured on three hosts; no host is touched. The same arguments give the same figures.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys

from tools.fleetsim.distributions import KINDS, parsed
from tools.fleetsim.errors import BadScene
from tools.fleetsim.policies import POLICIES
from tools.fleetsim.scene import MAKE, NEXT, Scene, Template
from tools.fleetsim.simulation import simulated
from tools.fleetsim.table import table

EXAMPLES = """\
examples:
  python3 -m tools.fleetsim --nodes 10 --rate 0.15
  python3 -m tools.fleetsim --nodes 10 --rate 0.05 --bursts 300:25 --life pareto:300:1.5 --entries 3 --on-empty make
  python3 -m tools.fleetsim --nodes 100 --rate 1.5 --template base:1024:0.2:3:4 --template browser:2048:0.2:1:1
  python3 -m tools.fleetsim --nodes 100 --rate 1.5 --mtbf-h 24 --repair-s 600 --policy least-loaded
  python3 -m tools.fleetsim --nodes 100 --rate 1.5 --leaderless 2000:23 --policy least-loaded
  python3 -m tools.fleetsim --nodes 1000 --rate 18 --warm-up 1200 --duration 600 --policy least-loaded --json
"""
DEFAULTS = Scene()


def numbers(text: str, least: int, most: int) -> list[float]:
    """Of `60:50`. Raises BadScene."""
    words = text.split(":")
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if not least <= len(values) <= most:
        raise BadScene(f"{text!r}: give {least} numbers with a colon between, such as 60:50.")
    return values


def template(text: str) -> Template:
    name, _, rest = text.partition(":")
    try:
        memory_mb, cpus, pool, *share = numbers(rest, 3, 4)
        if not name or memory_mb % 1 or pool % 1:
            raise BadScene("")
    except BadScene as error:
        raise BadScene(
            f"template {text!r}: give NAME:MEMORY_MB:CPUS:POOL, and its share of the creates if that is not 1, such as"
            " base:1024:0.2:3 or browser:2048:0.2:1:0.5."
        ) from error
    return Template(name, int(memory_mb), cpus, int(pool), *share)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        "python3 -m tools.fleetsim",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("--nodes", type=int, default=DEFAULTS.nodes, metavar="N", help="1 to 1000 (default: %(default)s)")
    add("--memory-mb", type=int, default=DEFAULTS.memory_mb, metavar="MB", help="of each node (%(default)s)")
    add("--cpus", type=float, default=DEFAULTS.cpus, metavar="N", help="of each node (%(default)s)")
    add(
        "--template",
        action="append",
        metavar="NAME:MEMORY_MB:CPUS:POOL[:SHARE]",
        help="what a lease reserves, members of the pool on each node, its part of the creates (base:1024:0.2:3)",
    )
    add("--rate", type=float, default=DEFAULTS.rate, metavar="PER_S", help="creates of the whole fleet (%(default)s)")
    add("--bursts", default="", metavar="EVERY_S:SIZE", help="besides: so many at once, on average so often")
    add("--life", default="exponential:600", metavar="KIND", help=f"how long sandboxes live: {KINDS} (%(default)s)")
    add("--managers", type=int, default=DEFAULTS.managers, metavar="N", help="1 or 3 (%(default)s)")
    add("--entries", type=int, default=DEFAULTS.entries, metavar="N", help="managers that are asked (%(default)s)")
    add(
        "--on-empty",
        choices=(MAKE, NEXT),
        default=DEFAULTS.on_empty,
        help="a node that is asked for a member and has none makes a new sandbox, or the next is asked (%(default)s)",
    )
    add("--parallel", type=int, default=DEFAULTS.parallel, metavar="N", help="create_parallelism (%(default)s)")
    add("--max-sandboxes", type=int, default=DEFAULTS.max_sandboxes, metavar="N", help="of a node (%(default)s)")
    add(
        "--mtbf-h",
        type=float,
        default=0.0,
        metavar="HOURS",
        help="one node fails so often; 0: never (%(default)s)",
    )
    add("--repair-s", type=float, default=DEFAULTS.repair_s, metavar="S", help="until it is back, empty (%(default)s)")
    add("--leaderless", action="append", default=[], metavar="AT_S:S", help="the Swarm has no leader then, so long")
    add("--warm-up", type=float, default=DEFAULTS.warm_up_s, metavar="S", help="before it counts (%(default)s)")
    add("--duration", type=float, default=DEFAULTS.duration_s, metavar="S", help="for which it counts (%(default)s)")
    add("--seed", type=int, default=DEFAULTS.seed, metavar="N", help="of all chance (%(default)s)")
    add("--policy", action="append", choices=POLICIES, metavar="NAME", help=f"of: {' '.join(POLICIES)} (all)")
    add("--json", action="store_true", help="print JSON: the scene, and a result for each policy")
    return made


def scene(arguments: argparse.Namespace) -> Scene:
    """Raises BadScene."""
    every_s, size = numbers(arguments.bursts, 2, 2) if arguments.bursts else (0.0, 0.0)
    if size % 1:  # neither is infinity, nor what is no number, a whole one
        raise BadScene(f"bursts {arguments.bursts!r}: their size is a whole number, such as 60:50.")
    gaps = [numbers(text, 2, 2) for text in arguments.leaderless]
    return Scene(
        nodes=arguments.nodes,
        memory_mb=arguments.memory_mb,
        cpus=arguments.cpus,
        templates=tuple(map(template, arguments.template)) if arguments.template else DEFAULTS.templates,
        rate=arguments.rate,
        burst_every_s=every_s,
        burst_size=int(size),
        life=parsed(arguments.life),
        managers=arguments.managers,
        entries=arguments.entries,
        on_empty=arguments.on_empty,
        parallel=arguments.parallel,
        max_sandboxes=arguments.max_sandboxes,
        mtbf_s=arguments.mtbf_h * 3600,
        repair_s=arguments.repair_s,
        leaderless=tuple((at, seconds) for at, seconds in gaps),
        warm_up_s=arguments.warm_up,
        duration_s=arguments.duration,
        seed=arguments.seed,
    )


def main(words: list[str]) -> int:
    arguments = parser().parse_args(words)
    try:
        asked = scene(arguments)
    except BadScene as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    results = [simulated(asked, policy) for policy in arguments.policy or POLICIES]
    if arguments.json:
        print(json.dumps({"scene": dataclasses.asdict(asked), "results": list(map(dataclasses.asdict, results))}))
    else:
        print(f"{asked.nodes} nodes with room for {asked.room:.0f} sandboxes, pools included; seed {asked.seed}")
        print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
