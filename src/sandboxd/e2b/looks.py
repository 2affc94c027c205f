"""Requests that only look at one's own sandboxes: details, metrics, logs."""

import json
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import JSONResponse

from sandboxd.api.answers import run
from sandboxd.api.services import Services
from sandboxd.e2b import access, wire
from sandboxd.errors import NotFound
from sandboxd.history import Event
from sandboxd.logs import Log, Wish
from sandboxd.records import ApiKey, Sandbox
from sandboxd.stats import Sample, Stats
from sandboxd.times import rfc3339

SAMPLE_S = 0.1  # at least, between the two looks from which the use of the processor is known
MANY = 100
LINES = 1000


def router(services: Services) -> APIRouter:
    made = APIRouter()
    sandboxes = services.sandboxes
    stats = Stats(sandboxes.ledger, sandboxes.engine, services.effects.root)
    Key = Annotated[ApiKey, Depends(access.caller(services))]

    def measure(rows: list[Sandbox]) -> dict[str, dict[str, Any]]:
        ids = {row.id for row in rows}
        began = time.monotonic()
        first = {one.row.id: one for one in stats.read(ids)}
        time.sleep(SAMPLE_S)
        between_s = time.monotonic() - began  # on a busy host longer than was asked for
        found = [metric(first.get(one.row.id), one, sandboxes.host.now(), between_s) for one in stats.read(ids)]
        return {name: values for name, values in found if values}

    @made.get("/sandboxes/metrics")
    async def metrics_of_many(key: Key, sandbox_ids: str = "") -> Response:
        names = [name for name in sandbox_ids.split(",") if name][:MANY]

        def read() -> dict[str, Any]:
            rows = []
            for name in names:
                try:
                    rows.append(access.own(services, key, name))
                except NotFound:  # of those that are gone there is nothing to tell
                    continue
            return measure(rows)

        return JSONResponse({"sandboxes": await run(read)})

    @made.get("/sandboxes/{sandbox_id}")
    async def detail(sandbox_id: str, key: Key) -> Response:
        row = await run(lambda: access.own(services, key, sandbox_id))
        return JSONResponse(wire.detailed(row, sandboxes.config, sandboxes.key))

    @made.get("/sandboxes/{sandbox_id}/metrics")
    async def metrics(sandbox_id: str, key: Key) -> Response:
        """The present figures, and no others: none are kept. `start` and `end` are for those."""
        found = await run(lambda: measure([access.own(services, key, sandbox_id)]))
        return JSONResponse(list(found.values()))

    def read_log(key: ApiKey, sandbox_id: str, lines: int) -> list[Event]:
        row = access.own(services, key, sandbox_id)
        return list(Log(sandboxes.ledger, sandboxes.engine, row, Wish(lines, follow=False, events=False)).read())

    @made.get("/sandboxes/{sandbox_id}/logs")
    async def old_logs(
        sandbox_id: str, key: Key, start: int = 0, limit: Annotated[int, Query(ge=1, le=LINES)] = LINES
    ) -> Response:
        """`start` in milliseconds. Lines are those of the agent; what a command printed, its caller has.

        A `line` is JSON itself: the command line of E2B reads it, with the level in it.
        """
        events = [one for one in await run(lambda: read_log(key, sandbox_id, limit)) if one.at * 1000 >= start]
        lines = [{"timestamp": rfc3339(one.at), "line": json.dumps(line(one))} for one in events]
        return JSONResponse({"logs": lines, "logEntries": [entry(one) for one in events]})

    @made.get("/v2/sandboxes/{sandbox_id}/logs")
    async def logs(
        sandbox_id: str,
        key: Key,
        cursor: int | None = None,
        limit: Annotated[int, Query(ge=1, le=LINES)] = LINES,
        direction: Annotated[str, Query(pattern="^(forward|backward)$")] = "forward",
        search: str = "",
    ) -> Response:
        """`cursor` in milliseconds: forward the lines from then on, backward those before, latest first."""
        events = [one for one in await run(lambda: read_log(key, sandbox_id, LINES)) if search in one.text]
        if direction == "backward":
            events = [one for one in reversed(events) if cursor is None or one.at * 1000 < cursor]
        elif cursor is not None:
            events = [one for one in events if one.at * 1000 >= cursor]
        return JSONResponse({"logs": [entry(one) for one in events[:limit]]})

    return made


def entry(event: Event) -> dict[str, Any]:
    return {"timestamp": rfc3339(event.at), "message": event.text, "level": level(event.text), "fields": {}}


def line(event: Event) -> dict[str, str]:
    return {"logger": "envd", "level": level(event.text), "message": event.text}


def level(text: str) -> str:
    """The agent writes `envd: LEVEL: message`."""
    words = text.split(": ", 2)
    return words[1].lower().replace("warning", "warn") if len(words) == 3 and words[0] == "envd" else "info"


def metric(first: Sample | None, second: Sample, now: float, between_s: float) -> tuple[str, dict[str, Any] | None]:
    """The id, and the schema `SandboxMetric`; None for one that does not run. `between_s` lies between the two."""
    usage = second.usage
    if usage is None:
        return second.row.id, None
    cpus = max(1, round(second.row.cpus))
    used_ns = usage.cpu_ns - first.usage.cpu_ns if first and first.usage else 0
    disk = second.disk
    return second.row.id, {
        "timestamp": rfc3339(now),
        "timestampUnix": int(now),
        "cpuCount": cpus,
        "cpuUsedPct": round(min(100.0, max(0.0, used_ns / 1e9 / between_s / cpus * 100)), 2),
        "memUsed": usage.memory_bytes,
        "memTotal": usage.memory_limit_bytes or second.row.memory_mb * 1024 * 1024,
        "memCache": 0,
        "diskUsed": disk.used_bytes if disk else 0,
        "diskTotal": disk.size_bytes if disk else second.row.disk_mb * 1024 * 1024,
    }
