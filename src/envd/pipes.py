"""Non-blocking pipes on the event loop: read a piece, write everything. Touches the files that it is given."""

import asyncio
import os
from typing import IO


async def read_piece(pipe: IO[bytes], size_bytes: int, until: asyncio.Future[None] | None = None) -> bytes:
    """Wait for output and return at most `size_bytes` of it; b"" at the end, also at the end of a terminal (EIO).

    Once `until` is done, b"" also as soon as there is nothing left, although others may hold the pipe open.
    """
    loop = asyncio.get_running_loop()
    fd = pipe.fileno()
    while True:
        last = until is not None and until.done()
        if not last:
            ready: asyncio.Future[None] = loop.create_future()
            loop.add_reader(fd, _wake, ready)
            try:
                await (ready if until is None else asyncio.wait({ready, until}, return_when=asyncio.FIRST_COMPLETED))
            finally:
                loop.remove_reader(fd)
        try:
            return os.read(fd, size_bytes)
        except BlockingIOError:
            if last:
                return b""
        except OSError:
            return b""


class InputPipe:
    """The writing end of a process's input. Writes are whole and in order; `close` wakes those that wait."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lock = asyncio.Lock()

    @property
    def closed(self) -> bool:
        return self._closed.done()

    def fileno(self) -> int:
        return self._pipe.fileno()

    async def write(self, data: bytes) -> None:
        """Write all of `data`; raises BrokenPipeError when nobody reads any more or the pipe is closed."""
        view = memoryview(data)
        async with self._lock:
            while view:
                if self.closed:
                    raise BrokenPipeError("pipe is closed")
                try:
                    view = view[os.write(self._pipe.fileno(), view) :]
                except BlockingIOError:
                    await self._writable_or_closed()

    def close(self) -> None:
        if not self.closed:
            asyncio.get_running_loop().remove_writer(self._pipe.fileno())
            self._closed.set_result(None)
            self._pipe.close()

    async def _writable_or_closed(self) -> None:
        loop = asyncio.get_running_loop()
        writable: asyncio.Future[None] = loop.create_future()
        loop.add_writer(self._pipe.fileno(), _wake, writable)
        try:
            await asyncio.wait({writable, self._closed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not self.closed:
                loop.remove_writer(self._pipe.fileno())


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
