"""What every answer has in common: threads for the work, and the body of an error."""

import logging
import secrets
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakValueDictionary

from anyio import CapacityLimiter, to_thread
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from sandboxd.audit import current
from sandboxd.errors import SandboxdError

log = logging.getLogger(__name__)
T = TypeVar("T")

SHOWN_CHARACTERS = 200
THREADS_OF_A_KEY = 16  # at a time

_threads: WeakValueDictionary[str, CapacityLimiter] = WeakValueDictionary()


async def run(work: Callable[[], T], limiter: CapacityLimiter | None = None) -> T:
    """Does blocking work in a thread: of those of the key that asks, or else of those that all others share."""
    actor = current().actor
    if limiter is None and actor.kind == "key":
        limiter = threads_of(actor.name)
    return await to_thread.run_sync(work, limiter=limiter)


def threads_of(owner: str) -> CapacityLimiter:
    """Of a key's name. What its sandboxes are long about, such as a start, keeps nobody else waiting."""
    return _threads.setdefault(owner, CapacityLimiter(THREADS_OF_A_KEY))


def shortened(text: str) -> str:
    """What an error shows of a request, which may be a megabyte."""
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."


def answer_errors(app: Starlette) -> None:
    """Every answer that is no 2xx has the body {"code": int, "message": str}."""

    def answer(code: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
        current().fail(code, message)
        # A request can name what no UTF-8 text can hold ("\\ud800"), and the error with it.
        shown = message.encode(errors="backslashreplace").decode()
        return JSONResponse({"code": code, "message": shown}, code, headers=headers)

    async def ours(_: Request, error: Exception) -> Response:
        if not isinstance(error, SandboxdError):
            raise error
        headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else {"Should-Retry": "false"}
        return answer(error.status, str(error), headers)

    async def invalid(_: Request, error: Exception) -> Response:
        first = error.errors()[0] if isinstance(error, RequestValidationError) else {}
        if first.get("type") == "json_invalid":
            return answer(400, f"the body is not valid JSON: {first['ctx']['error']} at character {first['loc'][1]}")
        where = shortened(".".join(str(part) for part in first.get("loc", ())[1:])) or "the body"
        value = "" if first.get("type") == "missing" else f", got {shortened(repr(first.get('input')))}"
        return answer(400, f"{where}: {first.get('msg', error)}{value}")

    async def http(_: Request, error: Exception) -> Response:
        code = error.status_code if isinstance(error, HTTPException) else 500
        headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
        return answer(code, str(getattr(error, "detail", error)), headers)

    async def unexpected(request: Request, error: Exception) -> Response:
        reference = secrets.token_hex(4)
        log.error("%s %s failed (%s)", request.method, request.url.path, reference, exc_info=error)
        return answer(500, f"internal error; the log of sandboxd has it under {reference}", {"Should-Retry": "false"})

    app.add_exception_handler(SandboxdError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, unexpected)
