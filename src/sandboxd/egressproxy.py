"""The egress proxy: a HAProxy of its own, which lets sandboxes through to the names in their allow lists, and to no
others. Here its map, address of the sandbox -> names, is kept in step with the ledger, as the gateway's is with routes.

Only sandboxes with names reach it at all (see `wall`). This module touches its map file and its admin socket.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from sandboxd.errors import GatewayError
from sandboxd.gateway import Gateway
from sandboxd.records import USED, Sandbox

# A stopped sandbox has no address that nobody else could get: somebody may have pruned its network.
HOLDERS = ("creating", *(state for state in USED if state != "stopped"))
NOT_RUNNING = (FileNotFoundError, ConnectionRefusedError)


def text(sandbox_id: str, names: Iterable[str]) -> str:
    """The value in the map: `<id>|<name>|.<name below which all are meant>`."""
    return "|".join([sandbox_id, *(name.removeprefix("*") for name in names)])


def table(rows: Iterable[Sandbox]) -> dict[str, str]:
    """address -> value in the map, of those that have names."""
    return {row.address: text(row.id, row.policy.names) for row in rows if row.address and row.policy.names}


class EgressProxy(Gateway):
    """`lists` reads the truth, `table` of the rows in HOLDERS, from the ledger.

    Who loses a name loses the connections that are open, all of them: which of them were for that name, HAProxy does
    not tell.
    """

    called = "the egress proxy"

    def __init__(self, admin_socket: Path, names_map: Path, lists: Callable[[], dict[str, str]], unit: str) -> None:
        super().__init__(admin_socket, names_map, lists, unit)
        self._told = set(self._file())  # addresses of which it may know something
        self._uncut = set[str]()  # addresses that have lost a name, and may still have connections to it

    def update(self, sandbox_id: str) -> None:
        """As the gateway's, by address; but one that does not run will read the file, and needs not be told."""
        try:
            super().update(sandbox_id)
        except GatewayError as error:
            if not isinstance(error.__cause__, NOT_RUNNING):
                raise

    def forget(self, address: str) -> None:
        """Before somebody else may get the address: it has no names any more, and no connections.

        Raises GatewayError when the proxy runs and does not do it.
        """
        if address in self._told:
            self.update(address)

    def follow(self) -> None:
        """As `sync`, and raises as that does; but a proxy that nobody needs is not asked."""
        if self._told or self._routes():
            self.sync()
        with self._lock:
            for address in sorted(self._uncut):
                self._cut(address)

    def _put(self, key: str, value: str) -> None:
        self._told.add(key)
        if not _names(self._value(key)) <= _names(value):
            self._uncut.add(key)
        super()._put(key, value)
        if key in self._uncut:
            self._cut(key)

    def _drop(self, key: str, entry: str) -> None:
        self._uncut.add(key)
        super()._drop(key, entry)
        self._cut(key)
        self._told.discard(key)

    def _value(self, key: str) -> str:
        found = re.search(r'value="([^"]*)"', self._ask(f"get map {self._map} {key}"))
        return found[1] if found else ""

    def _cut(self, address: str) -> None:
        """Whoever opens one after the map has changed is judged by the change, so all others are in this list."""
        sessions = re.findall(rf"^(0x[0-9a-f]+): proto=\S+ src={re.escape(address)}:\d+ ", self._ask("show sess"), re.M)
        for session in sessions:
            self._ask(f"shutdown session {session}")
        self._uncut.discard(address)


def _names(value: str) -> set[str]:
    return set(value.split("|")[1:])
