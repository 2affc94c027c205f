"""A watch on the event loop, without a service around it."""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from envd import watches
from envd.errors import EnvdError
from envd.trees import Tree
from envd.users import User
from envd.watches import Watch
from tests.unit.envd.client import DEADLINE_S

Story = Callable[[Watch], Awaitable[None]]


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def scenario(path: Path, user: User, story: Story) -> None:
    """Run the story with a watch of `path` that is not open yet; afterwards nothing may be left of it."""

    async def run() -> None:
        before, peers = open_fds(), set[Watch]()
        watch = Watch(str(path), True, user, peers)
        async with asyncio.timeout(DEADLINE_S):
            try:
                await story(watch)
            finally:
                watch.close()
            while peers or open_fds() > before:
                await asyncio.sleep(0.001)

    asyncio.run(run())


def test_silence_and_events(tmp_path: Path, myself: User) -> None:
    async def story(watch: Watch) -> None:
        await watch.open()
        assert await watch.events(0.01) == []
        (tmp_path / "a").touch()
        assert await watch.events(DEADLINE_S) == [("a", "EVENT_TYPE_CREATE")]
        waiting = asyncio.ensure_future(watch.events())
        await asyncio.sleep(0)
        (tmp_path / "a").unlink()
        assert await waiting == [("a", "EVENT_TYPE_REMOVE")]

    scenario(tmp_path, myself, story)


def test_a_client_that_leaves_while_a_thread_works(
    tmp_path: Path, myself: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread keeps its files until it has ended, or it would work with those of somebody else."""
    go, began, inner = threading.Event(), threading.Event(), Tree.open

    def slow(tree: Tree) -> None:
        inner(tree)
        began.set()
        go.wait(DEADLINE_S)
        assert tree.pipe is not None and os.fstat(tree.pipe.fileno())

    monkeypatch.setattr(Tree, "open", slow)

    async def story(watch: Watch) -> None:
        opening = asyncio.ensure_future(watch.open())
        while not began.is_set():
            await asyncio.sleep(0.001)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        watch.close()
        go.set()

    scenario(tmp_path, myself, story)


def test_a_failure_comes_after_what_was_seen(tmp_path: Path, myself: User, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(watch: Watch) -> None:
        await watch.open()
        monkeypatch.setattr(watches, "MAX_DIRECTORIES", 1)
        (tmp_path / "a").mkdir()
        assert await watch.events() == [("a", "EVENT_TYPE_CREATE")]
        with pytest.raises(EnvdError, match="cannot watch"):
            await watch.events()

    scenario(tmp_path, myself, story)


def test_directories_are_counted_over_all_watches(
    tmp_path: Path, myself: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.setattr(watches, "MAX_DIRECTORIES", 3)

    async def run() -> None:
        peers: set[Watch] = set()
        one, two = Watch(str(tmp_path), True, myself, peers), Watch(str(tmp_path), True, myself, peers)
        try:
            await one.open()
            with pytest.raises(EnvdError, match="cannot watch"):
                await two.open()
            one.close()
            await two.open()
        finally:
            one.close()
            two.close()

    asyncio.run(run())
