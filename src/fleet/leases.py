"""What the fleet's scheduler offers, as values and a protocol: bookings of memory and CPUs, and the hosts it knows.

A lease is a booking, never the sandbox itself: its end ends no sandbox.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Lease:
    """`node` is a member's name, empty until one is assigned; `version` is what a change is compared with; `id` is the
    service's. `ended` says why it reserves nothing any more, and is empty while it does: its program died with its
    engine, or its host was lost for a while. It never does so again by itself.
    """

    id: str
    name: str
    node: str
    version: int
    labels: Mapping[str, str]
    ended: str = ""


@dataclass(frozen=True)
class Member:
    """A host as the scheduler sees it.

    `role` is manager or worker, `state` ready or down, `availability` active, pause or drain. `cpus` may be a fraction.
    """

    id: str
    name: str
    role: str
    state: str
    availability: str
    leader: bool
    memory_mb: int
    cpus: float
    address: str


class Leases(Protocol):
    def place(self, name: str, memory_mb: int, cpus: float, labels: Mapping[str, str], node: str = "") -> Lease:
        """Books, on `node` if one is named, and waits until a node is assigned. Raises NoRoom and NoLeader."""

    def label(self, lease: Lease, labels: Mapping[str, str]) -> Lease:
        """Replaces the labels, if nobody has changed the lease since. Raises Stale and NoLeader."""

    def remove(self, lease_id: str) -> None:
        """What is not there is no error. Raises NoLeader."""

    def all(self) -> list[Lease]:
        """Raises NoLeader."""

    def of(self, sandbox_id: str) -> list[Lease]:
        """Those whose label `sandbox.id` that is: one, mostly. Raises NoLeader."""

    def members(self) -> list[Member]:
        """Raises NoLeader."""

    def make_available(self, node: str, availability: str) -> None:
        """`node` by name; `availability`: active, pause or drain. Raises NoLeader."""
