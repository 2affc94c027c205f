"""What is simulated: a fleet, what comes to it, and what fails. Values that are checked when they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tools.fleetsim.distributions import Distribution, Exponential
from tools.fleetsim.errors import BadScene
from tools.fleetsim.times import CONSENSUS, Times

MOST_NODES = 1000
EVER = 10**9  # seconds, or shares: infinity would be divided by
MAKE, NEXT = "make", "next"


@dataclass(frozen=True)
class Template:
    """Memory and processors are what its lease reserves; `pool` is on each node; `share` its part of the creates."""

    name: str
    memory_mb: int
    cpus: float
    pool: int
    share: float = 1.0


@dataclass(frozen=True)
class Scene:
    """Raises BadScene. `rate` is of single creates per second, bursts come on top; `mtbf_s` is of one node, 0 for
    never; `entries` are the managers that creates come to; `on_empty` is what a node does that is asked for a member of
    its pool and has none any more: it makes a new sandbox, or refuses, and the next node is asked. `leaderless` has
    moments, and how long the Swarm has no leader from then on. Time starts with the warm-up, in which nothing is
    counted.
    """

    nodes: int = 10
    memory_mb: int = 65536
    cpus: float = 32.0
    templates: tuple[Template, ...] = (Template("base", 1024, 0.2, 3),)
    rate: float = 0.2
    burst_every_s: float = 0.0
    burst_size: int = 0
    life: Distribution = field(default_factory=lambda: Exponential(600.0))
    managers: int = 3
    entries: int = 1
    on_empty: str = NEXT
    parallel: int = 2
    max_sandboxes: int = 300
    max_waiting: int = 100
    mtbf_s: float = 0.0
    repair_s: float = 300.0
    leaderless: tuple[tuple[float, float], ...] = ()
    warm_up_s: float = 1800.0
    duration_s: float = 1800.0
    seed: int = 1
    times: Times = field(default_factory=Times)

    def __post_init__(self) -> None:
        _between("nodes", self.nodes, 1, MOST_NODES)
        _between("memory-mb", self.memory_mb, 1, 2**30)
        _between("cpus", self.cpus, 0.1, 4096)
        _between("rate", self.rate, 0, 100_000)
        _between("burst size", self.burst_size, 0, 100_000)
        _between("burst interval", self.burst_every_s, 0, EVER)
        _between("parallel", self.parallel, 1, 1024)
        _between("max-sandboxes", self.max_sandboxes, 1, 10**6)
        if self.mtbf_s:  # else none fails
            _between("mtbf-h", self.mtbf_s / 3600, 0.01, 100_000)
        _between("repair-s", self.repair_s, self.times.lost_after, EVER)
        _between("warm-up", self.warm_up_s, 0, EVER)
        _between("duration", self.duration_s, 1, EVER)
        if self.managers not in CONSENSUS or self.managers > self.nodes:
            raise BadScene(f"managers {self.managers}: give 1 or 3, and as many nodes or more.")
        if not 1 <= self.entries <= self.managers:
            raise BadScene(f"entries {self.entries}: give a number from 1 to {self.managers}, the managers.")
        if self.on_empty not in (MAKE, NEXT):
            raise BadScene(f"on-empty {self.on_empty!r}: give {MAKE} or {NEXT}.")
        if (self.burst_size == 0) != (self.burst_every_s == 0):
            raise BadScene("bursts: give both, the seconds between them and their size, such as 60:50.")
        if not self.rate and not self.burst_size:
            raise BadScene("rate 0: give a rate of creates per second, or bursts.")
        if not self.templates or len({one.name for one in self.templates}) < len(self.templates):
            raise BadScene("template: give one or more, each with a name of its own.")
        for one in self.templates:
            self._check(one)
        for at, seconds in self.leaderless:
            _between("leaderless moment", at, 0, EVER)
            _between("leaderless seconds", seconds, 0, EVER)

    @property
    def end_s(self) -> float:
        return self.warm_up_s + self.duration_s

    @property
    def room(self) -> float:
        """How many sandboxes, members of pools among them, all nodes have reservations for; by the mean template."""
        shares = sum(one.share for one in self.templates)
        memory = sum(one.memory_mb * one.share for one in self.templates) / shares
        cpus = sum(one.cpus * one.share for one in self.templates) / shares
        each = min(self.memory_mb // memory, self.cpus // cpus if cpus else math.inf, self.max_sandboxes)
        return self.nodes * each

    def _check(self, one: Template) -> None:
        _between(f"template {one.name}: memory", one.memory_mb, 1, self.memory_mb)
        _between(f"template {one.name}: cpus", one.cpus, 0, self.cpus)
        _between(f"template {one.name}: pool", one.pool, 0, self.max_sandboxes)
        _between(f"template {one.name}: share", one.share, 1e-9, EVER)


def _between(what: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:  # not a number is in no range
        raise BadScene(f"{what} {value:g}: give a number from {least:g} to {most:g}.")
