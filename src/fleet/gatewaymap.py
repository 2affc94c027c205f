"""The map of the entry gateway that says which sandbox is on which other host: sandboxd's own way with such a map.

What is on this host is not in it: the gateway has that in its own routes. A gateway that is down is told by the file.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from anyio import CapacityLimiter, to_thread

from sandboxd.errors import GatewayError
from sandboxd.gateway import Gateway

log = logging.getLogger(__name__)


class NodesMap:
    """`elsewhere` gives the present truth: id -> the name of the host, of all that are not on this one."""

    def __init__(self, admin: Path, file: Path, elsewhere: Callable[[], dict[str, str]]) -> None:
        self._elsewhere = elsewhere
        self._gateway = Gateway(admin, file, self._truth)
        self._one = CapacityLimiter(1)
        self._found: dict[str, str] = {}
        self._there: dict[str, str] = {}  # what HAProxy has for certain

    def has(self, sandbox_id: str, node: str) -> bool:
        """Whether it leads there already; false when that is not known."""
        return self._there.get(sandbox_id) == node

    async def update(self, sandbox_id: str) -> None:
        """One sandbox has come, moved or gone."""

        def work() -> None:
            self._gateway.update(sandbox_id)
            self._there = {**self._there, sandbox_id: self._found.get(sandbox_id, "")}

        await self._do(work)

    async def sync(self) -> None:
        """Mends whatever went astray."""

        def work() -> None:
            self._gateway.sync()
            self._there = self._found

        await self._do(work)

    async def _do(self, work: Callable[[], None]) -> None:
        try:
            await to_thread.run_sync(work, limiter=self._one)
        except GatewayError as error:
            self._there = {}
            log.warning("%s", error)

    def _truth(self) -> dict[str, str]:
        self._found = self._elsewhere()
        return self._found
