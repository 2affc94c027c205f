"""The reconcile: what the leases say is brought in step with what the hosts have.

The truth is the sandbox on its host. A sandbox without a lease gets one, on its host; a lease without a sandbox is
removed after a while. No sandbox is ever touched, and nothing is done about a host that does not answer.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from fleet.errors import NoRoom, Stale
from fleet.leases import Lease, Leases

log = logging.getLogger(__name__)

AT_A_TIME = 8  # of what is due: each waits for the scheduler, mostly
# Longer is no pass: what was read for it is old then, and the end of the service waits for what has begun.
PASS_S = 10.0
GRACE_S = 60.0  # a lease that has had no sandbox yet waits for its host to make one
# A lease learns the id of the sandbox that it is for when that is there, and what is known of a host is seconds old:
# for so long a sandbox may seem to have no lease, and a lease to have lost its sandbox.
SETTLE_S = 10.0
WARM = "warm"


@dataclass(frozen=True)
class Held:
    """A sandbox or a warm member that a host has. `ends` is an RFC 3339 time, empty for never; `memory_mb` and `cpus`
    are what is to be reserved for it."""

    id: str
    template: str
    state: str
    owner: str
    ends: str
    memory_mb: int
    cpus: float

    @property
    def lease_name(self) -> str:
        """Of a lease that is made for it when it is there already."""
        return f"sb-{self.id}"

    @property
    def labels(self) -> dict[str, str]:
        return {
            "sandbox.id": self.id,
            "sandbox.template": self.template,
            "sandbox.state": self.state,
            "sandbox.owner": self.owner,
            "sandbox.ends": self.ends,
        }


class Nodes(Protocol):
    def held(self) -> Mapping[str, Iterable[Held] | None]:
        """What each host of the fleet has, by its name; None for one that does not answer now."""


class Booking:
    """`now` gives seconds of a clock that only goes on. One thread calls `tick`; several managers may do so at once:
    whoever comes second finds what the first one made, or is told that it is stale.
    """

    def __init__(self, leases: Leases, nodes: Nodes, now: Callable[[], float] = time.monotonic) -> None:
        self._leases, self._nodes, self._now = leases, nodes, now
        self._empty: dict[str, float] = {}  # leases without a sandbox, by id: since when
        self._unbooked: dict[str, float] = {}  # sandboxes without a lease, by id: since when
        self._tried: dict[str, float] = {}  # sandboxes for which a lease was made or refused, by id: when
        self._threads = ThreadPoolExecutor(AT_A_TIME, "book")

    def tick(self) -> None:
        """One pass. Raises NoLeader, and FleetError when the engine refuses; the next pass does what is left."""
        leases = self._leases.all()
        taking = {one.name for one in self._leases.members() if (one.state, one.availability) == ("ready", "active")}
        held = {node: None if found is None else list(found) for node, found in self._nodes.held().items()}
        booked = chosen(leases, held)

        present = {one.id for found in held.values() for one in found or ()}
        for noted in (self._unbooked, self._tried):
            forget(noted, present)
        due: list[Callable[[], None]] = []
        full: set[str] = set()
        for node, found in held.items():
            for one in found or ():
                lease = booked.get(one.id)
                if lease is not None and lease.node == node and not lease.ended:
                    self._unbooked.pop(one.id, None)
                    if not one.labels.items() <= lease.labels.items():
                        due.append(partial(self._label, lease, one))
                elif node in taking and self._is_due(one, lease):
                    due.append(partial(self._book, one, node, lease, full))
        unknown = {node for node, found in held.items() if found is None}
        kept = {lease.id for lease in booked.values()}
        empty = self._empty_for_long([one for one in leases if one.id not in kept and one.node not in unknown])
        due += [partial(self._leases.remove, one.id) for one in empty]
        self._do(due)

    def _do(self, due: Iterable[Callable[[], None]]) -> None:
        """Begins them in this order, several at a time. The first that fails, in this order, ends what has not begun,
        and is raised when the others are over. So does the end of the time, and nothing is raised.
        """
        begun, until_s = [self._threads.submit(work) for work in due], time.monotonic() + PASS_S
        try:
            for one in begun:
                one.result(max(0.0, until_s - time.monotonic()))
        except TimeoutError:
            log.info("%d of %d leases are left to the next pass", sum(not one.done() for one in begun), len(begun))
        finally:
            for one in begun:
                one.cancel()
            wait(begun)

    def _label(self, lease: Lease, held: Held) -> None:
        try:
            self._leases.label(lease, {**lease.labels, **held.labels})
        except Stale as error:
            log.info("%s", error)  # the next pass looks again

    def _is_due(self, held: Held, lease: Lease | None) -> bool:
        """Whether a sandbox whose lease is not there, is elsewhere or has ended gets another one now: once in GRACE_S,
        since what has no room or ends at once will do so again.
        """
        now = self._now()
        if now - self._tried.get(held.id, float("-inf")) < GRACE_S:
            return False
        since = self._unbooked.setdefault(held.id, now)
        # A member of a pool was not asked for: nobody else makes a lease for it. One without a node is about to get it.
        at_once = held.state == WARM if lease is None else bool(lease.node)
        return at_once or now - since >= SETTLE_S

    def _book(self, held: Held, node: str, lease: Lease | None, full: set[str]) -> None:
        """A host without room becomes one of `full`. Each refusal takes time: its others wait for the next pass."""
        if node in full:
            return
        if lease is not None:
            log.info("sandbox %s on %s: its lease %s is made anew: %s", held.id, node, lease.name, why(lease, node))
            self._leases.remove(lease.id)
        try:
            made = self._leases.place(held.lease_name, held.memory_mb, held.cpus, held.labels, node=node)
        except NoRoom as error:  # it is there all the same
            self._tried[held.id] = self._now()
            log.warning("sandbox %s on %s has no lease: %s", held.id, node, error)
            full.add(node)
            return
        self._tried[held.id] = self._now()
        self._unbooked.pop(held.id, None)
        log.info("sandbox %s on %s has the lease %s", held.id, node, made.name)

    def _empty_for_long(self, empty: list[Lease]) -> list[Lease]:
        """Those that are to be removed, whether they have ended or not."""
        forget(self._empty, {one.id for one in empty})
        now, found = self._now(), []
        for one in empty:
            empty_s = now - self._empty.setdefault(one.id, now)
            if empty_s >= (SETTLE_S if one.labels.get("sandbox.id") else GRACE_S):
                log.info("lease %s on %s has had no sandbox for %.0f s and is removed", one.name, one.node, empty_s)
                found.append(one)
        return found


def chosen(leases: Iterable[Lease], held: Mapping[str, Iterable[Held] | None]) -> dict[str, Lease]:
    """The lease of each sandbox that has one, by the sandbox's id: it names the sandbox, or is named after it.

    Of several the best one: on the sandbox's host, and not ended. Every manager finds the same one.
    """
    by_sandbox = defaultdict(list)
    for lease in leases:
        by_sandbox[lease.labels.get("sandbox.id") or lease.name.removeprefix("sb-")].append(lease)
    return {
        one.id: min(by_sandbox[one.id], key=lambda lease: (lease.node != node, bool(lease.ended), lease.name, lease.id))
        for node, found in held.items()
        for one in found or ()
        if one.id in by_sandbox
    }


def why(lease: Lease, node: str) -> str:
    if lease.ended:
        return lease.ended
    return f"it is on {lease.node}" if lease.node else f"Swarm has not placed it within {SETTLE_S:.0f} s"


def forget(noted: dict[str, float], present: Collection[str]) -> None:
    for gone in noted.keys() - present:
        del noted[gone]
