import asyncio
import os
from typing import IO

import pytest

from envd.pipes import InputPipe, read_piece


def pipe() -> tuple[IO[bytes], IO[bytes]]:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    return os.fdopen(reading, "rb", buffering=0), os.fdopen(writing, "wb", buffering=0)


def test_reading_waits_for_a_piece_and_ends() -> None:
    async def scenario() -> None:
        reading, writing = pipe()
        with reading:
            with writing:
                waiting = asyncio.ensure_future(read_piece(reading, 3))
                await asyncio.sleep(0)
                assert not waiting.done()
                writing.write(b"hello")
                assert (await waiting, await read_piece(reading, 3)) == (b"hel", b"lo")
            assert await read_piece(reading, 3) == b""

    asyncio.run(scenario())


def test_reading_ends_before_the_pipe_does_when_its_time_is_over() -> None:
    async def scenario() -> None:
        reading, writing = pipe()
        until: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with reading, writing:
            waiting = asyncio.ensure_future(read_piece(reading, 3, until=until))
            await asyncio.sleep(0)
            assert not waiting.done()
            writing.write(b"hel")
            assert await waiting == b"hel"
            waiting = asyncio.ensure_future(read_piece(reading, 3, until=until))
            await asyncio.sleep(0)
            writing.write(b"lo")
            until.set_result(None)
            assert [await waiting, await read_piece(reading, 3, until=until)] == [b"lo", b""]

    asyncio.run(scenario())


def test_writes_are_whole_and_in_order() -> None:
    async def scenario() -> None:
        reading, writing = pipe()
        tested = InputPipe(writing)
        with reading:
            writes = asyncio.gather(tested.write(b"a" * 300_000), tested.write(b"b" * 10))
            received = b""
            while len(received) < 300_010:
                received += await read_piece(reading, 65536)
            await writes
            assert received == b"a" * 300_000 + b"b" * 10
            tested.close()
            assert await read_piece(reading, 1) == b""

    asyncio.run(scenario())


def test_closing_wakes_who_waits() -> None:
    async def scenario() -> None:
        reading, writing = pipe()
        tested = InputPipe(writing)
        with reading:
            waiting = asyncio.ensure_future(tested.write(bytes(300_000)))
            await asyncio.sleep(0)
            tested.close()
            tested.close()
            with pytest.raises(BrokenPipeError):
                await waiting

    asyncio.run(scenario())


def test_nobody_reads() -> None:
    async def scenario() -> None:
        reading, writing = pipe()
        reading.close()
        tested = InputPipe(writing)
        with pytest.raises(BrokenPipeError):
            await tested.write(b"x")
        tested.close()

    asyncio.run(scenario())
