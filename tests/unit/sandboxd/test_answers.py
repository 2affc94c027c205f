"""Threads for the work: one key's long work keeps nobody else waiting."""

import asyncio
import threading

from sandboxd.api.answers import THREADS_OF_A_KEY, run, threads_of
from sandboxd.audit import Act, Actor, within

ADA, BOB, NOBODY = Actor("key", "1", "ada"), Actor("key", "2", "bob"), Actor("nobody")


def test_a_key_that_keeps_all_its_threads_busy_is_the_only_one_that_waits() -> None:
    begun, ended = threading.Semaphore(0), threading.Event()

    def long() -> None:
        begun.release()
        ended.wait(30)

    async def scene() -> None:
        with within(Act(ADA)):
            busy = [asyncio.create_task(run(long)) for _ in range(THREADS_OF_A_KEY * 4)]
        for _ in range(THREADS_OF_A_KEY):
            await asyncio.to_thread(begun.acquire, timeout=30)
        try:
            for actor in (BOB, NOBODY):
                with within(Act(actor)):
                    assert await asyncio.wait_for(run(lambda: 42), 30) == 42
            assert threads_of("ada").borrowed_tokens == THREADS_OF_A_KEY
            assert not begun.acquire(blocking=False), "no more than these run at a time"
        finally:
            ended.set()
            await asyncio.gather(*busy)

    asyncio.run(scene())
