"""What a lost host leaves on shared storage is made anew elsewhere, once it is certain that the host is off.

That nobody hears a host is no proof that it does not write. The proof is the operator's: a command that ends with 0
only when the host is off, or `node fenced`. It is kept in memory: after a restart of this service it is given anew. And
it is one of the time since the host was heard last: whoever is heard again is on, be it for a moment only.

With the proof all volumes of the host become nobody's, once. Its kept sandboxes wait on the storage from then on, and
are made anew by whichever manager finds them there, whatever has become of the host: it has lost them by that.

The command is run by the manager that leads the Swarm, if the Swarm misses the host as well, and if at least half of
all hosts answer here: else it is rather this one that is cut off.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from anyio import CapacityLimiter, to_thread

from fleet.config import Fencing as Settings
from fleet.errors import FleetError
from fleet.index import Index
from fleet.leases import Leases
from fleet.lists import gathered
from fleet.membership import Membership
from fleet.nodes import Answer, Node, Nodes, Unreachable
from sandboxd.errors import Conflict

log = logging.getLogger(__name__)

AGAIN_S = 60.0  # after a command that has failed
SAID = 2000  # characters of what a command says


@dataclass
class Outcome:
    """By the ids of sandboxes, `of volume NAME` where it is not known: on which host they are now, or why they are
    nowhere yet."""

    moved: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)


@dataclass
class Off:
    """The proof that a host is off, which has `answered` last (see Node) before. Once its volumes are `freed`, what it
    has on shared storage it has taken since it is on again, be it that it is not heard here yet.
    """

    answered: float
    freed: bool = False

    def holds(self, node: Node) -> bool:
        return node.answered == self.answered


class Fencing:
    def __init__(self, settings: Settings, nodes: Nodes, index: Index, members: Membership, leases: Leases) -> None:
        self._settings, self._nodes, self._index = settings, nodes, index
        self._members, self._leases = members, leases
        self._off: dict[str, Off] = {}
        self._of: dict[str, str] = {}  # by volume: the host that had it when it was freed, for messages
        self._waits, self._look_at = False, 0.0  # whether something was not made anew, and when to look for others'
        self._not_before: dict[str, float] = {}
        self._moving = asyncio.Lock()
        self._threads = CapacityLimiter(1)

    async def tick(self) -> None:
        """Fences who has been lost for long enough, and makes anew what is left of those that are off."""
        for node in self._nodes.values():
            if node.lost_since is None:
                self._off.pop(node.name, None)
                self._not_before.pop(node.name, None)
            elif self._proof(node) is None and await self._due(node):
                await self._fence(node)
            if self._proof(node) is not None:
                async with self._moving:
                    if (off := self._proof(node)) is not None and not off.freed:
                        await self._free(node.name, off)
        if self._waits or time.monotonic() >= self._look_at:
            async with self._moving:
                await self._make_anew()

    async def fenced(self, name: str) -> Outcome:
        """Somebody says that it is off. It may be no host of the fleet any more, but for what records say. Raises
        Conflict for a host that answers, and NotFound.
        """
        node = self._nodes.get(name)
        if node is not None and node.lost_since is None:
            raise Conflict(f"node {name} answers, so it is not off. Only a lost host is fenced.")
        log.warning("node %s is off, as somebody says who made sure", name)
        off = Off(node.answered if node is not None else 0.0)
        if node is not None:
            self._off[name] = off
        async with self._moving:
            if node is not None and not off.holds(node):
                raise Conflict(f"node {name} has answered meanwhile, so it was not off. Only a lost host is fenced.")
            if not await self._free(name, off):
                self._members.named(name)
            return await self._make_anew()

    def _proof(self, node: Node) -> Off | None:
        off = self._off.get(node.name)
        return off if off is not None and off.holds(node) else None

    async def _free(self, dead: str, off: Off) -> list[str]:
        """The volumes that it had are nobody's. Raises FleetError and Unreachable."""
        if (asked := await self._storage()) is None:
            return []
        if dead in self._nodes and not off.holds(self._nodes[dead]):
            return []
        answer = await asked[0].ask("POST", "/shared/free", {"node": dead})
        if answer.status != 200:
            raise FleetError(f"the volumes of node {dead} are not free: {_message(answer)}")
        freed: list[str] = answer.json()
        off.freed, self._waits = True, True
        self._of |= dict.fromkeys(freed, dead)
        return freed

    async def _make_anew(self) -> Outcome:
        """All kept sandboxes on shared storage whose hosts have lost them. Raises FleetError and Unreachable."""
        self._look_at = time.monotonic() + AGAIN_S
        outcome, unreadable = Outcome(), dict[str, str]()
        if (asked := await self._storage()) is None:
            return outcome
        asker, identity = asked
        answer = await asker.ask("GET", "/shared/left")
        if answer.status != 200:
            raise FleetError(f"what waits on shared storage is not known: {_message(answer)}")
        for row in answer.json():
            if "trouble" in row:
                log.error("on shared storage: %s", row["trouble"])
                unreadable[f"of volume {row['volume']}"] = row["trouble"]
                continue
            where, why = await self._place(row, identity)
            if where:
                outcome.moved[row["sandboxID"]] = where
                self._of.pop(row["volume"], None)
            else:
                outcome.waiting[row["sandboxID"]] = why
        self._waits = bool(outcome.waiting)
        outcome.waiting |= unreadable
        self._index.notes = dict(outcome.waiting)
        return outcome

    async def _place(self, row: Mapping[str, Any], identity: str) -> tuple[str, str]:
        """The host that has it now, or empty and why there is none."""
        why, dead = "no host takes new sandboxes", self._of.get(row["volume"], "")
        for node in self._members.takers():
            try:
                if await self._identity(node) != identity:
                    why = f"node {node.name} has mounted other storage"
                    continue
                target = f"/shared/{quote(row['volume'])}/sandbox"
                answer = await node.ask("POST", target, {"node": dead})
            except Unreachable as error:
                why = str(error)
                continue
            if answer.status < 300:
                log.warning("sandbox %s is made anew on node %s", row["sandboxID"], node.name)
                await self._index.read(node)
                if dead in self._nodes:
                    self._index.left(dead, row["sandboxID"])
                return node.name, ""
            why = f"node {node.name}: {_message(answer)}"
        log.warning("sandbox %s is not made anew yet: %s", row["sandboxID"], why)
        return "", why

    async def _due(self, node: Node) -> bool:
        if not self._settings.command or node.unheard_s < self._settings.after_s:
            return False
        if time.monotonic() < self._not_before.get(node.name, 0.0):
            return False
        if 2 * len(self._nodes.living) < len(self._nodes):
            log.warning(
                "node %s is not fenced: most hosts are not heard here, which is then the one cut off", node.name
            )
            return False
        try:
            found = await to_thread.run_sync(self._leases.members, limiter=self._threads)
        except FleetError as error:
            log.warning("node %s is not fenced: %s", node.name, error)
            return False
        members = {one.name: one for one in sorted(found, key=lambda one: one.state == "ready")}  # some are there twice
        own, other = members.get(self._nodes.own), members.get(node.name)
        return own is not None and own.leader and (other is None or other.state != "ready")

    async def _fence(self, node: Node) -> None:
        self._not_before[node.name] = time.monotonic() + AGAIN_S
        off = Off(node.answered)
        log.warning("fencing node %s: %s %s", node.name, self._settings.command, node.name)
        try:
            code, said = await run(self._settings.command, node.name, self._settings.timeout_s)
        except OSError as error:
            log.error("node %s is not fenced: %s: %s", node.name, self._settings.command, error.strerror)
            return
        if code == 0:
            log.warning("node %s is off, says %s: %s", node.name, self._settings.command, said)
            self._off[node.name] = off
        else:
            log.error("node %s is not fenced: %s ended with %s: %s", node.name, self._settings.command, code, said)

    async def _storage(self) -> tuple[Node, str] | None:
        """A host that sees the shared storage, and its mark; None when no host has any."""
        for node in self._nodes.living:
            if identity := await self._identity(node):
                return node, identity
        return None

    async def _identity(self, node: Node) -> str:
        answer = (await gathered([node], lambda one: one.ask("GET", "/shared"))).get(node.name)
        return str(answer.json()["id"]) if answer is not None and answer.status == 200 else ""


async def run(command: str, name: str, timeout_s: float) -> tuple[int | str, str]:
    """Exit code, or why there is none, and what the command said. Raises OSError when it cannot be started."""
    process = await asyncio.create_subprocess_exec(
        *(command, name),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(timeout_s):
            said, _ = await process.communicate()
    except TimeoutError:
        return f"no exit code within {timeout_s:g} s", ""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, said.decode(errors="replace").strip()[-SAID:]


def _message(answer: Answer) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"it answers {answer.status}"
