"""The nodes as they are: what is reserved, warm, in use and being made on each. Lists by number of the node.

Nothing here knows of time, of policies or of managers.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from tools.fleetsim.scene import Scene


@dataclass(slots=True)
class Request:
    """A create that somebody waits for."""

    arrived: float
    template: int
    manager: int
    counted: bool
    cold: bool = False


@dataclass(slots=True)
class Making:
    """One sandbox that is being made: for a request, or for the pool."""

    template: int
    request: Request | None


class Nodes:
    def __init__(self, scene: Scene) -> None:
        self._templates, self._parallel, self._most = scene.templates, scene.parallel, scene.max_sandboxes
        self._memory_mb, self._cpus = scene.memory_mb, scene.cpus
        count = scene.nodes
        self.free_mb = [scene.memory_mb] * count
        self.free_cpus = [scene.cpus] * count
        self.present = [0] * count
        self.used = [0] * count  # by requests: served, or being made
        self.warm = [[0] * count for _ in scene.templates]
        self.starting = [[0] * count for _ in scene.templates]
        self.running = [0] * count
        self.waiting: list[deque[Making]] = [deque() for _ in range(count)]
        self.up = [True] * count
        self.lost = [False] * count  # it is not up, and the managers have noticed
        self.life = [0] * count  # how often it has failed: what belongs to an earlier life has ended

    def has_room(self, node: int, template: int) -> bool:
        wanted = self._templates[template]
        return (
            not self.lost[node]
            and self.free_mb[node] >= wanted.memory_mb
            and self.free_cpus[node] >= wanted.cpus - 1e-9
            and self.present[node] < self._most
        )

    def reserve(self, node: int, template: int) -> None:
        self.free_mb[node] -= self._templates[template].memory_mb
        self.free_cpus[node] -= self._templates[template].cpus
        self.present[node] += 1

    def release(self, node: int, template: int) -> None:
        self.free_mb[node] += self._templates[template].memory_mb
        self.free_cpus[node] += self._templates[template].cpus
        self.present[node] -= 1

    def next_to_make(self, node: int) -> Making | None:
        """What may begin now; it has its place then. Requests go before pools, and of those the emptiest first."""
        if not self.up[node] or self.running[node] >= self._parallel:
            return None
        if self.waiting[node]:
            self.running[node] += 1
            return self.waiting[node].popleft()
        lacks = []
        for at, template in enumerate(self._templates):
            there = self.warm[at][node] + self.starting[at][node]
            if there < template.pool and self.has_room(node, at):
                lacks.append((there / template.pool, at))
        if not lacks:
            return None
        at = min(lacks)[1]
        self.reserve(node, at)
        self.starting[at][node] += 1
        self.running[node] += 1
        return Making(at, None)

    def fill(self, node: int) -> int:
        """All pools at once, as long as there is room. Returns how many members were made."""
        made = 0
        for at, template in enumerate(self._templates):
            while self.warm[at][node] < template.pool and self.has_room(node, at):
                self.reserve(node, at)
                self.warm[at][node] += 1
                made += 1
        return made

    def fail(self, node: int) -> None:
        """It is gone with all that it had. Its reservations stand until somebody notices."""
        self.up[node] = False
        self.life[node] += 1
        self.used[node] = self.running[node] = 0
        for lists in (self.warm, self.starting):
            for numbers in lists:
                numbers[node] = 0
        self.waiting[node].clear()

    def lose(self, node: int) -> int:
        """Its loss is noticed. Returns how many leases it had."""
        self.lost[node] = True
        leases, self.present[node] = self.present[node], 0
        self.free_mb[node], self.free_cpus[node] = self._memory_mb, self._cpus
        return leases

    def come_back(self, node: int) -> None:
        self.up[node], self.lost[node] = True, False
