"""An execution whose client leaves, with doubles in the place of a kernel and of what it is reached by."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from envd.errors import ClientDisconnected
from envd.web import Message, Request, Response
from interpreter.context import Context
from interpreter.delivery import deliver
from interpreter.errors import KernelDied
from interpreter.kernels import Kernel
from interpreter.languages import LANGUAGES
from tests.unit.envd.client import DEADLINE_S


class Busy:
    """A kernel whose program ends only when it is interrupted, and takes its time for that."""

    def __init__(self) -> None:
        self.interrupted, self.rests = asyncio.Event(), asyncio.Event()
        self.did: list[str] = []

    async def alive(self) -> bool:
        return True

    async def run_silently(self, code: str) -> None:
        self.did.append("variables")

    async def execute(self, code: str) -> AsyncIterator[dict[str, Any]]:
        yield {"msg_type": "stream", "content": {"name": "stdout", "text": "begun\n"}}
        await asyncio.get_running_loop().create_future()

    async def interrupt(self) -> bool:
        self.interrupted.set()
        await self.rests.wait()
        self.did.append("rests")
        return True


def test_a_client_whose_leaving_is_noticed_twice_is_cleaned_up_after_once_and_wholly() -> None:
    """By a line that cannot be sent to it, and then by whoever waits for its leaving."""

    async def scenario() -> None:
        kernel, gone = Busy(), asyncio.Event()

        async def start() -> Kernel:
            return cast(Kernel, kernel)

        async def receive() -> Message:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message.get("body"):
                gone.set()
                raise ClientDisconnected

        context = Context("1", LANGUAGES["python"], "/", start)
        request = Request({"method": "POST", "path": "/execute", "query_string": b"", "headers": []}, receive)
        work = deliver(context, "endless()", {"NEW": "1"}, Response(send))
        answering = asyncio.ensure_future(request.while_connected(work))
        async with asyncio.timeout(DEADLINE_S):
            await kernel.interrupted.wait()
            for _ in range(20):  # turns in which it is noticed for the second time
                await asyncio.sleep(0)
            kernel.rests.set()
            with pytest.raises(ClientDisconnected):
                await answering
        assert kernel.did == ["variables", "rests", "variables"], "they are taken back when it rests"

    asyncio.run(scenario())


class Manager:
    """Of a kernel that has not begun to do what it was asked for."""

    def __init__(self) -> None:
        self.over = False

    async def is_alive(self) -> bool:
        return not self.over

    async def interrupt_kernel(self) -> None:
        if self.over:
            raise RuntimeError("Cannot interrupt kernel. No kernel is running!")

    async def shutdown_kernel(self, now: bool) -> None:
        self.over = True


class Channels:
    """On which comes what a test publishes, and never a reply. As zmq's own they end by cancelling who waits."""

    def __init__(self) -> None:
        self.context = self
        self.published: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.asked = asyncio.Event()
        self.reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def execute(self, code: str, **options: Any) -> str:
        return "request"

    async def get_iopub_msg(self, timeout: float | None) -> dict[str, Any]:
        return await self.published.get()

    async def get_shell_msg(self, timeout: float) -> dict[str, Any]:
        self.asked.set()
        return await self.reply

    def stop_channels(self) -> None:
        self.reply.cancel()

    def destroy(self, linger: int) -> None: ...


def test_a_kernel_that_is_ended_before_it_has_begun_is_not_interrupted(tmp_path: Path) -> None:
    async def scenario() -> None:
        kernel = Kernel(LANGUAGES["python"], cast(Any, Manager()), cast(Any, Channels()), str(tmp_path / "none"))
        execution = kernel.execute("1")
        waiting = asyncio.ensure_future(anext(execution))
        await asyncio.sleep(0)
        interrupting = asyncio.ensure_future(kernel.interrupt())
        await asyncio.sleep(0)
        async with asyncio.timeout(DEADLINE_S):
            await kernel.stop("was deleted")
            assert not await interrupting
        waiting.cancel()
        await asyncio.wait({waiting})

    asyncio.run(scenario())


def test_a_kernel_that_is_ended_before_its_reply_has_died(tmp_path: Path) -> None:
    """Whoever waits for the end of the answer would else wait for ever."""
    idle = {"msg_type": "status", "content": {"execution_state": "idle"}, "parent_header": {"msg_id": "request"}}

    async def scenario() -> None:
        channels = Channels()
        kernel = Kernel(LANGUAGES["python"], cast(Any, Manager()), cast(Any, channels), str(tmp_path / "none"))
        execution = kernel.execute("1")
        waiting = asyncio.ensure_future(anext(execution))
        await asyncio.sleep(0)
        channels.published.put_nowait(idle)
        async with asyncio.timeout(DEADLINE_S):
            await channels.asked.wait()
            await kernel.stop("was restarted")
            with pytest.raises(KernelDied, match="the kernel was restarted"):
                await waiting

    asyncio.run(scenario())
