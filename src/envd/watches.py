"""Watches of directories on the event loop: they begin, wait, and end with whoever wanted them. Works in threads."""

import asyncio
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from envd.errors import EnvdError
from envd.identity import run_as
from envd.inotify import READ_BYTES
from envd.pipes import read_piece
from envd.trees import Event, Tree, exhausted
from envd.users import User

P = ParamSpec("P")
T = TypeVar("T")

MAX_WATCHES = 128  # of a sandbox: each of them is an inotify instance, of which the host has a number for each user
MAX_DIRECTORIES = 65_536  # of a sandbox, in all its watches


class Watch:
    """What happens in a directory, or in the tree below it, from `open` on, as far as the user may read it.

    Whoever makes one must close it. `peers` are the watches of the sandbox, which share its limits.
    """

    def __init__(self, path: str, recursive: bool, user: User, peers: set["Watch"]) -> None:
        """Raises `resource_exhausted` when the sandbox has too many."""
        if len(peers) >= MAX_WATCHES:
            raise exhausted(path, f"there are {MAX_WATCHES} watches in this sandbox already; end one of them")
        self._user = user
        self._peers = peers
        self._tree = Tree(path, recursive, lambda: MAX_DIRECTORIES - sum(peer._tree.size for peer in tuple(peers)))
        self._work: asyncio.Future[Any] | None = None
        peers.add(self)

    async def open(self) -> None:
        """Begin. Raises OSError for the path, and EnvdError when it is no directory or a limit is reached."""
        await self._in_thread(self._tree.open)

    async def events(self, timeout_s: float | None = None) -> list[Event]:
        """The next events; none when nothing happens for `timeout_s` seconds (None: wait for ever).

        Raises EnvdError when events were lost, or a new directory could not be watched: the watch is then of no more
        use. What was seen before is told first.
        """
        until_s = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        while (pipe := self._tree.pipe) is not None:
            if self._tree.failure is not None:
                raise self._tree.failure
            try:
                async with asyncio.timeout_at(until_s):
                    data = await read_piece(pipe, READ_BYTES)
            except TimeoutError:
                return []
            if events := await self._in_thread(self._tree.translate, data):
                return events
        raise EnvdError("internal", "the watch is closed")

    def close(self) -> None:
        """Let go of everything, as soon as no thread works with it any more. A second time changes nothing."""
        self._tree.stop()
        if self._work is None or self._work.done():
            self._release()
        else:
            self._work.add_done_callback(self._release)

    def _release(self, work: asyncio.Future[Any] | None = None) -> None:
        if work is not None and not work.cancelled():
            work.exception()  # nobody else asks for it
        self._peers.discard(self)
        self._tree.close()

    async def _in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Whoever waits may be cancelled, but not the work: its results must not be lost, nor its files be closed."""
        future = asyncio.ensure_future(run_as(self._user, work, *args, **kwargs))
        self._work = future
        return await asyncio.shield(future)
