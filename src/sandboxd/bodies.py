"""What a request body may hold: so many bytes, and text that can be written down again. It is read to its end.

The body is read before the key is checked, so the limit is what protects the daemon's memory from strangers.
"""

import asyncio
import re
from contextlib import suppress
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BUILD = re.compile(r"/templates/[^/]+/build")
FILES = re.compile(r"/build-files/[0-9a-f]{64}|/volumecontent/[^/]+/file")
BODY_S = 60.0
MAX_BODY_BYTES = 1024 * 1024  # metadata and environment; files go to the agent, not through here
DRAIN_S, DRAIN_BYTES = 5.0, 256 * 1024 * 1024


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("surrogate", "has half of a surrogate pair, which no UTF-8 text can hold") from None
    return text


# JSON can spell half of a surrogate pair ("\\ud800"); once in the ledger, no answer that lists it could be encoded.
Text = Annotated[str, AfterValidator(_encodable)]


class BodyLimit:
    """ASGI middleware: a body beyond MAX_BODY_BYTES is answered with 413 as soon as that many bytes came.

    One that is not complete after `body_s` seconds, with 408: else whoever goes quiet in the middle, which needs no
    key, would keep a connection for ever.
    """

    def __init__(self, app: ASGIApp, body_s: float = BODY_S) -> None:
        self._app, self._body_s = app, body_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        trusted = scope.get("server", ("", 0))[1] is None
        if (trusted and BUILD.fullmatch(path)) or FILES.fullmatch(path):
            # A build context, its files by a signed URL, a file of a volume: checked first, and not kept in memory.
            await self._app(scope, receive, send)
            return
        seen_bytes, more = 0, True
        until_s = asyncio.get_running_loop().time() + self._body_s

        async def limited() -> Message:
            nonlocal seen_bytes, more
            try:
                async with asyncio.timeout_at(until_s if more else None):
                    message = await receive()
            except TimeoutError:
                late = f"the body was not complete within {self._body_s:g} s"
                raise HTTPException(408, late, {"Connection": "close"}) from None
            more = message.get("more_body", False)
            seen_bytes += len(message.get("body", b""))
            if seen_bytes > MAX_BODY_BYTES:
                raise HTTPException(413, f"the body has more than {MAX_BODY_BYTES} bytes")
            return message

        await self._app(scope, limited, send)


class DrainedBody:
    """ASGI middleware: before an answer is sent, the rest of a body that nobody wanted is read and dropped.

    Who answers earlier has to close the connection on a client, or a proxy, that is still sending; the reset that this
    causes can overtake the answer, and the client hears of a broken connection in its place. Not longer than DRAIN_S
    and not more than DRAIN_BYTES, and nothing where the client waits for a `100 Continue`, or has gone quiet already.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        more = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
        begun = b"expect" not in headers

        async def followed() -> Message:
            nonlocal more, begun
            message = await receive()
            begun, more = True, message.get("more_body", False)
            return message

        async def drained(message: Message) -> None:
            if message["type"] == "http.response.start" and begun and message["status"] != 408:
                dropped_bytes = 0
                with suppress(TimeoutError):
                    async with asyncio.timeout(DRAIN_S):
                        while more and dropped_bytes < DRAIN_BYTES:
                            dropped_bytes += len((await followed()).get("body", b""))
            await send(message)

        await self._app(scope, followed, drained)
