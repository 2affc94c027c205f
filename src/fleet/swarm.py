"""Leases as services of Docker Swarm; see `leases` for what they promise.

Every call asks the fleet engine: of leases nothing is kept, since the engines of other managers change the same ones.
Which hosts there are is remembered, and looked up anew when one is not known.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fleet import leasespec
from fleet.engine import Engine, NameTaken
from fleet.errors import FleetError, NoLeader, NoRoom, Stale
from fleet.leases import Lease, Member

# A node is assigned within some hundredths of a second, if one has room. But what was removed goes on reserving until
# its program has ended, which takes about a second: so Swarm's refusal counts at the end of this time, and not before.
PLACE_S = 2.0
POLL_S = 0.02  # there are no events about tasks; one question takes a thousandth of a second
ATTEMPTS = 5
AVAILABILITIES = ("active", "pause", "drain")


class Swarm:
    """Of the fleet that this host is a manager of. `image` is that of a lease, on each of its hosts.

    Beside the errors that `leases` names every method raises FleetError when the engine refuses.
    """

    def __init__(self, socket: Path, image: str, project: str) -> None:
        self._engine, self._image, self._project = Engine(socket), image, project
        self._members: list[Member] = []  # as they were when somebody asked last

    def place(self, name: str, memory_mb: int, cpus: float, labels: Mapping[str, str], node: str = "") -> Lease:
        """Takes about PLACE_S at most; what was not assigned by then is not there any more. A lease of that name that
        is there already, from a time that was interrupted, is the answer as it is.
        """
        pinned = self._node_id(node) if node else ""
        asked = leasespec.service(self._image, name, memory_mb, cpus, self._own(labels), pinned)
        what = f"{name} ({memory_mb} MB, {cpus:g} CPUs{', on ' + node if node else ''})"
        for _ in range(ATTEMPTS):
            made = self._create(asked)
            lease = self._assigned(made or self._named(name), what)
            if lease and (made or (not lease.ended and node in ("", lease.node))):
                return lease
            if lease:
                self.remove(lease.id)
        raise NoLeader(f"{name} is made and removed by others at the same time. Try again in some seconds.")

    def label(self, lease: Lease, labels: Mapping[str, str]) -> Lease:
        what = f"label {lease.name}"

        def gone() -> Any:
            raise Stale(f"{what}: it is not booked any more. Read again.")

        found = self._engine.call(what, lambda api: api.inspect_service(lease.id), gone)
        spec = found["Spec"]
        self._engine.call(
            what,
            lambda api: api.update_service(
                lease.id,
                lease.version,  # and not the one that was found: Swarm compares
                name=spec["Name"],
                labels=self._own(labels),
                task_template=spec["TaskTemplate"],  # with any difference Swarm would replace the task
                mode=spec["Mode"],
                endpoint_spec=spec["EndpointSpec"],
            ),
            gone,
        )
        found = self._engine.call(what, lambda api: api.inspect_service(lease.id), gone)
        return self._lease(found, self._tasks(lease.id) or [])

    def remove(self, lease_id: str) -> None:
        self._engine.call(f"remove {lease_id}", lambda api: api.remove_service(lease_id), lambda: True)

    def all(self) -> list[Lease]:
        """Those of this project, in the order of their names."""
        found = self._services()
        tasks: list[dict[str, Any]] = self._engine.call("list tasks", lambda api: api.tasks())
        by_service = defaultdict(list)
        for task in tasks:
            by_service[task["ServiceID"]].append(task)
        names = self._names(tasks)
        return sorted((leasespec.lease(one, by_service[one["ID"]], names) for one in found), key=lambda one: one.name)

    def of(self, sandbox_id: str) -> list[Lease]:
        found = self._services(f"{leasespec.SANDBOX}={sandbox_id}")
        return [self._lease(one, self._tasks(one["ID"]) or []) for one in found]

    def members(self) -> list[Member]:
        """In the order of their names. A host that has joined anew is there twice, once as what is down."""
        found = self._engine.call("list nodes", lambda api: api.nodes())
        self._members = sorted((leasespec.member(one) for one in found), key=lambda one: (one.name, one.id))
        return self._members

    def make_available(self, node: str, availability: str) -> None:
        """Raises FleetError for a node that is not there, and for another word."""
        if availability not in AVAILABILITIES:
            raise FleetError(f"availability {availability!r}: must be one of {', '.join(AVAILABILITIES)}.")
        self.members()  # a host that has joined anew is another one
        node_id = self._node_id(node)
        for left in reversed(range(ATTEMPTS)):
            try:
                return self._set_availability(node_id, availability)
            except Stale:  # Swarm itself changes a node whenever its state changes
                if not left:
                    raise

    def _own(self, labels: Mapping[str, str]) -> dict[str, str]:
        return {**labels, leasespec.PROJECT: self._project}

    def _create(self, asked: dict[str, Any]) -> str:
        """The id of the service; empty when there is one of that name."""
        try:
            return str(self._engine.call(f"place {asked['name']}", lambda api: api.create_service(**asked))["ID"])
        except NameTaken:
            return ""

    def _named(self, name: str) -> str:
        """The id of the service of that name; empty when there is none any more."""
        found: Any = self._engine.call(f"find {name}", lambda api: api.inspect_service(name), lambda: {"ID": ""})
        return str(found["ID"])

    def _assigned(self, service: str, what: str) -> Lease | None:
        """Waits until a node is assigned; None when the service is gone. Raises NoRoom or NoLeader after PLACE_S, and
        then nothing is left of it.
        """
        deadline = time.monotonic() + PLACE_S
        try:
            while service:
                last = time.monotonic() > deadline  # asked before the look: what was seen earlier is no refusal
                if (tasks := self._tasks(service)) is None:
                    break
                task = leasespec.task_of(tasks)
                if task and task.get("NodeID"):
                    found = self._inspect(service)  # only now: what was done to it until here is a version of it
                    return found and self._lease(found, tasks)
                if last:
                    if task and (said := leasespec.no_room(task)):
                        raise NoRoom(f"no host of the fleet has room for {what}: {said}.")
                    raise NoLeader(f"Swarm has not placed {what} within {PLACE_S:g} s. Try again in some seconds.")
                time.sleep(POLL_S)
        except FleetError:
            with suppress(FleetError):  # else the reconcile finds it
                self.remove(service)
            raise
        return None

    def _inspect(self, service: str) -> Any:
        return self._engine.call(f"inspect {service}", lambda api: api.inspect_service(service), lambda: None)

    def _tasks(self, service: str) -> list[dict[str, Any]] | None:
        """None when the service is gone."""
        chosen = {"service": service}
        found: list[dict[str, Any]] | None = self._engine.call(
            f"tasks of {service}", lambda api: api.tasks(filters=chosen), lambda: None
        )
        return found

    def _services(self, *labels: str) -> list[dict[str, Any]]:
        """Those of this project that have these labels, too."""
        chosen = {"label": [f"{leasespec.PROJECT}={self._project}", *labels]}
        found: list[dict[str, Any]] = self._engine.call("list leases", lambda api: api.services(filters=chosen))
        return found

    def _lease(self, found: dict[str, Any], tasks: list[dict[str, Any]]) -> Lease:
        return leasespec.lease(found, tasks, self._names(tasks))

    def _names(self, tasks: Iterable[Mapping[str, Any]]) -> dict[str, str]:
        """Of the nodes, by their ids: all on which one of the tasks is, if Swarm knows them."""
        names = {one.id: one.name for one in self._members}
        if not {task["NodeID"] for task in tasks if task.get("NodeID")} <= names.keys():
            names = {one.id: one.name for one in self.members()}
        return names

    def _node_id(self, node: str) -> str:
        ids = leasespec.node_ids(self._members)
        if node not in ids:
            ids = leasespec.node_ids(self.members())
        if node not in ids:
            raise FleetError(f"{node!r} is no host of this fleet. It has: {', '.join(sorted(ids))}.")
        return ids[node]

    def _set_availability(self, node_id: str, availability: str) -> None:
        what = f"make {node_id} {availability}"
        found = self._engine.call(what, lambda api: api.inspect_node(node_id))
        if found["Spec"]["Availability"] != availability:
            spec = {**found["Spec"], "Availability": availability}
            self._engine.call(what, lambda api: api.update_node(node_id, found["Version"]["Index"], spec))
