"""Client of the agent inside a sandbox, for one program in a terminal; through the gateway, by the sandbox's host name.

Protocol: https://connectrpc.com/docs/protocol. A message of a stream is an envelope: flags, length, JSON.
"""

import asyncio
import base64
import binascii
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx

from console.errors import AgentError, Unreached

PORT = 49983
ENVELOPE = struct.Struct(">BI")
FLAG_END = 0x02
CONNECT_S, ANSWER_S = 10.0, 20.0
KEEPALIVE_S = 20  # the agent says so often that it is still there
SILENCE_S = 60.0
MAX_MESSAGE_BYTES = 1024 * 1024
MAX_ANSWER_BYTES = 64 * 1024
HANG_UPS, HANG_UP_EVERY_S, HANG_UP_S = 3, 0.2, 3.0

Events = AsyncIterator[dict[str, Any]]


class Agent:
    """The agent of one sandbox, as sandboxd's `GET /sandboxes/{id}` describes it."""

    def __init__(self, gateway: tuple[str, int], sandbox: dict[str, Any], user: str) -> None:
        host, port = gateway
        headers = {
            "Host": f"{PORT}-{sandbox['sandboxID']}.{sandbox['domain']}",
            "X-Access-Token": sandbox["envdAccessToken"],
            "Connect-Protocol-Version": "1",
            "Accept-Encoding": "identity",
            "Authorization": "Basic " + base64.b64encode(f"{user}:".encode()).decode(),
        }
        timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
        self._http = httpx.AsyncClient(
            base_url=f"http://{host}:{port}", headers=headers, timeout=timeout, trust_env=False
        )

    async def close(self) -> None:
        await self._http.aclose()

    @asynccontextmanager
    async def start(self, process: dict[str, Any], size: tuple[int, int]) -> AsyncIterator[Events]:
        """Starts a program in a terminal of `size` (columns, rows); gives its events. Raises AgentError, also later."""
        content = envelope({"process": process, "pty": pty(size)})
        headers = {"Content-Type": "application/connect+json", "Keepalive-Ping-Interval": str(KEEPALIVE_S)}
        timeout = httpx.Timeout(ANSWER_S, connect=CONNECT_S, read=SILENCE_S)
        try:
            async with self._http.stream(
                "POST", "/process.Process/Start", content=content, headers=headers, timeout=timeout
            ) as answer:
                if answer.status_code != 200:
                    raise refused(answer.status_code, await beginning(answer, ANSWER_S))
                yield events(answer.aiter_raw())
        except (httpx.HTTPError, TimeoutError) as error:
            raise broken(error) from error

    async def type(self, pid: int, keys: bytes) -> None:
        """Input for the terminal of a program."""
        await self._call("SendInput", {"process": {"pid": pid}, "input": {"pty": base64.b64encode(keys).decode()}})

    async def resize(self, pid: int, size: tuple[int, int]) -> None:
        await self._call("Update", {"process": {"pid": pid}, "pty": pty(size)})

    async def hang_up(self, pid: int) -> None:
        """As a terminal does that is closed; raises AgentError when the program is gone.

        More than once: a connection may break, and under load one signal in hundreds was seen to have no effect.
        """
        message = {"process": {"pid": pid}, "signal": "SIGNAL_SIGHUP"}
        for _ in range(HANG_UPS):
            with suppress(Unreached):
                await self._call("SendSignal", message, HANG_UP_S)
            await asyncio.sleep(HANG_UP_EVERY_S)

    async def _call(self, method: str, message: dict[str, Any], wait_s: float = ANSWER_S) -> None:
        try:
            async with (
                asyncio.timeout(wait_s),
                self._http.stream("POST", f"/process.Process/{method}", json=message, timeout=wait_s) as answer,
            ):
                said = await beginning(answer, wait_s)
        except (httpx.HTTPError, TimeoutError) as error:
            raise broken(error) from error
        if answer.status_code != 200:
            raise refused(answer.status_code, said)


async def beginning(answer: httpx.Response, wait_s: float) -> bytes:
    """As much of an answer as can be one of the agent's, as it was sent. Raises TimeoutError."""
    said = b""
    async with asyncio.timeout(wait_s):
        async for piece in answer.aiter_raw():
            said += piece
            if len(said) > MAX_ANSWER_BYTES:
                break
    return said[:MAX_ANSWER_BYTES]


def pty(size: tuple[int, int]) -> dict[str, Any]:
    return {"size": {"cols": size[0], "rows": size[1]}}


def envelope(message: dict[str, Any]) -> bytes:
    payload = json.dumps(message, separators=(",", ":")).encode()
    return ENVELOPE.pack(0, len(payload)) + payload


async def events(pieces: AsyncIterator[bytes]) -> Events:
    """The events of a stream until its trailer. Raises AgentError when that is an error, and for what is no stream.

    What comes is the sandbox's doing: a program of it may listen in place of the agent, so nothing of it is believed.
    """
    buffer = bytearray()
    async for piece in pieces:
        buffer += piece
        while len(buffer) >= ENVELOPE.size:
            flags, length = ENVELOPE.unpack_from(buffer)
            if length > MAX_MESSAGE_BYTES:
                raise AgentError(f"the agent of the sandbox sends a message of {length} bytes")
            if len(buffer) < ENVELOPE.size + length:
                break
            payload = bytes(buffer[ENVELOPE.size : ENVELOPE.size + length])
            del buffer[: ENVELOPE.size + length]
            try:
                message = json.loads(payload)
                if flags & FLAG_END:
                    if error := message.get("error"):
                        raise AgentError(str(error.get("message") or error.get("code")))
                    return
                event = message["event"]
                if not isinstance(event, dict):
                    raise TypeError(event)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise AgentError(
                    f"the agent of the sandbox sends what is none of its events: {payload[:80]!r}"
                ) from error
            yield event
    raise AgentError("the connection to the sandbox broke")


def output(event: dict[str, Any]) -> bytes:
    """What a terminal shows; empty for other events. Raises AgentError."""
    try:
        return binascii.a2b_base64(event.get("data", {}).get("pty", ""))
    except (ValueError, AttributeError, TypeError) as error:
        raise AgentError("the agent of the sandbox sends what is no output") from error


def refused(status: int, content: bytes) -> AgentError:
    try:
        message = str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        message = f"the agent of the sandbox answers with status {status}"
    return AgentError(message)


def broken(error: httpx.HTTPError | TimeoutError) -> Unreached:
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return Unreached("the gateway of the host does not answer")
    return Unreached("the connection to the sandbox broke")
