"""One Jupyter kernel: a child process of the sandbox's user, and the sockets to it.

What it publishes is read at all times, and dropped when it belongs to no execution. A kernel publishes without waiting
for anybody; so that memory stays bounded, its process is stopped while the reader of its output is too far behind.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncGenerator, Mapping
from queue import Empty

import zmq.asyncio
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

from envd.identity import is_own
from envd.spawn import credentials
from envd.users import User
from interpreter.errors import KernelDied, KernelError
from interpreter.languages import Language
from interpreter.lines import Message

PORT_TRIES = 3
START_TIMEOUT_S = 60.0  # a busy host needs a while for the first import of everything
REPLY_TIMEOUT_S = 5.0
INTERRUPT_TIMEOUT_S = 5.0  # for a program to end on Ctrl-C; then the kernel is ended
FENCE_TIMEOUT_S = 5.0  # for a kernel whose program goes on for ever, though it has said that it is idle
TICK_S = 0.5
MAX_BEHIND_BYTES = 4 * 1024 * 1024  # of output that its reader has not taken: then the kernel has to wait
MIN_BEHIND_BYTES = 1024 * 1024  # and now it goes on
MESSAGE_COST_BYTES = 1024  # counted for each message besides its text


class _OneKernel(KernelSpecManager):
    """Knows the kernel of one language, which need not be installed where Jupyter looks for kernels."""

    argv: tuple[str, ...] = ()

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(argv=list(self.argv), display_name=kernel_name, language=kernel_name)


class Kernel:
    """A kernel that is ready. Runs one thing at a time: whoever calls `execute` sees to that."""

    def __init__(
        self, language: Language, manager: AsyncKernelManager, client: AsyncKernelClient, directory: str
    ) -> None:
        self._language = language
        self._manager = manager
        self._client = client
        self._directory = directory
        self._stopped = ""
        self._current = ""  # id of the request that runs
        self._queue: asyncio.Queue[Message | None] | None = None  # None: nobody wants to know
        self._idle = asyncio.Event()
        self._idle.set()
        self._begun = asyncio.Event()  # it does what it was asked for: before that, it heeds no interrupt
        self._suspended = False
        self._behind_bytes = 0  # in the queue
        self._burst_bytes = 0  # since the socket was empty: what waits in there nobody can tell
        self._pump = asyncio.get_running_loop().create_task(self._carry())

    @classmethod
    async def start(cls, language: Language, user: User, cwd: str, environment: Mapping[str, str]) -> "Kernel":
        """Start a kernel as `user` and wait until it answers; raises KernelError when it does not."""
        program = shutil.which(language.program, path=environment.get("PATH"))
        if program is None:
            raise KernelError(f"there is no {language.program} in this sandbox, which {language.name} needs")
        if language.transport == "tcp":  # its ports are chosen before it opens them, and others may be faster
            for _ in range(PORT_TRIES - 1):
                with contextlib.suppress(KernelError):
                    return await cls._start(language, program, user, cwd, environment)
        return await cls._start(language, program, user, cwd, environment)

    @classmethod
    async def _start(
        cls, language: Language, program: str, user: User, cwd: str, environment: Mapping[str, str]
    ) -> "Kernel":
        directory = tempfile.mkdtemp(prefix="kernel-")
        specs = _OneKernel()
        specs.argv = (program, *language.arguments)
        manager = AsyncKernelManager(
            kernel_name=language.name,
            kernel_spec_manager=specs,
            transport=language.transport,
            connection_file=os.path.join(directory, "connection.json"),
            cache_ports=False,  # else the ports would be chosen anew after the file is written
        )
        if language.transport == "ipc":
            manager.ip = os.path.join(directory, "socket")
        context = zmq.asyncio.Context()
        context.setsockopt(zmq.RCVHWM, 0)  # a limit would have the kernel drop what it publishes, its end included
        client: AsyncKernelClient | None = None
        try:
            manager.write_connection_file()
            if not is_own(user):
                for path in (directory, manager.connection_file):
                    os.chown(path, user.uid, user.gid)
            await manager.start_kernel(
                env={**environment, **language.environment},
                cwd=cwd,
                stdout=asyncio.subprocess.DEVNULL,  # what a program says there, the kernel publishes
                stderr=asyncio.subprocess.DEVNULL,
                **credentials(user),
            )
            client = manager.client(context=context)
            client.start_channels(hb=False)
            await client.wait_for_ready(timeout=START_TIMEOUT_S)
        except BaseException as error:
            if client is not None:
                client.stop_channels()
            await manager.shutdown_kernel(now=True)
            context.destroy(linger=0)
            shutil.rmtree(directory, ignore_errors=True)
            if isinstance(error, (OSError, RuntimeError)):
                command = " ".join([program, *language.arguments[:2]])
                raise KernelError(f"the kernel `{command}` did not start: {error}") from error
            raise
        kernel = cls(language, manager, client, directory)
        if language.prepare:
            await kernel.run_silently(language.prepare)
        return kernel

    async def execute(self, code: str, *, silent: bool = False) -> AsyncGenerator[Message | None, None]:
        """The messages of one execution as they come, and None after each TICK_S without any; the last is its reply.

        Raises KernelDied when the kernel ends first. Who stops before the end calls `interrupt`.
        """
        self._idle.clear()
        self._begun.clear()
        queue: asyncio.Queue[Message | None] = asyncio.Queue()
        self._queue = queue
        own = self._current = self._client.execute(
            code, silent=silent, store_history=not silent, allow_stdin=False, stop_on_error=False
        )
        try:
            while True:
                try:
                    async with asyncio.timeout(TICK_S):
                        message = await queue.get()
                except TimeoutError:
                    await self._check()
                    await self._regulate()
                    yield None
                    continue
                if message is None:
                    break
                self._behind_bytes -= _size(message)
                await self._regulate()
                yield message
            if (reply := await self._reply(own)) is not None:
                yield reply
        finally:
            self._queue = None
            self._behind_bytes = self._burst_bytes = 0
            await self._regulate()

    async def run_silently(self, code: str) -> None:
        """Run code of our own, which shows nowhere and counts for nothing; raises KernelDied."""
        async with contextlib.aclosing(self.execute(code, silent=True)) as messages:
            async for _ in messages:
                pass

    async def interrupt(self) -> bool:
        """End what runs, as Ctrl-C does; False when the kernel does not come to rest by that."""
        if not self._language.interruptible or self._stopped:
            return self._idle.is_set() and not self._stopped
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(INTERRUPT_TIMEOUT_S):
                await self._begun.wait()
        if await self.alive():  # it may have been ended meanwhile
            await self._manager.interrupt_kernel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(INTERRUPT_TIMEOUT_S):
                while not self._idle.is_set() and await self.alive():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(TICK_S):
                            await self._idle.wait()
        return self._idle.is_set() and await self.alive()

    async def alive(self) -> bool:
        return not self._stopped and await self._manager.is_alive()

    async def stop(self, reason: str) -> None:
        """End the kernel at once; whoever waits for it learns that it `reason`, as in "was restarted"."""
        if self._stopped:
            return
        self._stopped = reason
        self._begun.set()  # nobody need wait for that any more
        self._pump.cancel()
        await asyncio.wait({self._pump})
        self._client.stop_channels()
        await self._manager.shutdown_kernel(now=True)
        self._client.context.destroy(linger=0)
        shutil.rmtree(self._directory, ignore_errors=True)

    async def _regulate(self) -> None:
        """Stop its process, and its group, while the reader of its output or we are behind; let it go on after that."""
        behind_bytes = self._behind_bytes + self._burst_bytes
        if not self._suspended and behind_bytes > MAX_BEHIND_BYTES:
            self._suspended = True
            await self._signal(signal.SIGSTOP)
        elif self._suspended and behind_bytes < MIN_BEHIND_BYTES:
            self._suspended = False
            await self._signal(signal.SIGCONT)

    async def _signal(self, number: signal.Signals) -> None:
        if await self.alive():
            await self._manager.signal_kernel(number)

    async def _check(self) -> None:
        if self._stopped:
            raise KernelDied(f"the kernel {self._stopped}")
        if not await self._manager.is_alive():
            provisioner = self._manager.provisioner
            status = await provisioner.poll() if provisioner is not None else None
            if status is not None and status < 0:
                raise KernelDied(f"the kernel was killed by {signal.Signals(-status).name}")
            raise KernelDied(f"the kernel ended with exit status {status}")
        if self._pump.done():
            raise KernelDied(f"the kernel cannot be heard any more: {self._pump.exception()!r}")

    async def _reply(self, request: str) -> Message | None:
        """The answer to a request; None when the kernel has none. Raises KernelDied when it is ended meanwhile."""
        while not self._stopped:
            asked = asyncio.ensure_future(self._client.get_shell_msg(timeout=REPLY_TIMEOUT_S))
            try:
                await asyncio.wait({asked})
            finally:
                asked.cancel()
            if asked.cancelled():  # its socket was closed, which looks as if somebody had cancelled us
                break
            try:
                reply: Message = asked.result()
            except Empty:
                return None
            if reply["parent_header"].get("msg_id") == request:
                return reply
        raise KernelDied(f"the kernel {self._stopped}")

    async def _carry(self) -> None:
        """Read what the kernel publishes, for as long as it lives."""
        fence = fenced = ""  # ids: of our request behind one that has ended, and of that one
        loop = asyncio.get_running_loop()
        while True:
            if self._burst_bytes and not await self._client.iopub_channel.msg_ready():
                self._burst_bytes = 0
                await self._regulate()
            message: Message = await self._client.get_iopub_msg(timeout=None)
            parent = message["parent_header"].get("msg_id")
            if parent and parent == fence:
                if message["msg_type"] not in ("status", "execute_input"):
                    self._end(fenced)
                continue
            if not parent or parent != self._current:
                continue
            if message["msg_type"] == "execute_input":
                self._begun.set()
            if message["msg_type"] != "status" or message["content"]["execution_state"] != "idle":
                if self._queue is not None:
                    self._queue.put_nowait(message)
                    self._behind_bytes += _size(message)
                    self._burst_bytes += _size(message)
                    await self._regulate()
            elif self._language.fence:
                fence = self._client.execute(self._language.fence, silent=True, store_history=False, allow_stdin=False)
                fenced = parent
                loop.call_later(FENCE_TIMEOUT_S, self._end, fenced)
            else:
                self._end(parent)

    def _end(self, request: str) -> None:
        """All that this request has published is there."""
        if request == self._current and not self._idle.is_set():
            if self._queue is not None:
                self._queue.put_nowait(None)
            self._idle.set()
            self._begun.set()


def _size(message: Message) -> int:
    """About as many bytes as it takes."""
    content = message["content"]
    texts = [content.get("text"), *content.get("data", {}).values(), *content.get("traceback", [])]
    return MESSAGE_COST_BYTES + sum(len(text) for text in texts if isinstance(text, str))
