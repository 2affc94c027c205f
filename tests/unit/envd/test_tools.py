import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator

from envd.tools import Tool
from envd.users import User


async def pieces(*contents: bytes) -> AsyncIterator[bytes]:
    for content in contents:
        yield content


async def output(tool: Tool) -> AsyncIterator[bytes]:
    while piece := await tool.read():
        yield piece


def test_input_output_complaints_and_status(myself: User) -> None:
    async def scenario() -> None:
        tool = Tool(["sh", "-c", "cat; echo one >&2; echo two >&2; exit 3"], myself, reads=True, writes=True)
        try:
            assert await tool.feed(pieces(b"hello ", b"world"), tail_bytes=7) == b"o world"
            assert b"".join([piece async for piece in output(tool)]) == b"hello world"
            assert await tool.finish() == 3
            assert tool.diagnostics == "one; two"
        finally:
            tool.close()

    asyncio.run(scenario())


def test_one_that_gives_up_is_not_fed_for_ever(myself: User) -> None:
    async def scenario() -> None:
        tool = Tool(["false"], myself, reads=True)
        try:
            await tool.feed(pieces(*[bytes(100_000)] * 10), tail_bytes=1)
            assert await tool.finish() == 1
        finally:
            tool.close()

    asyncio.run(scenario())


def test_closing_ends_it_even_when_it_is_stopped(myself: User) -> None:
    async def scenario() -> None:
        gc.collect()  # what an earlier test left open shall not be closed meanwhile
        before = {*os.listdir("/proc/self/fd")}
        tool = Tool(["sh", "-c", "echo $$; exec sleep 60"], myself, writes=True)
        pid = int(await tool.read())
        os.kill(pid, signal.SIGSTOP)
        tool.close()
        assert not os.path.exists(f"/proc/{pid}")
        assert {*os.listdir("/proc/self/fd")} <= before  # fewer, when what an earlier test left behind ends meanwhile

    asyncio.run(scenario())
