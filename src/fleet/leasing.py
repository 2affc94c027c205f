"""Leases as requests use them: booked in threads of their own, and labelled or removed behind the answers.

What goes wrong behind an answer is left to the reconcile, which finds it.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

from fleet.config import Share, Size
from fleet.errors import FleetError
from fleet.leases import Lease, Leases
from fleet.wishes import Wish, labels

log = logging.getLogger(__name__)
T = TypeVar("T")

AT_A_TIME = 32


class Leasing:
    def __init__(self, leases: Leases, share: Share, project: str) -> None:
        self._leases, self._share, self._project = leases, share, project
        self._threads = CapacityLimiter(AT_A_TIME)
        self._background: set[asyncio.Task[None]] = set()

    async def place(self, size: Size, wish: Wish, node: str) -> Lease:
        """For a sandbox of that size, on `node` if one is named. Raises FleetError."""
        name = f"sb-{secrets.token_hex(6)}"
        reserved, booked = self._share.of(size.memory_mb, size.cpus), labels(self._project, wish)
        return await self._run(lambda: self._leases.place(name, *reserved, booked, node))

    def made(self, lease: Lease, sandbox_id: str, wish: Wish) -> None:
        """It is that sandbox's."""
        self._later(self._label(lease, sandbox_id, wish))

    def claimed(self, sandbox_id: str, wish: Wish) -> None:
        """A member of a pool is somebody's now. It has a lease already, or the reconcile makes it one."""
        self._later(self._label_claimed(sandbox_id, wish))

    def needless(self, lease: Lease) -> None:
        """No sandbox was made for it."""
        self._later(self._run(lambda: self._leases.remove(lease.id)))

    async def settle(self) -> None:
        """Waits for what goes on in the background."""
        await asyncio.gather(*self._background)

    async def _label(self, lease: Lease, sandbox_id: str, wish: Wish) -> None:
        told = labels(self._project, wish, sandbox_id)
        await self._run(lambda: self._leases.label(lease, told))

    async def _label_claimed(self, sandbox_id: str, wish: Wish) -> None:
        for lease in await self._run(lambda: self._leases.of(sandbox_id)):
            await self._label(lease, sandbox_id, wish)

    async def _run(self, work: Callable[[], T]) -> T:
        return await to_thread.run_sync(work, limiter=self._threads)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(_told(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)


async def _told(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except FleetError as error:
        log.info("%s", error)
    except Exception:  # nobody else would say it
        log.exception("a lease is left to the reconcile")
