"""The process table, without a server around it."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from envd import processes
from envd.config import AgentConfig
from envd.errors import EnvdError
from envd.processes import Process, ProcessTable
from envd.spawn import Command, spawn
from envd.users import User
from tests.unit.envd.client import DEADLINE_S

CONFIG = AgentConfig(access_token="t", workdir="/")


@asynccontextmanager
async def watched_table() -> AsyncIterator[ProcessTable]:
    table = ProcessTable()
    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, table.notice_exits)
    yield table
    asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)


def scenario(story: Callable[[ProcessTable], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(DEADLINE_S), watched_table() as table:
            await story(table)

    asyncio.run(run())


def start(table: ProcessTable, user: User, script: str, tag: str | None = None) -> Process:
    command = Command("/bin/sh", ("-c", script), stdin=False)
    return table.add(command, tag, spawn(command, user, CONFIG))


async def events(process: Process) -> list[str]:
    subscription = process.subscribe()
    try:
        return [next(iter(event)) async for event in subscription.events(60)]
    finally:
        process.unsubscribe(subscription)


def test_the_leader_keeps_its_pid_until_the_end(myself: User) -> None:
    """It has exited, but something of its group holds the output open: the signal must reach that and nobody else."""

    async def story(table: ProcessTable) -> None:
        process = start(table, myself, "sleep 60 &")
        following = asyncio.ensure_future(events(process))
        while not process.exited:
            await asyncio.sleep(0.001)
        assert Path(f"/proc/{process.pid}/stat").read_text().split()[2] == "Z"
        assert table.living() == [process]
        process.signal(signal.SIGKILL)
        assert await following == ["end"]
        assert process.ended == {"end": {"exitCode": 0, "exited": True, "status": "exit status 0"}}
        assert not Path(f"/proc/{process.pid}").exists()
        process.signal(signal.SIGKILL)  # nobody is there any more, and nobody is hit

    scenario(story)


def test_output_without_subscribers_is_dropped(myself: User) -> None:
    async def story(table: ProcessTable) -> None:
        process = start(table, myself, "head -c 3000000 /dev/zero")
        while process.ended is None:
            await asyncio.sleep(0.001)
        assert await events(process) == ["end"]

    scenario(story)


def test_each_subscriber_gets_everything_and_one_that_leaves_holds_nobody_up(myself: User) -> None:
    async def story(table: ProcessTable) -> None:
        process = start(table, myself, "head -c 2000000 /dev/zero")
        leaver = process.subscribe()
        both = asyncio.gather(events(process), events(process))
        async for _ in leaver.events(60):
            break
        process.unsubscribe(leaver)
        one, two = await both
        assert one == two and one.count("end") == 1 and len(one) > 60

    scenario(story)


def test_of_an_abandoned_process_no_end_is_told(myself: User) -> None:
    async def story(table: ProcessTable) -> None:
        process = start(table, myself, "sleep 60")
        following = asyncio.ensure_future(events(process))
        await asyncio.sleep(0)
        table.abandon()
        process.signal(signal.SIGKILL)
        while not process.exited:
            await asyncio.sleep(0.001)
        for _ in range(20):  # turns in which it would be told
            await asyncio.sleep(0)
        assert process.ended is None and not following.done()
        following.cancel()

    scenario(story)


def test_names_and_their_end(myself: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "END_KEPT_S", 0.05)

    async def story(table: ProcessTable) -> None:
        older = start(table, myself, "sleep 60", tag="t")
        younger = start(table, myself, "exit 3", tag="t")
        assert table.by_tag("t") is younger
        assert await events(younger) == ["end"]
        assert table.by_tag("t") is older and table.by_tag("t", ended=True) is younger
        assert table.by_pid(younger.pid, ended=True) is younger
        with pytest.raises(EnvdError, match="not found"):
            table.by_pid(younger.pid)
        older.signal(signal.SIGTERM)
        await events(older)
        assert older.ended is not None and older.ended["end"]["status"] == "signal: terminated"
        with pytest.raises(EnvdError, match="tag t not found"):
            table.by_tag("t")
        while True:  # after a while an end is forgotten
            try:
                table.by_pid(younger.pid, ended=True)
            except EnvdError:
                break
            await asyncio.sleep(0.005)

    scenario(story)
