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
        self._gateway = Gateway(admin, file, elsewhere)
        self._one = CapacityLimiter(1)

    async def update(self, sandbox_id: str) -> None:
        """One sandbox has come, moved or gone."""
        await self._do(lambda: self._gateway.update(sandbox_id))

    async def sync(self) -> None:
        """Mends whatever went astray."""
        await self._do(self._gateway.sync)

    async def _do(self, work: Callable[[], None]) -> None:
        try:
            await to_thread.run_sync(work, limiter=self._one)
        except GatewayError as error:
            log.warning("%s", error)
