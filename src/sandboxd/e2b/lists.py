"""GET /v2/sandboxes, with filters and pages, and its older form."""

import base64
import binascii
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import parse_qsl, unquote

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import JSONResponse

from sandboxd.api.answers import run
from sandboxd.api.services import Services
from sandboxd.e2b import access, wire
from sandboxd.e2b.tags import template_name
from sandboxd.errors import BadRequest
from sandboxd.records import USED, ApiKey, Sandbox
from sandboxd.times import rfc3339

STATES = {"running": ("running",), "paused": ("paused", "stopped")}
MOST = 100


def router(services: Services) -> APIRouter:
    made = APIRouter()
    ledger = services.sandboxes.ledger
    key_of = access.caller(services)

    def rows_of(key: ApiKey, states: tuple[str, ...], metadata: str) -> list[Sandbox]:
        wanted = parse_metadata(metadata)
        rows = [row for row in ledger.rows(*states) if row.owner == key.name]
        return [row for row in rows if wanted.items() <= row.metadata.items()]

    @made.get("/v2/sandboxes")
    async def paged(
        key: Annotated[ApiKey, Depends(key_of)],
        metadata: str = "",
        state: Annotated[list[str] | None, Query()] = None,
        limit: Annotated[int, Query(ge=1, le=MOST)] = MOST,
        nextToken: str = "",
        order: Annotated[str, Query(pattern="^(asc|desc)$")] = "desc",
        startedAfter: str = "",
        template: str = "",
    ) -> Response:
        states = parse_states(state)
        rows = await run(lambda: rows_of(key, states, metadata))
        running = await run(lambda: sum(row.owner == key.name for row in ledger.rows("running")))
        if startedAfter:
            after = parse_time(startedAfter)
            rows = [row for row in rows if round(started(row), 6) >= after]  # as precise as the times that we tell
        if template:
            name = template_name(template)
            rows = [row for row in rows if name in (row.template, row.template.partition(":")[0])]
        rows.sort(key=position, reverse=order == "desc")
        if nextToken:
            place = parse_token(nextToken)
            rows = [row for row in rows if (position(row) < place if order == "desc" else position(row) > place)]
        headers = {"X-Total-Running": str(running)}
        if len(rows) > limit:
            headers["X-Next-Token"] = token(rows[limit - 1])
        return JSONResponse([wire.listed(row) for row in rows[:limit]], headers=headers)

    @made.get("/sandboxes")
    async def all_running(key: Annotated[ApiKey, Depends(key_of)], metadata: str = "") -> Response:
        rows = await run(lambda: rows_of(key, ("running",), metadata))
        return JSONResponse([wire.listed(row) for row in rows])

    return made


def started(row: Sandbox) -> float:
    return row.claimed_at or row.created_at


def position(row: Sandbox) -> tuple[str, str]:
    """By what is told of a sandbox, so that the lists of several hosts have one order."""
    return rfc3339(started(row)), row.id


def token(row: Sandbox) -> str:
    return token_of(position(row))


def token_of(place: tuple[str, str]) -> str:
    """Where a page ended; a sandbox that is removed meanwhile moves nothing."""
    started_at, sandbox_id = place
    return base64.urlsafe_b64encode(f"{started_at} {sandbox_id}".encode()).decode().rstrip("=")


def parse_token(text: str) -> tuple[str, str]:
    try:
        at, sandbox_id = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().split(" ")
        datetime.fromisoformat(at)
        return at, sandbox_id
    except (ValueError, binascii.Error):
        raise BadRequest(f"nextToken: {text!r} is none of ours. Begin again without it.") from None


def parse_states(given: list[str] | None) -> tuple[str, ...]:
    """`state=running,paused`, or several of them; all without."""
    names = [name for text in given or [] for name in text.split(",") if name]
    if unknown := [name for name in names if name not in STATES]:
        raise BadRequest(f"state: {unknown[0]!r} is none. Use running, paused or both.")
    return tuple(state for name in names for state in STATES[name]) or USED


def parse_metadata(text: str) -> dict[str, str]:
    """Clients quote keys and values, and then the whole once more, of which the server has undone one layer."""
    return {unquote(key): unquote(value) for key, value in parse_qsl(text, keep_blank_values=True)}


def parse_time(text: str) -> float:
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise BadRequest(f"startedAfter: {text!r} is no time, such as 2026-01-31T12:00:00Z.") from None
