"""Where everything is: which host has a sandbox, a volume, a template, by what the hosts themselves say.

In memory only: whoever starts reads all hosts once and knows it. What a host had when it was read last stays, so that
the sandboxes of one that is lost are still known.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from fleet.booking import Held
from fleet.config import Share
from fleet.inventory import Contents, Made, parse
from fleet.nodes import Node, Nodes, Unreachable
from sandboxd.errors import Conflict

log = logging.getLogger(__name__)

EVERY_S = 2.0
SOON_S = 0.2  # after a create the host is read again, once for all of that time


class Index:
    def __init__(self, nodes: Nodes, share: Share, every_s: float = EVERY_S) -> None:
        self.nodes, self._share, self._every_s = nodes, share, every_s
        self.contents = {name: Contents() for name in nodes}
        self.changed: Callable[[], None] = lambda: None  # told when a host has other sandboxes, or members of pools
        self.notes: dict[str, str] = {}  # by sandbox of a host that is off: why it is not made anew elsewhere yet
        self._clock = count(1)
        self._wake = {name: asyncio.Event() for name in nodes}

    def find(self, prefix: str) -> Node | None:
        """The host of the sandbox whose id is, or uniquely begins with, `prefix`. Raises Conflict.

        `<id>-<clientID>` is read as `<id>`.
        """
        wanted = prefix.partition("-")[0]
        if not wanted:
            return None
        if (node := self.having(wanted)) is not None:
            return node
        found = {one for _, one in self._ids() if one.startswith(wanted)}
        if len(found) > 1:
            raise Conflict(f"sandbox '{prefix}' is ambiguous: {', '.join(sorted(found))}. Give more characters.")
        return self.having(found.pop()) if found else None

    def having(self, sandbox_id: str) -> Node | None:
        """The host of the sandbox of that whole id; `<id>-<clientID>` is read as `<id>`."""
        wanted = sandbox_id.partition("-")[0]
        names = [name for name, contents in self.contents.items() if wanted in contents.sandboxes]
        return self.nodes[max(names, key=lambda name: self._standing(name, wanted))] if names else None

    def moved(self, node: str, sandbox_id: str) -> bool:
        """Whether what that host had is on another one by now, where it was made anew."""
        own = self._standing(node, sandbox_id)
        return any(
            sandbox_id in contents.sandboxes and self._standing(name, sandbox_id) > own
            for name, contents in self.contents.items()
            if name != node
        )

    def _standing(self, node: str, sandbox_id: str) -> tuple[int, bool]:
        """Of two hosts that say that they have a sandbox, the one with the larger value has it."""
        row = self.contents[node].sandboxes.get(sandbox_id)
        return (row or {}).get("generation", 0), self.nodes[node].lost_since is None

    def whole(self, node: str, prefix: str) -> str:
        """The id that a prefix means on that host; the prefix itself when there is none."""
        wanted = prefix.partition("-")[0]
        return next((one for one in self.contents[node].sandboxes if one.startswith(wanted)), wanted)

    def missing(self) -> list[Node]:
        """Hosts of which nothing is known, since they were lost before they could be read."""
        return [self.nodes[name] for name, contents in self.contents.items() if not contents.known]

    def elsewhere(self) -> dict[str, str]:
        """id -> host, of the sandboxes that are not on this one; and of members of pools, which may be claimed."""
        found: dict[str, str] = {}
        for name, contents in list(self.contents.items()):
            for one in (*list(contents.sandboxes), *list(contents.warm)):
                # Mostly it is on one host. Of several the one that `find` takes.
                if one not in found or self._standing(name, one) > self._standing(found[one], one):
                    found[one] = name
        return {one: name for one, name in found.items() if name != self.nodes.own}

    def volume(self, name: str) -> str:
        """The host that has the volume of that name, empty for none."""
        return next((node for node, contents in self.contents.items() if name in contents.volumes), "")

    def volumes_of(self, owner: str) -> dict[str, tuple[str, str]]:
        """Title -> (host, name) of a key's volumes."""
        return {
            title: (node, name)
            for node, contents in self.contents.items()
            for name, (of, title) in contents.volumes.items()
            if of == owner and title
        }

    def template(self, name: str) -> str:
        """The host on which that template was made, empty for none. `name:tag` is known with its tag."""
        return next((node for node, contents in self.contents.items() if name in contents.templates), "")

    def size(self, template: str) -> tuple[int, float] | None:
        """MB and CPUs of a template that was made on a host."""
        node = self.template(template)
        return self.contents[node].templates[template] if node else None

    def count_of(self, owner: str) -> int:
        return sum(one.owner == owner for name in self.contents for one in self.of(name))

    def held(self) -> dict[str, list[Held] | None]:
        """What each host has, None for one that is lost: for the reconcile, which asks in a thread of its own."""
        return {
            name: self.of(name) if contents.known and self.nodes[name].lost_since is None else None
            for name, contents in list(self.contents.items())
        }

    def of(self, node: str) -> list[Held]:
        """The sandboxes and members of pools of a host, as it was read last."""
        return list(self._held(node))

    def warm(self, node: str, template: str) -> set[str]:
        """The members of a pool that a host had when it was read last."""
        return {one.id for one in self.contents[node].warm.values() if one.template == template}

    def look_soon(self, node: str) -> None:
        self._wake[node].set()

    def entered(self, node: str, sandbox_id: str, template: str, owner: str, memory_mb: int, cpus: float) -> None:
        """It was made there just now."""
        contents = self.contents[node]
        contents.warm.pop(sandbox_id, None)
        contents.made[sandbox_id] = Made(next(self._clock), True, template, owner, memory_mb, cpus)
        contents.sandboxes[sandbox_id] = None
        self.look_soon(node)

    def left(self, node: str, sandbox_id: str) -> None:
        contents = self.contents[node]
        contents.made[sandbox_id] = Made(next(self._clock), False)
        contents.sandboxes.pop(sandbox_id, None)

    async def read(self, node: Node) -> bool:
        """Asks a host what it has; false when it does not answer, or what it says is none, as of another release."""
        began = next(self._clock)
        try:
            async with asyncio.timeout(node.lost_s):
                answer = await node.ask("GET", "/inventory")
            if answer.status != 200:
                raise node.silent(f"GET /inventory: {answer.status}")
        except (Unreachable, TimeoutError) as error:
            node.silent(str(error) or f"no answer within {node.lost_s:g} s")
            return False
        try:
            self._take(node.name, answer.json(), began)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            log.warning("node %s: GET /inventory is not understood: %r", node.name, error)
            return False
        return True

    async def read_all(self) -> None:
        """Asks all hosts that are not lost."""
        await asyncio.gather(*(self.read(node) for node in self.nodes.living))

    async def follow(self, node: Node) -> None:
        """Reads a host again and again; oftener while it does not answer."""
        while True:
            self._wake[node.name].clear()
            try:
                answered = await self.read(node)
            except Exception:  # of one round: else nobody would look at that host again
                log.exception("node %s is read again", node.name)
                answered = False
            pause_s = self._every_s if answered else min(self._every_s, node.lost_s / 6)
            try:
                async with asyncio.timeout(pause_s):
                    await self._wake[node.name].wait()
                await asyncio.sleep(min(SOON_S, self._every_s))
            except TimeoutError:
                pass

    def _take(self, name: str, told: dict[str, Any], began: int) -> None:
        before, earlier = self.contents[name], self._ids_of(name)
        if began < before.at:  # two ask at the same time, and the later answer may be the older one
            return
        now = parse(told, self._share)
        now.at, now.made = began, {one: what for one, what in before.made.items() if what.at > began}
        for one, what in now.made.items():  # since the question was sent
            now.warm.pop(one, None)
            if what.present:
                now.sandboxes.setdefault(one, None)
            else:
                now.sandboxes.pop(one, None)
        self.contents[name] = now
        if self._ids_of(name) != earlier:  # whoever has asked: it is not told twice
            self.changed()

    def _ids_of(self, node: str) -> set[str]:
        return {*self.contents[node].sandboxes, *self.contents[node].warm}

    def _ids(self) -> Iterator[tuple[str, str]]:
        return ((name, one) for name, contents in self.contents.items() for one in contents.sandboxes)

    def _held(self, node: str) -> Iterator[Held]:
        contents = self.contents[node]
        for one, row in list(contents.sandboxes.items()):
            if row is not None:
                yield contents.held[one]
            elif (new := contents.made.get(one)) is not None:
                yield Held(one, new.template, "running", new.owner, "", *self._share.of(new.memory_mb, new.cpus))
        yield from list(contents.warm.values())
