"""The fleet's scheduler in memory: reservations are counted, labels changed by version, the leader goes on demand."""

import itertools
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from fleet.errors import FleetError, NoLeader, NoRoom, Stale
from fleet.leases import Lease, Member

AVAILABILITIES = ("active", "pause", "drain")


@dataclass
class Booked:
    lease: Lease
    memory_mb: int
    cpus: float


class MemoryLeases:
    """Leases as `fleet.leases.Leases` says. `leader` False: nothing can be asked. `placed` counts what was placed."""

    def __init__(self, nodes: Mapping[str, str], memory_mb: int = 16384, cpus: float = 16.0) -> None:
        """`nodes`: the roles of the hosts by their names; the first one leads."""
        self.leader = True
        self.placed = 0
        self._numbers = itertools.count(1)
        self._members = {
            name: Member(f"id-{name}", name, role, "ready", "active", number == 1, memory_mb, cpus, f"10.0.0.{number}")
            for number, (name, role) in enumerate(nodes.items(), 1)
        }
        self._booked: dict[str, Booked] = {}
        self._lock = threading.RLock()

    def place(self, name: str, memory_mb: int, cpus: float, labels: Mapping[str, str], node: str = "") -> Lease:
        with self._asked():
            if node:
                self._known(node)
            for one in [one.lease for one in self._booked.values() if one.lease.name == name]:
                if not one.ended and node in ("", one.node):
                    return one
                self.remove(one.id)
            found = [one for one in self._members.values() if self._takes(one, memory_mb, cpus, node)]
            if not found:
                what = f"{name} ({memory_mb} MB, {cpus:g} CPUs{f', on {node}' if node else ''})"
                why = f"no suitable node (insufficient resources on {len(self._members)} nodes)"
                raise NoRoom(f"no host of the fleet has room for {what}: {why}.")
            chosen = min(found, key=lambda one: (self._reserved(one.name)[0], one.name))
            number = next(self._numbers)
            lease = Lease(f"s{number}", name, chosen.name, number, dict(labels))
            self._booked[lease.id] = Booked(lease, memory_mb, cpus)
            self.placed += 1
            return lease

    def label(self, lease: Lease, labels: Mapping[str, str]) -> Lease:
        with self._asked():
            booked = self._booked.get(lease.id)
            if booked is None:
                raise Stale(f"{lease.name}: it is not booked any more. Read again.")
            if booked.lease.version != lease.version:
                raise Stale(f"{lease.name} was changed by somebody else. Read again.")
            booked.lease = replace(booked.lease, version=next(self._numbers), labels=dict(labels))
            return booked.lease

    def remove(self, lease_id: str) -> None:
        with self._asked():
            self._booked.pop(lease_id, None)

    def all(self) -> list[Lease]:
        with self._asked():
            return sorted((one.lease for one in self._booked.values()), key=lambda lease: lease.name)

    def of(self, sandbox_id: str) -> list[Lease]:
        with self._asked():
            return [one.lease for one in self._booked.values() if one.lease.labels.get("sandbox.id") == sandbox_id]

    def members(self) -> list[Member]:
        with self._asked():
            return list(self._members.values())

    def make_available(self, node: str, availability: str) -> None:
        with self._asked():
            if availability not in AVAILABILITIES:
                raise FleetError(f"availability {availability!r}: must be one of {', '.join(AVAILABILITIES)}.")
            self._members[node] = replace(self._known(node), availability=availability)
            for one in self._booked.values():
                if availability == "drain" and one.lease.node == node:
                    one.lease = replace(one.lease, ended="shutdown: its host is drained")

    def availability(self, node: str) -> str:
        return self._members[node].availability

    def lose(self, node: str) -> None:
        """The scheduler misses that host."""
        self._members[node] = replace(self._members[node], state="down")

    @contextmanager
    def _asked(self) -> Iterator[None]:
        if not self.leader:
            raise NoLeader("the swarm does not have a leader")
        with self._lock:
            yield

    def _known(self, node: str) -> Member:
        if node not in self._members:
            raise FleetError(f"{node!r} is no host of this fleet. It has: {', '.join(self._members)}.")
        return self._members[node]

    def _takes(self, member: Member, memory_mb: int, cpus: float, node: str) -> bool:
        used_mb, used_cpus = self._reserved(member.name)
        room = used_mb + memory_mb <= member.memory_mb and used_cpus + cpus <= member.cpus
        return room and member.availability == "active" and node in ("", member.name)

    def _reserved(self, node: str) -> tuple[int, float]:
        found = [one for one in self._booked.values() if one.lease.node == node and not one.lease.ended]
        return sum(one.memory_mb for one in found), sum(one.cpus for one in found)
