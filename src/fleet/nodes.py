"""The hosts of the fleet: how one is asked, over HTTP on a Unix socket of its own, and whether it answers.

The socket leads to the gateway of that host, which tells its two APIs apart by the name that is asked for. Connections
are kept; each host has its own. This module knows nothing of what is asked.
"""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from fleet.config import Host
from sandboxd import behalf
from sandboxd.audit import FLEET, current
from sandboxd.errors import SandboxdError
from sandboxd.times import rfc3339

log = logging.getLogger(__name__)
T = TypeVar("T")

TRUSTED, KEYS = "node", "api"  # the first label of the names of a host's two APIs
LOST_S = 3.0
CONNECT_S = 3.0
# Less than a server keeps a quiet connection, which is 5 s of uvicorn: else we would write into one that it closes.
KEPT_S = 4.0
SILENT = (403, 502, 503, 504)  # what a gateway answers in the place of a host; 403 to a manager that it does not know
UNTOLD = (403, 503)  # those of which the host has not heard
# Requests of these methods can be made again when a kept connection turns out to be closed.
REPEATABLE = ("GET", "HEAD")
Headers = Sequence[tuple[bytes, bytes]]


class Unreachable(SandboxdError):
    """A host of the fleet does not answer. `reached` is false if the request has surely not come to it."""

    status = 503
    retry_after_s = 5

    def __init__(self, message: str, reached: bool) -> None:
        super().__init__(message)
        self.reached = reached


@dataclass(frozen=True)
class Answer:
    """A whole answer of a host."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def json(self) -> Any:
        """Raises ValueError for what is none, or is nested too deep to be read."""
        try:
            return json.loads(self.body)
        except RecursionError as error:
            raise ValueError("its values are nested too deep") from error

    def header(self, name: bytes) -> str:
        return next((value.decode("latin-1") for key, value in self.headers if key.lower() == name), "")


class Body(httpx.AsyncByteStream):
    """A request's body, as it comes."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces


class Node:
    """`lost_since` is when it answered last, in Unix seconds, once it has not answered for `lost_s`; else None.
    `answered` is when it answered last by a clock that only goes on: another number whenever it has been heard since.
    """

    def __init__(self, host: Host, domain: str, lost_s: float = LOST_S) -> None:
        self.name, self.role, self.address = host.name, host.role, host.address
        self._domain, self.lost_s = domain, lost_s
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=KEPT_S)
        self._transport = httpx.AsyncHTTPTransport(uds=str(host.socket), limits=limits)
        self.lost_since: float | None = None
        self.answered, self._answered_at = time.monotonic(), time.time()

    async def open(
        self, api: str, method: str, target: bytes, headers: Headers = (), body: AsyncIterator[bytes] | None = None
    ) -> httpx.Response:
        """The answer's head; its stream is the caller's to read and to close. Raises Unreachable."""
        if api == TRUSTED:  # which believes what it is told of who asks
            headers = [one for one in headers if one[0] not in behalf.HEADERS] + behalf.spoken(current(FLEET))
        named = [(b"host", f"{api}.{self._domain}".encode()), *headers]
        # The target goes as it came: `httpx.URL` would write it anew.
        extensions = {"timeout": {"connect": CONNECT_S}, "target": target}
        request = httpx.Request(
            method, "http://node/", headers=named, stream=Body(body or _nothing()), extensions=extensions
        )
        try:
            try:
                response = await self._transport.handle_async_request(request)
            except httpx.RemoteProtocolError:
                if method not in REPEATABLE or body is not None:
                    raise
                response = await self._transport.handle_async_request(request)
        except httpx.TransportError as error:
            raise self.silent(repr(error), not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)) from error
        kind = response.headers.get("content-type", "")
        if response.status_code in SILENT and not kind.startswith("application/json"):
            await response.aclose()
            raise self.silent(f"its gateway answers {response.status_code}", response.status_code not in UNTOLD)
        self._alive()
        return response

    async def ask(
        self,
        method: str,
        target: str,
        value: Any = None,
        *,
        api: str = TRUSTED,
        headers: Headers = (),
        body: bytes = b"",
    ) -> Answer:
        """One whole answer, to JSON or to bytes. Raises Unreachable."""
        sent = body if value is None else json.dumps(value).encode()
        if value is not None:
            headers = [(b"content-type", b"application/json")]
        if sent:
            headers = [*headers, (b"content-length", b"%d" % len(sent))]
        response = await self.open(api, method, target.encode(), headers, _once(sent) if sent else None)
        try:
            return Answer(response.status_code, list(response.headers.raw), await response.aread())
        except httpx.TransportError as error:
            raise self.silent(repr(error), True) from error
        finally:
            await response.aclose()

    async def while_heard(self, work: Awaitable[T]) -> T:
        """What comes of questions to it, for whom a late answer is none: the host may be lost after it was asked, or
        hang. Raises Unreachable.
        """
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait((task,), timeout=self.lost_s / 6))[0]:
                if self.lost_since is not None:
                    raise Unreachable(self.obituary, True)
            return task.result()
        finally:
            task.cancel()

    def check(self) -> None:
        """Raises Unreachable for a host that is lost: then nobody need wait to hear it."""
        if self.lost_since is not None:
            raise Unreachable(self.obituary, False)

    def silent(self, why: str, reached: bool = True) -> Unreachable:
        """It has not answered just now. Returns what there is to say about it."""
        if self.lost_since is None and time.monotonic() - self.answered > self.lost_s:
            self.lost_since = self._answered_at
            log.warning("%s: %s", self.obituary, why)
        if self.lost_since is not None:
            return Unreachable(self.obituary, reached)
        return Unreachable(f"node {self.name} does not answer: {why}. Try again in some seconds.", reached)

    @property
    def unheard_s(self) -> float:
        """For how long it has not answered, whatever was done to the clock since."""
        return time.monotonic() - self.answered

    @property
    def obituary(self) -> str:
        return f"lost: node {self.name} unreachable since {rfc3339(self.lost_since or self._answered_at)}"

    async def close(self) -> None:
        await self._transport.aclose()

    def _alive(self) -> None:
        self.answered, self._answered_at = time.monotonic(), time.time()
        if self.lost_since is not None:
            log.warning("node %s answers again", self.name)
            self.lost_since = None


class Nodes(Mapping[str, Node]):
    """All hosts by their names, and which of them is this one."""

    def __init__(self, nodes: Mapping[str, Node], own: str) -> None:
        self._nodes, self.own = dict(nodes), own

    def __getitem__(self, name: str) -> Node:
        return self._nodes[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def living(self) -> list[Node]:
        return [node for node in self._nodes.values() if node.lost_since is None]

    @property
    def any(self) -> Node:
        """For what every host answers alike: this one, unless it is lost. Raises Unreachable when all are."""
        own = self._nodes[self.own]
        if own.lost_since is not None and self.living:
            return self.living[0]
        own.check()
        return own


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
