"""The API keys of the fleet: all hosts have the same ones, and what a key may have counts over all hosts.

They are changed on one manager, the keeper, and brought to all other hosts from there. The keeper is the manager whose
keys have changed oftenest, so that one which was away takes over what it has missed.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakValueDictionary

from fleet.index import Index
from fleet.nodes import Answer, Node, Nodes, Unreachable
from sandboxd.errors import NotFound, QuotaReached
from sandboxd.keys import KEY, digest, fingerprint
from sandboxd.records import ApiKey

log = logging.getLogger(__name__)

UNSHARED = (0, fingerprint({}))  # version and fingerprint of a host that has no keys and has never shared any


class Keys:
    def __init__(self, nodes: Nodes, index: Index) -> None:
        self._nodes, self._index = nodes, index
        self._known: dict[str, ApiKey] = {}
        self._one = asyncio.Lock()

    async def find(self, text: str) -> ApiKey | None:
        """Whose key it is. One that is not known is looked for once more: it may have been made elsewhere just now."""
        if not KEY.fullmatch(text):
            return None
        wanted = digest(text)
        if wanted not in self._known:
            await self.read()
        return self._known.get(wanted)

    async def get(self, key_id: str) -> ApiKey:
        """Raises NotFound and Unreachable."""
        await self.read()
        for key in self._known.values():
            if key.id == key_id:
                return key
        raise NotFound(f"key {key_id!r} not found. Those there are: docker-sandbox key ls")

    def keeper(self) -> Node:
        """Raises Unreachable when no manager answers."""
        managers = [node for node in self._nodes.living if node.role == "manager"]
        if not managers:
            self._nodes[self._nodes.own].check()
            raise Unreachable("no manager of the fleet answers: keys cannot be looked at now.", False)
        return max(managers, key=lambda node: self._index.contents[node.name].keys[0])

    def _minority(self) -> str:
        """That most managers are not heard here; empty where they are."""
        managers = [node for node in self._nodes.values() if node.role == "manager"]
        heard = sum(node.lost_since is None for node in managers)
        return (
            "" if 2 * heard > len(managers) else f"only {heard} of {len(managers)} managers of the fleet are heard here"
        )

    async def read(self) -> dict[str, Any]:
        """All keys as the keeper has them: the body of a PUT /keys. Raises Unreachable."""
        keeper = self.keeper()
        found: dict[str, Any] = (await keeper.while_heard(keeper.ask("GET", "/keys/digests"))).json()
        self._known = {
            one["digest"]: ApiKey(one["id"], one["name"], one["max_sandboxes"], one["created_at"], one["host"])
            for one in found["keys"]
        }
        return found

    async def share(self) -> None:
        """Brings the keys of the keeper to all hosts that answer and have others. Raises Unreachable.

        Who has others of the same version, or a newer one, gets these as a version that is newer than any. So do all
        at the first time, when the keys have no version yet. The keeper takes that first, unless another manager has
        changed its keys meanwhile: those would be lost. Where most managers are not heard it brings none: those
        may have newer ones, and what was revoked there would be good again.
        """
        if self._minority():
            return
        async with self._one:
            keeper = self.keeper()
            await self._catch_up(keeper)
            versions = {node.name: self._index.contents[node.name].keys for node in self._nodes.living}
            version, mark = versions[keeper.name]
            others = {name: own for name, own in versions.items() if name != keeper.name}
            if version:
                others = {name: own for name, own in others.items() if own != (version, mark)}
            if not mark or not (others or version == 0):
                return
            body = await self.read()
            newest = max((own for own, _ in others.values()), default=0)
            if newest >= body["version"]:
                body["version"] = newest + 1
                if not await self._give(keeper, {**body, "known": True}):
                    return
            await asyncio.gather(*(self._give(self._nodes[name], body) for name in others))

    async def change(self, ask: Callable[[Node], Awaitable[Answer]]) -> Answer:
        """Lets the keeper change them, which `ask` asks for, and brings them to all hosts. Who does not answer gets
        them later. Raises Unreachable, also where most managers are not heard: what is changed there would take the
        place of this.
        """
        if told := self._minority():
            raise Unreachable(f"{told}: keys cannot be changed now.", False)
        async with self._one:  # what is being shared replaces the keeper's own keys, too, when their version is raised
            keeper = self.keeper()
            await self._catch_up(keeper)
            answer = await keeper.while_heard(ask(keeper))
        if answer.status < 300:
            await self._index.read(self.keeper())
            await self.share()
            await self.read()
        return answer

    async def _catch_up(self, keeper: Node) -> None:
        """A keeper that was set up anew, in the place of one that is gone, gets the keys that the fleet has: its own
        would delete them. Raises Unreachable while they cannot be had, or a host may have some that was never heard.
        """
        kept = {node.name: self._index.contents[node.name].keys for node in self._nodes.values()}
        if kept[keeper.name] != UNSHARED:
            return
        having = [node for node in self._nodes.values() if kept[node.name][0]]
        if not having:
            if missing := self._index.missing():
                told = "; ".join(node.obituary for node in missing)
                raise Unreachable(f"node {keeper.name} has no keys, and others may have some. {told}", False)
            return
        source = max(having, key=lambda node: (node.lost_since is None, kept[node.name][0]))
        source.check()
        log.warning("node %s has no keys yet, and gets those of node %s", keeper.name, source.name)
        body = (await source.while_heard(source.ask("GET", "/keys/digests"))).json()
        if not await self._give(keeper, body):
            raise Unreachable(f"node {keeper.name} has not got the keys of node {source.name} yet.", False)

    async def _give(self, node: Node, body: Mapping[str, Any]) -> bool:
        """Whether it has taken them."""
        try:
            answer = await node.while_heard(node.ask("PUT", "/keys", body))
            if answer.status not in (204, 409):  # 409: another manager was faster
                log.warning("the keys of node %s are not replaced: %s", node.name, answer.body[:200])
            await self._index.read(node)
        except Unreachable as error:
            log.warning("the keys of node %s are replaced later: %s", node.name, error)
            return False
        return answer.status == 204


class Limits:
    """How many sandboxes a key's name may have in the whole fleet, those that are being made included."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._making: Counter[str] = Counter()
        # One for each name: who is at his limit has all hosts read, which others need not wait for.
        self._changed: WeakValueDictionary[str, asyncio.Condition] = WeakValueDictionary()

    @asynccontextmanager
    async def place(self, key: ApiKey, number: int = 1) -> AsyncIterator[None]:
        """For so many sandboxes more. Raises QuotaReached."""
        changed = self._changed.setdefault(key.name, asyncio.Condition())
        async with changed:
            while not await self._room(key, number):
                await changed.wait()
            self._making[key.name] += number
        try:
            yield
        finally:
            async with changed:
                self._making[key.name] -= number
                changed.notify_all()

    async def _room(self, key: ApiKey, number: int) -> bool:
        """False where it cannot be known: one that is being made may be in the index already, or fail."""
        most = key.max_sandboxes
        if not most or self._index.count_of(key.name) + self._making[key.name] + number <= most:
            return True
        await self._index.read_all()  # some may have ended since
        present = self._index.count_of(key.name)
        if present + number <= most:
            return present + self._making[key.name] + number <= most
        raise QuotaReached(
            f"the key {key.name!r} may have {most} sandboxes at a time, and has {present}."
            " Kill one, or ask for a key with a higher limit."
        )
