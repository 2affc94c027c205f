"""Which host a new sandbox comes to: the one that has what it needs, or a warm one; else the one where it is booked.

A warm member is claimed without the scheduler, which hears of it afterwards; a host that has none any more, since other
managers give them out, too, refuses, and the next is asked. Everything else is booked first: a lease, and the sandbox
on the host that the lease was given.
"""

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from weakref import WeakValueDictionary

from fleet.config import Config, Size
from fleet.errors import FleetError, NoRoom
from fleet.gatewaymap import NodesMap
from fleet.index import Index
from fleet.keys import Limits
from fleet.leases import Lease
from fleet.leasing import Leasing
from fleet.membership import Membership
from fleet.nodes import KEYS, TRUSTED, Answer, Node, Nodes, Unreachable
from fleet.warm import WarmMembers
from fleet.wishes import Request, Wish
from sandboxd.errors import Conflict, HostFull, SandboxdError
from sandboxd.records import ApiKey

log = logging.getLogger(__name__)

REQUESTS = 10_000  # that are remembered
TOLD_S = 1.0  # for so long another manager may take to look at a host
# No further host is tried then: each that is full by its leases takes the scheduler two seconds, and clients wait for a
# minute or so.
TRIED_S = 20.0
POOL_EMPTY = 410  # what a host answers that has no warm member; nothing was made then
# Before the path of a create that a pool is to answer, or nobody: both are paths of the API that trusts managers.
FROM_POOL = {TRUSTED: "/warm", KEYS: "/warm/e2b"}
ORIGIN = b"x-sandbox-origin"


class Leaderless(SandboxdError):
    """The scheduler cannot place anything at this moment."""

    status = 503
    retry_after_s = 5


class Placing:
    def __init__(
        self,
        config: Config,
        nodes: Nodes,
        index: Index,
        members: Membership,
        leasing: Leasing,
        gateway: NodesMap,
        limits: Limits,
    ) -> None:
        self._config, self._nodes, self._index = config, nodes, index
        self._members, self._leasing, self._gateway, self._limits = members, leasing, gateway, limits
        self._warm = WarmMembers(index)
        self._requests: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._repeating: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def create(self, request: Request, wish: Wish, key: ApiKey | None = None) -> Answer:
        """The answer of the host that has made it, for a key or for nobody, or that refuses it for what it asks.

        The same request comes to the same host again, which knows that it is the same. Raises QuotaReached, HostFull
        when no host takes it, Conflict when it is bound to several, Leaderless and Unreachable.
        """
        if not request.repeat:
            return await self._limited(request, wish, key)
        named = (wish.owner, request.repeat)
        async with self._repeating.setdefault(named, asyncio.Lock()):
            if (before := self._requests.get(named)) is None:
                return await self._limited(request, wish, key)
            node = self._nodes[before]
            node.check()
            answer = await node.ask("POST", request.target, api=request.api, headers=request.headers, body=request.body)
            if answer.status == 201:  # the first time it may have come to nothing, and be made only now
                await self._enter(node, answer, wish)
            if answer.status != 503:
                return answer
            self._requests.pop(named, None)  # it came to nothing there, and there is no room now
            return await self._limited(request, wish, key)

    async def _limited(self, request: Request, wish: Wish, key: ApiKey | None) -> Answer:
        if key is None:
            return await self._create(request, wish)
        async with self._limits.place(key):
            return await self._create(request, wish)

    async def _create(self, request: Request, wish: Wish) -> Answer:
        if bound := self._bound_to(wish):
            return await self._booked(request, wish, [bound], {})
        # A request that may come again, and to another manager, goes to one host: that knows it, and waits for it.
        home = self.home(f"{wish.owner} {request.repeat}") if request.repeat else None
        takers, refusals, asked = self._members.takers(), dict[str, Answer](), set[str]()
        hosts = [(node, certain) for certain in (True, False) for node in ([home] if home else takers)]
        for node, certain in hosts if wish.pooled else ():
            if node.name in asked:
                continue
            member = self._warm.take(node.name, wish.template)
            # At last also where all are taken, as it seems: a reading may know of claims whose answers are to come yet.
            if not (member or home or (not certain and self._warm.of(node.name, wish.template))):
                continue
            asked.add(node.name)
            try:
                answer = await self._ask(node, request, wish, warm=member)
            except Unreachable as error:
                if error.reached:
                    raise
                continue
            if answer.status == POOL_EMPTY:
                self._warm.none_left(node.name, wish.template)
            elif answer.status == 503:
                refusals[node.name] = answer
            else:
                return answer
        tried = [home.name] if home else []
        return await self._booked(request, wish, [*tried, "", *(node.name for node in takers)], refusals)

    def home(self, name: str) -> Node:
        """Where what has that name is made first. All managers come to the same host, and most names keep theirs when
        another host comes or goes: rendezvous hashing. Raises HostFull when no host takes anything new.
        """
        takers = self._members.takers()
        if not takers:
            raise HostFull("nodes", "the fleet is full: no host takes new sandboxes. See: docker-sandbox node ls")

        def place(node: Node) -> bytes:  # half of a surrogate pair is for the host to refuse
            return hashlib.sha256(f"{node.name} {name}".encode(errors="surrogatepass")).digest()

        return max(takers, key=place)

    def _bound_to(self, wish: Wish) -> str:
        if len(wish.bound) > 1:
            whats = "; ".join(f"{why} is on node {node}" for node, why in wish.bound.items())
            raise Conflict(f"{whats}: a sandbox is on one host, and so is what it has.")
        for name, why in wish.bound.items():
            self.check_takes(name, why)
        return next(iter(wish.bound), "")

    def check_takes(self, name: str, why: str) -> None:
        """Raises Unreachable and HostFull for a host that takes no new sandboxes; `why` says what is on it."""
        self._nodes[name].check()
        if self._members.availability(name) != "active":
            raise HostFull(
                "nodes",
                f"the fleet is full: {why} is on node {name}, which takes no new sandboxes."
                f" Let it: docker-sandbox node activate {name}",
            )

    async def _booked(self, request: Request, wish: Wish, tried: list[str], refusals: dict[str, Answer]) -> Answer:
        """By a lease, on one of the hosts `tried`, in this order; "" is where the scheduler wants it."""
        size = self._size(wish.template)
        said = {name: _message(answer) for name, answer in refusals.items()}
        until_s = time.monotonic() + TRIED_S
        for number, pin in enumerate(tried):
            if number and time.monotonic() > until_s:
                said[""] = f"no other host was asked within {TRIED_S:g} s"
                break
            if pin and pin in said and pin not in refusals:
                continue  # it has refused after a booking already
            try:
                lease = await self._leasing.place(size, wish, pin)
            except NoRoom as error:
                said[pin] = str(error)
                if pin:
                    continue
                break
            except FleetError as error:
                raise Leaderless(f"{error} Claims from pools go on meanwhile.") from error
            node = self._nodes.get(lease.node)
            if node is None:
                self._leasing.needless(lease)
                raise Leaderless(
                    f"{lease.node!r}, which a lease was given, is no host that this manager knows. Deploy."
                )
            try:
                answer = await self._ask(node, request, wish, lease)
            except Unreachable as error:
                if error.reached:
                    raise
                said[node.name] = str(error)
                continue
            if answer.status != 503:
                return answer
            said[node.name] = _message(answer)
            refusals.pop(node.name, None)
        told = "; ".join(f"{name}: {text}" if name else text for name, text in said.items())
        raise HostFull("nodes", f"the fleet is full: {told or 'no host takes new sandboxes'}")

    async def _ask(
        self, node: Node, request: Request, wish: Wish, lease: Lease | None = None, warm: str | None = None
    ) -> Answer:
        """Lets that host make it, and enters what it has made. `warm`: it is to give a member of its pool, be it
        another one than was taken for that; empty for none.
        """
        if request.repeat:
            self._requests[wish.owner, request.repeat] = node.name
            while len(self._requests) > REQUESTS:
                self._requests.popitem(last=False)
        api, target = request.api, request.target
        if warm is not None:
            api, target = TRUSTED, FROM_POOL[request.api] + request.target
        try:
            answer = await node.ask("POST", target, api=api, headers=request.headers, body=request.body)
        except Unreachable as error:
            if not error.reached:
                self._requests.pop((wish.owner, request.repeat), None)
            if lease is not None:  # what was made all the same, the reconcile books
                self._leasing.needless(lease)
            raise
        finally:
            if warm is not None:  # now: while this one is entered, the others would find one member too few
                self._warm.let_go(node.name, wish.template, warm)
        if answer.status != 201:
            self._requests.pop((wish.owner, request.repeat), None)
            if lease is not None:
                self._leasing.needless(lease)
            return answer
        sandbox_id = await self._enter(node, answer, wish)
        if answer.header(ORIGIN) == "pool":
            self._leasing.claimed(sandbox_id, wish)
            if lease is not None:
                self._leasing.needless(lease)
        elif lease is not None:
            self._leasing.made(lease, sandbox_id, wish)
        return answer

    async def _enter(self, node: Node, answer: Answer, wish: Wish) -> str:
        """What it has made is known, and reached by its name; returns its id."""
        sandbox_id = str(answer.json()["sandboxID"])
        new = sandbox_id not in self._index.contents[node.name].warm  # members of pools all managers know
        size = self._size(wish.template)
        self._index.entered(node.name, sandbox_id, wish.template, wish.owner, size.memory_mb, size.cpus)
        if node.name != self._nodes.own and not self._gateway.has(sandbox_id, node.name):  # as a member of a pool may
            await self._gateway.update(sandbox_id)
        if new:
            await self.tell(node)
        return sandbox_id

    async def tell(self, node: Node) -> None:
        """The other managers look at that host now: whoever has just got a sandbox there may come in by any of them."""

        async def told(manager: Node) -> None:
            try:
                async with asyncio.timeout(TOLD_S):
                    await manager.ask("GET", f"/fleet/look/{node.name}")
            except (Unreachable, TimeoutError) as error:  # it looks by itself a little later
                log.info("manager %s is not told of node %s: %r", manager.name, node.name, error)

        managers = [one for one in self._nodes.living if one.role == "manager"]
        await asyncio.gather(*(told(one) for one in managers if one.name not in (self._nodes.own, node.name)))

    def _size(self, template: str) -> Size:
        if (made := self._index.size(template)) is not None:
            return Size(*made)
        return self._config.templates.get(template) or self._config.templates[self._config.default_template]


def _message(answer: Answer) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status}"
