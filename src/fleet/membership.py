"""The hosts as members of the fleet: who takes new sandboxes, who is being emptied, what each has and has promised.

The scheduler keeps the availability: active, pause (cordoned) or drain. That a host is being emptied is known here
only: after a restart of the service it is cordoned, and whoever wants it empty says so again.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from anyio import CapacityLimiter, to_thread

from fleet.booking import WARM
from fleet.errors import FleetError
from fleet.index import Index
from fleet.leases import Leases, Member
from fleet.names import Names
from fleet.nodes import Node, Nodes, Unreachable
from sandboxd.errors import NotFound
from sandboxd.times import rfc3339

log = logging.getLogger(__name__)

ACTIVE, CORDONED, DRAINED = "active", "pause", "drain"
STATES = {ACTIVE: "ready", CORDONED: "cordoned", DRAINED: "drained"}


@dataclass(frozen=True)
class Row:
    """One line of `node ls`. Memory in MB; None is what is not known now. `lostSince` is a time (RFC 3339)."""

    name: str
    role: str
    address: str
    state: str  # ready, cordoned, draining, drained or lost
    lostSince: str | None
    leader: bool
    sandboxes: int
    warm: int
    memoryMB: int | None
    memoryReservedMB: int
    cpus: float | None
    cpusReserved: float
    engine: str | None


class Membership:
    """`file` keeps whose pools are to be on again."""

    def __init__(self, nodes: Nodes, index: Index, leases: Leases, file: Path | None = None) -> None:
        self._nodes, self._index, self._leases = nodes, index, leases
        self._members: dict[str, Member] = {}
        self._draining: set[str] = set()
        self._turned_on = Names(file, nodes)  # whose pools are to be on again, and have not heard so yet
        self._current = False  # whether `_members` is what the scheduler said when it was asked last
        self._asked = self._told = 0  # how often it was asked, and the number of the question that it answered last
        self._threads = CapacityLimiter(4)

    async def read(self) -> None:
        """What the scheduler says; while it has no leader, what it said last."""
        self._asked += 1
        number = self._asked
        found: list[Member] | None = None
        try:
            found = await to_thread.run_sync(self._leases.members, limiter=self._threads)
        except FleetError as error:
            log.warning("%s", error)
        if number < self._told:  # several ask at the same time, and the later answer may be the older one
            return
        self._told, self._current = number, found is not None
        if found is not None:
            self._members = {one.name: one for one in sorted(found, key=lambda one: one.state == "ready")}

    def availability(self, node: str) -> str:
        return self._members[node].availability if node in self._members else ACTIVE

    def takers(self) -> list[Node]:
        """The hosts that take new sandboxes, the least loaded first."""
        ready = [node for node in self._nodes.living if self.availability(node.name) == ACTIVE]
        return sorted(ready, key=lambda node: (self.load(node.name), node.name))

    def load(self, node: str) -> float:
        """The part of its memory that is reserved for its sandboxes; in MB while nobody says how much it has."""
        used = sum(one.memory_mb for one in self._index.of(node) if one.state != WARM)
        return used / (self._members[node].memory_mb or 1) if node in self._members else float(used)

    async def tick(self) -> None:
        """Turns off the pools of hosts that take nothing, and ends the emptying of those that are empty: all hosts at
        the same time, since one that hangs holds up nobody else.
        """
        await asyncio.gather(*(self._follow(node) for node in self._nodes.living))

    async def _follow(self, node: Node) -> None:
        """By what the scheduler said earlier it does nothing: another manager may have let it take new ones again."""
        if not self._current:
            return
        contents = self._index.contents[node.name]
        if self.availability(node.name) == ACTIVE:
            self._draining.discard(node.name)  # another manager has taken it back
            if node.name in self._turned_on and await self._turn(node, True):
                self._turned_on.discard(node.name)
        elif contents.pools:
            await self._turn(node, False)
            await self.read()  # its members go, which takes time: what it is to be may be otherwise since
        if not self._current or node.name not in self._draining or not contents.known or contents.sandboxes:
            return
        try:
            await self._make(node.name, DRAINED)
        except FleetError as error:
            log.warning("node %s is empty; it is drained later: %s", node.name, error)
        else:
            self._draining.discard(node.name)

    async def cordon(self, name: str) -> None:
        """No new sandboxes, and no pool; what is there stays. Raises NotFound and FleetError."""
        node = self.named(name)
        self._draining.discard(name)
        self._turned_on.discard(name)
        await self._make(name, CORDONED)
        await self._turn(node, False)

    async def drain(self, name: str, now: bool, ended: Callable[[Node, str], Any]) -> None:
        """The same, and out of the fleet's work once its sandboxes have ended; with `now` they are ended, and `ended`
        hears of each. Raises NotFound, FleetError and, with `now`, Unreachable.
        """
        node = self.named(name)
        if self.availability(name) != DRAINED:
            await self.cordon(name)
            self._draining.add(name)
        if now:
            node.check()
            await self._index.read(node)
            several = asyncio.Semaphore(4)

            async def end(sandbox_id: str) -> None:
                async with several:
                    if (await node.ask("DELETE", f"/sandboxes/{sandbox_id}")).status in (204, 404):
                        await ended(node, sandbox_id)

            await asyncio.gather(*(end(one) for one in list(self._index.contents[name].sandboxes)))
        await self.tick()

    async def activate(self, name: str) -> None:
        """New sandboxes again, and its pools on. Raises NotFound and FleetError."""
        node = self.named(name)
        self._draining.discard(name)
        await self._make(name, ACTIVE)
        if not await self._turn(node, True):
            self._turned_on.add(name)

    def named(self, name: str) -> Node:
        """Raises NotFound."""
        if name not in self._nodes:
            raise NotFound(f"node {name!r} not found. This fleet has: {', '.join(self._nodes)}")
        return self._nodes[name]

    async def rows(self) -> list[dict[str, Any]]:
        await self.read()
        return list(await asyncio.gather(*(self._row(node) for node in self._nodes.values())))

    async def _row(self, node: Node) -> dict[str, Any]:
        member, engine = self._members.get(node.name), None
        try:
            node.check()
            engine = (await node.while_heard(node.ask("GET", "/overview"))).json().get("engine") or None
        except Unreachable:
            pass
        held = self._index.of(node.name)
        state = STATES.get(self.availability(node.name), "ready")
        if node.name in self._draining:
            state = "draining"
        if node.lost_since is not None:
            state = "lost"
        row = Row(
            node.name,
            node.role,
            node.address,
            state,
            None if node.lost_since is None else rfc3339(node.lost_since),
            member.leader if member else False,
            len(self._index.contents[node.name].sandboxes),
            sum(one.state == WARM for one in held),
            member.memory_mb if member else None,
            sum(one.memory_mb for one in held),
            member.cpus if member else None,
            round(sum(one.cpus for one in held), 2),
            engine,
        )
        return asdict(row)

    async def _make(self, name: str, availability: str) -> None:
        await to_thread.run_sync(self._leases.make_available, name, availability, limiter=self._threads)
        await self.read()

    async def _turn(self, node: Node, on: bool) -> bool:
        """The pools of a host; false when it is to be asked again, which `tick` does."""
        what = f"the pools of node {node.name} are not turned {'on' if on else 'off'} yet"
        try:
            node.check()
            answer = await node.while_heard(node.ask("POST", "/pool", {"enabled": on, "template": ""}))
            await self._index.read(node)
        except Unreachable as error:
            log.warning("%s: %s", what, error)
            return False
        if answer.status != 200:
            log.warning("%s: %s", what, answer.body[:200])
        return answer.status == 200
