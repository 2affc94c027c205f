"""The parts of the fleet service that requests are turned into calls of, and what goes on beside requests."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fleet.config import Config
from fleet.errors import FleetError
from fleet.fencing import Fencing
from fleet.forward import Streams
from fleet.gatewaymap import NodesMap
from fleet.index import EVERY_S, Index
from fleet.keys import Keys, Limits
from fleet.leases import Leases
from fleet.leasing import Leasing
from fleet.lists import gathered
from fleet.membership import Membership
from fleet.nodes import LOST_S, Node, Nodes, Unreachable
from fleet.placing import Placing
from fleet.wishes import Wish, bindings
from sandboxd.errors import Conflict, NotFound

log = logging.getLogger(__name__)

POOLS_ON = "pools-on"  # beside the map of the gateway, below the directory that is this service's to keep


class Services:
    """`booking` is done every `every_s` seconds in a thread: what brings leases and sandboxes into step."""

    def __init__(
        self,
        config: Config,
        leases: Leases,
        every_s: float = EVERY_S,
        lost_s: float = LOST_S,
        booking: Callable[[Index], Callable[[], object]] | None = None,
    ) -> None:
        self.config, self._every_s = config, every_s
        self.nodes = Nodes(
            {host.name: Node(host, config.domain, lost_s) for host in config.nodes.values()}, config.node
        )
        self.index = Index(self.nodes, config.lease_share, every_s)
        self.members = Membership(self.nodes, self.index, leases, config.map.with_name(POOLS_ON))
        self.keys, self.limits = Keys(self.nodes, self.index), Limits(self.index)
        self.gateway = NodesMap(config.admin, config.map, self.index.elsewhere)
        self.leasing = Leasing(leases, config.lease_share, config.project)
        self.placing = Placing(config, self.nodes, self.index, self.members, self.leasing, self.gateway, self.limits)
        self.fencing = Fencing(config.fencing, self.nodes, self.index, self.members, leases)
        self._book = booking(self.index) if booking else None
        self.streams = Streams()
        self._changed = asyncio.Event()
        self._changed.set()
        self.index.changed = self._changed.set
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Reads all hosts once, so that the first request finds what there is, and goes on reading them."""
        await asyncio.gather(self.index.read_all(), self.members.read())
        followed = [self.index.follow(node) for node in self.nodes.values()]
        often = [self._tend, self._booked, self.keys.share, self.fencing.tick]
        beside = [self._again(work, self._every_s) for work in often]
        beside.append(self._again(self._route, self._every_s / 10))
        self._tasks = [asyncio.create_task(work) for work in (*followed, *beside)]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.leasing.settle()
        for node in self.nodes.values():
            await node.close()

    async def node_of(self, sandbox_id: str, whole: bool = False) -> Node:
        """The host that has the sandbox, or else one that can tell of its end. Raises Conflict and Unreachable.

        `whole`: the beginning of an id is none. Of whoever has a key only this is asked: a beginning that several
        sandboxes share would tell the ids of other keys', and those are all that it takes to visit them.
        """
        find = self.index.having if whole else self.index.find
        node = find(sandbox_id)
        if node is None:
            await self.index.read_all()
            node = find(sandbox_id)
        if node is None:
            self.check_heard(f"sandbox '{sandbox_id}'")
            node = await self._remembering(sandbox_id)
        node.check()
        return node

    def check_heard(self, what: str) -> None:
        """`what` is on no host that is known. Raises Unreachable if it may be on one of which nothing is known: it
        would be made a second time.
        """
        if unknown := self.index.missing():
            told = "; ".join(one.obituary for one in unknown)
            raise Unreachable(f"{what} is on no host that answers. {told}", False)

    async def wish(
        self,
        template: str,
        owner: str,
        volume: str = "",
        titles: Sequence[Any] = (),
        plain: bool = True,
        shared: bool = False,
    ) -> Wish:
        """What a new sandbox needs. A volume of the host's own (`volume`) that is nowhere yet has a home; the `titles`
        of a key's volumes are looked up, and of what is not there the host says so. Whose a `shared` volume is, the
        record on the shared storage tells. Raises Unreachable for a volume that a host may have that was never heard.
        """
        known = template in self.config.templates or self.index.template(template)
        having = self.index.volumes_of(owner) if titles else {}
        if not known or any(title not in having for title in titles):
            await self.index.read_all()  # it may have been made just now
            having = self.index.volumes_of(owner) if titles else {}
        found = [(having[title][0], f"volume {title!r}") for title in titles if title in having]
        if template not in self.config.templates:
            found.append((self.index.template(template), f"template {template!r}"))
        if volume:
            where = self.index.volume(volume)
            if not (where or shared):
                self.check_heard(f"volume {volume!r}")
            found.append((where or self.placing.home(volume).name, f"volume {volume!r}"))
        pooled = plain and not volume and not titles and template in self.config.templates
        return Wish(template, bindings(found), pooled, owner)

    def check_name(self, node: Node, name: Any) -> None:
        """Raises Conflict for a template that another host has, and Unreachable if one may that was never heard."""
        if not isinstance(name, str):
            return
        other = self.index.template(name.partition(":")[0])
        if not other:
            self.check_heard(f"template {name!r}")
        elif other != node.name:
            raise Conflict(f"template {name!r} is on node {other} already. Take another name, or remove it first.")

    async def ended(self, node: Node, sandbox_id: str) -> None:
        """It was removed there just now."""
        self.index.left(node.name, sandbox_id)
        if node.name != self.config.node:
            await self.gateway.update(sandbox_id)

    async def _remembering(self, sandbox_id: str) -> Node:
        """Of the hosts that do not have it the one that says most about that."""
        if not (sandbox_id.isascii() and sandbox_id.isalnum()):
            raise NotFound(f"sandbox '{sandbox_id}' not found")
        said = await gathered(self.nodes.living, lambda node: node.ask("GET", f"/sandboxes/{sandbox_id}"))
        best = max(said, key=lambda name: len(said[name].body), default="")
        return self.nodes[best] if best else self.nodes.any

    async def _tend(self) -> None:
        await self.members.read()
        await self.members.tick()

    async def _route(self) -> None:
        """At once when a host has other sandboxes, and else now and then, for what went astray."""
        try:
            async with asyncio.timeout(10 * self._every_s):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()
        await self.gateway.sync()

    async def _booked(self) -> None:
        if self._book is not None:
            await asyncio.to_thread(self._book)

    async def _again(self, work: Callable[[], Awaitable[None]], pause_s: float) -> None:
        while True:
            try:
                await work()
            except (FleetError, Unreachable) as error:
                log.warning("%s", error)
            except Exception:  # of one round: the next one may go well
                log.exception("this is tried again")
            await asyncio.sleep(pause_s)
