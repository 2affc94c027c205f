"""Requests that only look: the log of a sandbox, and what sandboxes use at this moment."""

import time
from collections.abc import Generator
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from sandboxd.api.access import TRUSTED
from sandboxd.api.answers import run
from sandboxd.api.services import Services
from sandboxd.api.streams import Source, Streamed
from sandboxd.errors import NotFound
from sandboxd.history import ENDED, end, find
from sandboxd.logs import Log, Wish
from sandboxd.stats import Sample, Stats
from sandboxd.times import rfc3339


def router(services: Services) -> APIRouter:
    made = APIRouter(dependencies=TRUSTED)
    sandboxes = services.sandboxes
    stats = Stats(sandboxes.ledger, sandboxes.engine, services.effects.root)

    @made.get("/logs/{sandbox_id}")
    async def logs(
        sandbox_id: str,
        lines: Annotated[int | None, Query(ge=0)] = None,
        follow: bool = False,
        events: bool = False,
    ) -> Response:
        """Lines {"at", "kind", "text"}. The one of the kind "ended", if it comes, is the last."""
        row = await run(lambda: find(sandboxes.ledger, sandbox_id))
        if row.state in ENDED and not events:
            ended = end(row, sandboxes.host.now())
            raise NotFound(f"sandbox '{row.id}' ended at {rfc3339(ended.at)}: {ended.text}")
        log = Log(sandboxes.ledger, sandboxes.engine, row, Wish(lines, follow, events))
        return Streamed(services.streams, Source(_described(log), log.stop))

    @made.get("/stats")
    async def usage(id: Annotated[list[str] | None, Query()] = None) -> Response:
        """Counters; rates are the difference of two answers, divided by that of their `clock` (seconds)."""

        def read() -> list[Sample]:
            return stats.read(None if id is None else {sandboxes.find(one).id for one in id})

        samples = await run(read)
        values = {"at": time.time(), "clock": time.monotonic(), "sandboxes": [_figures(one) for one in samples]}
        return JSONResponse(values)

    return made


def _described(log: Log) -> Generator[dict[str, Any]]:
    for event in log.read():
        yield {"at": rfc3339(event.at), "kind": event.kind, "text": event.text}


def _figures(sample: Sample) -> dict[str, Any]:
    """One sandbox of GET /stats. null is what is not known: of a stopped sandbox all, a disk that others share."""
    row = sample.row
    return {
        "sandboxID": row.id,
        "name": row.name,
        "templateID": row.template,
        "state": sample.state,
        "startedAt": rfc3339(row.claimed_at or row.created_at),
        "usage": sample.usage and asdict(sample.usage),
        "network": sample.network and asdict(sample.network),
        "disk": sample.disk and asdict(sample.disk),
    }
