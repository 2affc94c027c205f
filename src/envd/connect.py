"""The Connect protocol: kinds of methods, deadlines, errors (https://connectrpc.com/docs/protocol). Touches nothing.

A service gives `Method`s; `serve` runs one against a request. gRPC and compression are never used by E2B's clients and
are refused.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from envd.codec import CODECS, JSON, Codec, JsonObject
from envd.config import AgentConfig
from envd.envelopes import FLAG_END, EnvelopeReader, envelope
from envd.errors import EnvdError, invalid_argument
from envd.users import User
from envd.web import Request, Response

UNARY_PREFIX = "application/"
STREAM_PREFIX = "application/connect+"
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


def negotiate(method: Method, request: Request) -> Codec:
    """The codec of a Connect call of this kind; everything else is refused with what would be accepted."""
    if request.method != "POST":
        raise EnvdError("unknown", f"method {request.method} not allowed", status=405, headers={"allow": "POST"})
    prefix = UNARY_PREFIX if isinstance(method, Unary) else STREAM_PREFIX
    codec = CODECS.get(request.content_type.removeprefix(prefix)) if request.content_type.startswith(prefix) else None
    if codec is None:
        accepted = ", ".join(prefix + name for prefix in (UNARY_PREFIX, STREAM_PREFIX) for name in CODECS)
        message = f"content type {request.content_type!r} is not supported here; the types are {accepted}"
        raise EnvdError("unknown", message, status=415, headers={"accept-post": accepted})
    return codec


async def serve(method: Method, codec: Codec, call: Call, request: Request, response: Response) -> None:
    """Answer `request`. A unary method's errors are raised for the caller to send; a stream carries its own."""
    procedure = request.path[1:]
    match method:
        case Unary():
            message = codec.decode(procedure, await request.body())
            answer = await request.while_connected(_before_deadline(call, method.call(call, message)))
            head = {"content-type": UNARY_PREFIX + codec.name}
            await response.whole(200, head, codec.encode(procedure, answer))
        case ServerStream():
            body = await request.body()
            await response.start(200, {"content-type": STREAM_PREFIX + codec.name})

            async def relay() -> None:
                messages = method.call(call, _single_message(codec, procedure, body))
                async with aclosing(messages):
                    async for message in messages:
                        await response.write(envelope(codec.encode(procedure, message)))

            await request.while_connected(_finish(response, _before_deadline(call, relay())))
        case ClientStream():

            async def collect() -> bytes:
                answer = await method.call(call, _messages(codec, procedure, request))
                return envelope(codec.encode(procedure, answer))

            # The head goes out last: a client that sent "Expect: 100-continue" must be told to go on before.
            head = {"content-type": STREAM_PREFIX + codec.name}
            await _finish(response, _before_deadline(call, collect()), head)


async def _finish(response: Response, work: Awaitable[bytes | None], head: dict[str, str] | None = None) -> None:
    """Do the work of a stream and end it as the protocol demands: with an envelope that tells success from failure."""
    trailer: JsonObject = {}
    last = None
    try:
        last = await work
    except EnvdError as error:
        trailer = {"error": {"code": error.code, "message": error.message}}
    if head is not None:
        await response.start(200, head)
    await response.end((last or b"") + envelope(JSON.encode("", trailer), FLAG_END))


async def _before_deadline(call: Call, work: Awaitable[Any]) -> Any:
    try:
        async with asyncio.timeout_at(call.deadline_s) as deadline:
            return await work
    except TimeoutError:
        if deadline.expired():
            raise EnvdError("deadline_exceeded", "context deadline exceeded") from None
        raise


def _single_message(codec: Codec, procedure: str, body: bytes) -> JsonObject:
    reader = EnvelopeReader()
    payloads = reader.feed(body)
    reader.close()
    if len(payloads) != 1:
        raise invalid_argument(f"expected one message, got {len(payloads)}")
    return codec.decode(procedure, payloads[0])


async def _messages(codec: Codec, procedure: str, request: Request) -> AsyncIterator[JsonObject]:
    reader = EnvelopeReader()
    async for piece in request.stream():
        for payload in reader.feed(piece):
            yield codec.decode(procedure, payload)
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
