"""The Connect protocol with JSON: framing, deadlines, errors (https://connectrpc.com/docs/protocol). Touches nothing.

A service gives `Method`s; `serve` runs one against a request. Protobuf, gRPC and compression are never used by E2B's clients
and are refused.
"""

import asyncio
import json
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from envd.config import AgentConfig
from envd.errors import EnvdError, invalid_argument
from envd.users import User
from envd.web import MAX_MESSAGE_BYTES, Request, Response

JsonObject = dict[str, Any]

UNARY_TYPE = "application/json"
STREAM_TYPE = "application/connect+json"
FLAG_COMPRESSED, FLAG_END = 0x01, 0x02
ENVELOPE_HEAD = struct.Struct(">BI")  # flags, length of the payload in bytes
DEFAULT_KEEPALIVE_S = 90.0


@dataclass(frozen=True)
class Call:
    """What a method knows of its caller. `timeout_s` counts from `started_s`, in the time of the event loop."""

    user: User
    config: AgentConfig
    started_s: float
    timeout_s: float | None
    keepalive_s: float

    @classmethod
    def of(cls, request: Request, user: User, config: AgentConfig) -> "Call":
        timeout_ms = _number_header(request, "connect-timeout-ms")
        return cls(
            user=user,
            config=config,
            started_s=asyncio.get_running_loop().time(),
            timeout_s=None if timeout_ms is None else timeout_ms / 1000,
            keepalive_s=_number_header(request, "keepalive-ping-interval") or DEFAULT_KEEPALIVE_S,
        )

    @property
    def deadline_s(self) -> float | None:
        return None if self.timeout_s is None else self.started_s + self.timeout_s


@dataclass(frozen=True)
class Unary:
    """One message in, one message out."""

    call: Callable[[Call, JsonObject], Awaitable[JsonObject]]


@dataclass(frozen=True)
class ServerStream:
    """One message in, many out."""

    call: Callable[[Call, JsonObject], AsyncGenerator[JsonObject, None]]


@dataclass(frozen=True)
class ClientStream:
    """Many messages in, one out."""

    call: Callable[[Call, AsyncIterator[JsonObject]], Awaitable[JsonObject]]


Method = Unary | ServerStream | ClientStream


def check_request(method: Method, request: Request) -> None:
    """Refuse what is not a Connect call of this kind with JSON in it."""
    if request.method != "POST":
        raise EnvdError("unknown", f"method {request.method} not allowed", status=405, headers={"allow": "POST"})
    expected = UNARY_TYPE if isinstance(method, Unary) else STREAM_TYPE
    if request.content_type != expected:
        headers = {"accept-post": f"{UNARY_TYPE}, {STREAM_TYPE}"}
        message = f"content type {request.content_type!r} is not supported here, use {expected!r}"
        raise EnvdError("unknown", message, status=415, headers=headers)


async def serve(method: Method, call: Call, request: Request, response: Response) -> None:
    """Answer `request`. A unary method's errors are raised for the caller to send; a stream carries its own."""
    match method:
        case Unary():
            message = parse(await request.body())
            answer = await request.while_connected(_before_deadline(call, method.call(call, message)))
            await response.json(200, answer)
        case ServerStream():
            body = await request.body()
            await response.start(200, {"content-type": STREAM_TYPE})
            await request.while_connected(_finish(response, _before_deadline(call, _relay(method, call, body, response))))
        case ClientStream():
            await response.start(200, {"content-type": STREAM_TYPE})
            await _finish(response, _before_deadline(call, _collect(method, call, request, response)))


async def _relay(method: ServerStream, call: Call, body: bytes, response: Response) -> None:
    messages = method.call(call, _single_message(body))
    async with aclosing(messages):
        async for message in messages:
            await response.write(envelope(message))


async def _collect(method: ClientStream, call: Call, request: Request, response: Response) -> None:
    answer = await method.call(call, _messages(request))
    await response.write(envelope(answer))


async def _finish(response: Response, work: Awaitable[None]) -> None:
    """Do the work of a stream and end it as the protocol demands: with an envelope that tells success from failure."""
    trailer: JsonObject = {}
    try:
        await work
    except EnvdError as error:
        trailer = {"error": {"code": error.code, "message": error.message}}
    await response.end(envelope(trailer, FLAG_END))


async def _before_deadline(call: Call, work: Awaitable[Any]) -> Any:
    try:
        async with asyncio.timeout_at(call.deadline_s) as deadline:
            return await work
    except TimeoutError:
        if deadline.expired():
            raise EnvdError("deadline_exceeded", "context deadline exceeded") from None
        raise


def envelope(message: JsonObject, flags: int = 0) -> bytes:
    payload = json.dumps(message, separators=(",", ":")).encode()
    return ENVELOPE_HEAD.pack(flags, len(payload)) + payload


def parse(payload: bytes) -> JsonObject:
    try:
        message = json.loads(payload)
    except ValueError as error:
        raise invalid_argument(f"message is not JSON: {error}") from None
    if not isinstance(message, dict):
        raise invalid_argument("message is not a JSON object")
    return message


class EnvelopeReader:
    """Cuts a byte stream into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[JsonObject]:
        """The messages that are complete with `data`; the end-of-stream envelope of a client carries none."""
        self._buffer += data
        messages = []
        while len(self._buffer) >= ENVELOPE_HEAD.size:
            flags, length = ENVELOPE_HEAD.unpack_from(self._buffer)
            if flags & FLAG_COMPRESSED:
                raise EnvdError("unimplemented", "compressed messages are not supported")
            if length > MAX_MESSAGE_BYTES:
                raise EnvdError("resource_exhausted", f"message is larger than {MAX_MESSAGE_BYTES} bytes")
            end = ENVELOPE_HEAD.size + length
            if len(self._buffer) < end:
                break
            payload = bytes(self._buffer[ENVELOPE_HEAD.size : end])
            del self._buffer[:end]
            if not flags & FLAG_END:
                messages.append(parse(payload))
        return messages

    def close(self) -> None:
        """Raise `invalid_argument` when the stream stops inside an envelope."""
        if self._buffer:
            raise invalid_argument("the stream ends inside a message")


def _single_message(body: bytes) -> JsonObject:
    reader = EnvelopeReader()
    messages = reader.feed(body)
    reader.close()
    if len(messages) != 1:
        raise invalid_argument(f"expected one message, got {len(messages)}")
    return messages[0]


async def _messages(request: Request) -> AsyncIterator[JsonObject]:
    reader = EnvelopeReader()
    async for piece in request.stream():
        for message in reader.feed(piece):
            yield message
    reader.close()


def _number_header(request: Request, name: str) -> float | None:
    """A positive number, leniently (2.6.4 of the SDK sends "60000.0"); None when absent, or 0, which means none."""
    text = request.header(name)
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        raise invalid_argument(f"header {name}: {text!r} is not a number") from None
    return number if 0 < number < float("inf") else None
