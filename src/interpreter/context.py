"""A context: a kernel that keeps what was run in it, and the queue of those who want to run something."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from interpreter import lines
from interpreter.errors import KernelDied, KernelError
from interpreter.languages import Language
from interpreter.lines import END, Line

if TYPE_CHECKING:
    from interpreter.kernels import Kernel

TICK_S = 0.5
TAKE_BACK_TIMEOUT_S = 30.0  # for a few lines of ours, which take milliseconds

log = logging.getLogger("interpreter")


class Context:
    """Its kernel starts when it is first needed, and again after it has died."""

    def __init__(self, id: str, language: Language, cwd: str, start: Callable[[], Awaitable["Kernel"]]) -> None:
        """`start` makes a kernel of this language in `cwd`."""
        self.id = id
        self.language = language
        self.cwd = cwd
        self._make = start
        self._kernel: Kernel | None = None
        self._turn = asyncio.Lock()
        self._deleted = False
        self._lost = False  # a kernel was ended, of which nobody has been told

    def described(self) -> dict[str, str]:
        return {"id": self.id, "language": self.language.name, "cwd": self.cwd}

    async def start(self) -> None:
        """Start the kernel if there is none; raises KernelError."""
        async with self._turn:
            await self._ready()

    async def execute(self, code: str, variables: Mapping[str, str]) -> AsyncGenerator[Line | None, None]:
        """Run `code` when it is its turn: the lines as they come, END as the last; None whenever some time has passed.

        Closed before its end, it interrupts what it runs. Failures of the kernel are lines, too.
        """
        waiting = asyncio.ensure_future(self._turn.acquire())
        try:
            async for _ in _ticks(waiting):
                yield None
        except BaseException:
            if not waiting.cancel():
                self._turn.release()
            raise
        try:
            async with contextlib.aclosing(self._run(code, variables)) as run:
                async for line in run:
                    yield line
        finally:
            self._turn.release()
        yield END

    async def restart(self) -> None:
        """Take another kernel in place of the present one, whose execution ends with an error; raises KernelError."""
        await self._end("was restarted")
        self._lost = False
        await self.start()

    async def delete(self) -> None:
        """End the kernel; executions that run or wait end with an error."""
        self._deleted = True
        await self._end("was deleted with its context")

    async def _run(self, code: str, variables: Mapping[str, str]) -> AsyncGenerator[Line | None, None]:
        try:
            starting = asyncio.ensure_future(self._ready())
            try:
                async for _ in _ticks(starting):
                    yield None
            finally:
                await _over(starting)  # the next one has use for it, too
            kernel, lost = starting.result()
            if lost:
                yield lines.output("stderr", "The kernel had ended and was started anew: its variables are lost.\n")
            async with contextlib.aclosing(self._run_in(kernel, code, variables)) as run:
                async for line in run:
                    yield line
        except KernelDied as error:
            await self._end("died")
            remedy = "what it held is lost, and the next execution starts a new one"
            yield lines.error("KernelDied", f"{error}: {remedy}", [])
        except KernelError as error:
            yield lines.error("KernelError", str(error), [])

    async def _run_in(
        self, kernel: "Kernel", code: str, variables: Mapping[str, str]
    ) -> AsyncGenerator[Line | None, None]:
        finished = failed = False
        try:
            if variables:
                await kernel.run_silently(self.language.set_variables(variables))
            async with contextlib.aclosing(kernel.execute(code)) as messages:
                async for message in messages:
                    if message is None:
                        yield None
                    elif message["msg_type"] == "execute_reply":
                        content = message["content"]
                        if content["status"] != "ok" and not failed:
                            name, value = content.get("ename", "Aborted"), content.get("evalue", "")
                            yield lines.error(name, value, content.get("traceback", []))
                    elif (line := lines.from_message(message)) is not None:
                        failed = failed or line["type"] == "error"
                        yield line
            finished = True
        except KernelDied:
            finished = True
            raise
        finally:
            resting = asyncio.ensure_future(self._come_to_rest(kernel, variables, finished))
            await _over(resting)
            resting.result()

    async def _come_to_rest(self, kernel: "Kernel", variables: Mapping[str, str], finished: bool) -> None:
        """So that the next one finds the kernel as this one has found it."""
        if not finished and not await kernel.interrupt():
            await self._lose("did not end when it was interrupted")
        if variables and self._kernel is kernel and await kernel.alive():
            await self._take_back(kernel, variables)

    async def _take_back(self, kernel: "Kernel", variables: Mapping[str, str]) -> None:
        """Without end it would be if the program has left its kernel so that nothing else runs in it."""
        try:
            async with asyncio.timeout(TAKE_BACK_TIMEOUT_S):
                await kernel.run_silently(self.language.restore_variables(variables))
        except TimeoutError:
            await self._lose("did not take its variables back")
        except KernelDied:
            pass  # whoever is next finds that

    async def _ready(self) -> tuple["Kernel", bool]:
        """A living kernel, and whether another one has died or was lost before it. Only for whose turn it is."""
        if self._deleted:
            raise KernelError(f"context '{self.id}' was deleted")
        if self._kernel is not None and not await self._kernel.alive():
            await self._lose("died")
        if self._kernel is None:
            self._kernel = await self._make()
            if self._deleted:
                await self._end("was deleted with its context")
                raise KernelError(f"context '{self.id}' was deleted")
        lost, self._lost = self._lost, False
        return self._kernel, lost

    async def _lose(self, reason: str) -> None:
        self._lost = True
        await self._end(reason)

    async def _end(self, reason: str) -> None:
        kernel, self._kernel = self._kernel, None
        if kernel is not None:
            log.info("context %s: the kernel %s", self.id, reason)
            await kernel.stop(reason)


async def _ticks(task: asyncio.Future[Any]) -> AsyncGenerator[None, None]:
    """Something each TICK_S until `task` is done."""
    while not (await asyncio.wait({task}, timeout=TICK_S))[0]:
        yield None


async def _over(task: asyncio.Future[Any]) -> None:
    """Wait for the end of `task`; whoever is cancelled meanwhile is so after that.

    A client that leaves is noticed twice, by what cannot be sent to it and by whoever waits for its leaving: the second
    time must not cut short what the first one has begun.
    """
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
