"""Carries the lines of an execution to its client, at the pace of that client. Touches the response."""

import asyncio
import contextlib
from collections.abc import Mapping

from envd.web import Response
from interpreter.context import Context
from interpreter.lines import KEEPALIVE, encode

NDJSON = "application/x-ndjson"
KEEPALIVE_S = 5.0


async def deliver(context: Context, code: str, variables: Mapping[str, str], response: Response) -> None:
    """Run `code` and send each line at once, a keepalive after KEEPALIVE_S without any.

    A line waits until the client has read enough of those before. Cancelled, this interrupts the execution.
    """
    loop = asyncio.get_running_loop()
    await response.start(200, {"content-type": NDJSON, "cache-control": "no-cache"})
    spoken_at = loop.time()
    async with contextlib.aclosing(context.execute(code, variables)) as lines:
        async for line in lines:
            if line is None and loop.time() - spoken_at < KEEPALIVE_S:
                continue
            await response.write(encode(line or KEEPALIVE))
            spoken_at = loop.time()
    await response.end()
