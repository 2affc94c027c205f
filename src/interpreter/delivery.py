"""Carries the lines of an execution to its client, at the pace of that client. Touches the response and the kernel."""

import asyncio
import contextlib
from collections.abc import Mapping

from envd.web import Response
from interpreter.context import Context
from interpreter.lines import KEEPALIVE, encode

NDJSON = "application/x-ndjson"
KEEPALIVE_S = 5.0
PATIENCE_S = 0.2  # a client that takes longer to read a line has the kernel wait for it


async def deliver(context: Context, code: str, variables: Mapping[str, str], response: Response) -> None:
    """Run `code` and send each line at once, a keepalive after KEEPALIVE_S without any.

    Memory stays bounded: while the client does not read, the kernel is suspended. (A kernel publishes to whoever
    listens and would not wait by itself.) Cancelled, it interrupts the execution.
    """
    loop = asyncio.get_running_loop()
    await response.start(200, {"content-type": NDJSON, "cache-control": "no-cache"})
    spoken_at = loop.time()
    async with contextlib.aclosing(context.execute(code, variables)) as lines:
        async for line in lines:
            if line is None and loop.time() - spoken_at < KEEPALIVE_S:
                continue
            await _write(context, response, encode(line or KEEPALIVE))
            spoken_at = loop.time()
    await response.end()


async def _write(context: Context, response: Response, data: bytes) -> None:
    writing = asyncio.ensure_future(response.write(data))
    try:
        done, _ = await asyncio.wait({writing}, timeout=PATIENCE_S)
        if not done:
            await context.suspend()
            try:
                await asyncio.wait({writing})
            finally:
                await context.resume()
        writing.result()
    finally:
        writing.cancel()
