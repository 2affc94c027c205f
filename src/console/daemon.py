"""Client of sandboxd's Unix socket. A refusal keeps its status and its words, so that the page can show them."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from console.errors import Refused

ANSWER_S, MAKING_S = 30.0, 300.0  # making and starting wait for their turn on a busy host
SILENCE_S = None  # a log may say nothing for days
# Less than sandboxd keeps a quiet connection, which is 5 s of uvicorn: else we would write into one that it closes.
KEPT_S = 4.0
GONE = "The control plane does not answer. It may be restarting: try again in some seconds."


class Daemon:
    def __init__(self, socket: str) -> None:
        limits = httpx.Limits(max_connections=None, keepalive_expiry=KEPT_S)
        transport = httpx.AsyncHTTPTransport(uds=socket, limits=limits)
        self._http = httpx.AsyncClient(transport=transport, base_url="http://sandboxd", trust_env=False)

    async def close(self) -> None:
        await self._http.aclose()

    async def get(self, path: str) -> Any:
        return await self._ask("GET", path, None, {}, ANSWER_S)

    async def post(self, path: str, body: dict[str, Any] | None, asking: Mapping[str, str]) -> Any:
        """`asking` is what the audit log is to say of who asked, as headers: `viewer.asking`."""
        return await self._ask("POST", path, body, asking, MAKING_S)

    async def delete(self, path: str, asking: Mapping[str, str]) -> None:
        await self._ask("DELETE", path, None, asking, MAKING_S)

    async def _ask(
        self, method: str, path: str, body: dict[str, Any] | None, asking: Mapping[str, str], wait_s: float
    ) -> Any:
        """The JSON of the answer, None if there is none. Raises Refused."""
        try:
            answer = await self._http.request(method, path, json=body, headers=asking, timeout=wait_s)
        except httpx.HTTPError as error:
            raise Refused(503, GONE, 5) from error
        if answer.is_success:
            return answer.json() if answer.content else None
        raise refusal(answer.status_code, answer.content, answer.headers.get("retry-after", ""))

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, body: dict[str, Any] | None = None
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """JSON values, one a line. Raises Refused, also in the middle."""
        timeout = httpx.Timeout(ANSWER_S, read=SILENCE_S)
        try:
            async with self._http.stream(method, path, json=body, timeout=timeout) as answer:
                if not answer.is_success:
                    raise refusal(answer.status_code, await answer.aread(), answer.headers.get("retry-after", ""))
                yield _values(answer)
        except httpx.HTTPError as error:
            raise Refused(503, GONE, 5) from error


async def _values(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in answer.aiter_lines():
        value = json.loads(line)
        if "code" in value:
            raise Refused(int(value["code"]), str(value["message"]))
        yield value


def refusal(status: int, content: bytes, retry_after: str = "") -> Refused:
    """From an answer {"code", "message"}; from whatever else, its status."""
    try:
        message = str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        message = f"The control plane answered with status {status}."
    return Refused(status, message, int(retry_after) if retry_after.isdigit() else 0)
