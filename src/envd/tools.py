"""Programs that the agent itself runs for a client: tar, mv. Starts them as the requested user, and ends them."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from typing import IO

from envd.pipes import InputPipe, read_piece
from envd.spawn import DEFAULT_PATH, credentials, expendable
from envd.users import User

READ_BYTES = 64 * 1024
DIAGNOSTICS_BYTES = 2048  # what an answer quotes of a program's complaints


class Tool:
    """A running program: `feed` or `read`, then `finish`, and `close` in any case.

    Everything waits on the event loop. The user may stop the program, it is his; no thread waits for it then.
    """

    def __init__(self, command: list[str], user: User, *, reads: bool = False, writes: bool = False) -> None:
        """`reads`: it takes what `feed` passes on; `writes`: its output is for `read`."""
        self.diagnostics = ""
        with expendable():
            self._popen = subprocess.Popen(
                command,
                bufsize=0,
                stdin=subprocess.PIPE if reads else subprocess.DEVNULL,
                stdout=subprocess.PIPE if writes else subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                cwd="/",
                env={"PATH": DEFAULT_PATH, "LC_ALL": "C.UTF-8"},
                **credentials(user),
            )
        for pipe in self._pipes():
            os.set_blocking(pipe.fileno(), False)
        self._input = InputPipe(self._popen.stdin) if self._popen.stdin else None
        self._complaints = asyncio.get_running_loop().create_task(self._collect_complaints())

    async def feed(self, body: AsyncIterator[bytes], tail_bytes: int) -> bytes:
        """Pass the body on and return its last `tail_bytes`. Stops when the program has given up."""
        tail = b""
        if self._input is not None:
            async for piece in body:
                tail = (tail + piece)[-tail_bytes:]
                try:
                    await self._input.write(piece)
                except BrokenPipeError:
                    break
            self._input.close()
        return tail

    async def read(self) -> bytes:
        """A piece of the output; b"" at its end."""
        return await read_piece(self._popen.stdout, READ_BYTES) if self._popen.stdout else b""

    async def finish(self) -> int:
        """Wait for the program and return its exit status, negative for a signal."""
        await self._complaints  # they end when it does, so that the next line takes no time
        return await asyncio.to_thread(self._popen.wait)

    def close(self) -> None:
        """Stop it if it runs, and let go of everything."""
        self._complaints.cancel()
        if self._popen.poll() is None:
            self._popen.kill()
            self._popen.wait()
        if self._input is not None:
            self._input.close()
        for pipe in self._pipes():
            pipe.close()

    def _pipes(self) -> list[IO[bytes]]:
        return [pipe for pipe in (self._popen.stdin, self._popen.stdout, self._popen.stderr) if pipe is not None]

    async def _collect_complaints(self) -> None:
        if self._popen.stderr is None:
            return
        collected = b""
        while data := await read_piece(self._popen.stderr, READ_BYTES):
            collected += data[: max(0, DIAGNOSTICS_BYTES - len(collected))]
            self.diagnostics = collected.decode(errors="replace").strip().replace("\n", "; ")
