"""The HTTP API: one FastAPI app for the Unix socket and for TCP. Field names are those of E2B's control plane.

Handlers only translate: a request into a call of the life cycle, a row into JSON, an error into its status. Every
answer that is no 2xx has the body {"code": int, "message": str}. Work runs in threads; creating has its own, so that
waiting creates block nothing else.
"""

import logging
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from sandboxd.admission import MAX_WAITING
from sandboxd.bodies import BodyLimit, Text
from sandboxd.errors import BadRequest, NotFound, SandboxdError, Unauthorised
from sandboxd.health import Health
from sandboxd.pool import Pool
from sandboxd.reconcile import Reconciler
from sandboxd.records import Claim, Sandbox
from sandboxd.sandboxes import Sandboxes
from sandboxd.slotdir import access_token

log = logging.getLogger(__name__)
T = TypeVar("T")

ENVD_VERSION = "0.6.13"  # what the agent speaks; E2B's clients choose their calls by it
CLIENT_ID = "local"
DISK_MB = 10240
OPEN_ENDED_S = 10 * 365 * 86400.0  # the schema wants an `endAt`; without a timeout it lies this far ahead
ORIGIN_HEADER = "X-Sandbox-Origin"


@dataclass(frozen=True)
class Services:
    sandboxes: Sandboxes
    pool: Pool
    reconciler: Reconciler
    health: Health


class NewSandbox(BaseModel):
    """Body of POST /v2/sandboxes; `keep`, `name` and `cold` are ours. Unknown fields are ignored, as by E2B."""

    model_config = ConfigDict(strict=True)
    templateID: Text = ""
    timeout: float | None = Field(None, gt=0, le=OPEN_ENDED_S)
    metadata: dict[Text, Text] | None = None
    envVars: dict[Text, Text] | None = None
    keep: bool = False
    name: str = Field("", max_length=128)
    cold: bool = False


class PoolChange(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    enabled: bool


class Cleanup(BaseModel):
    """A field that is not known is refused: whoever asks for less than a removal must not get one."""

    model_config = ConfigDict(strict=True, extra="forbid")
    olderThan: float = Field(ge=0)
    unknown: bool = False


def authorise(request: Request) -> None:
    """Whoever can open the Unix socket is trusted; TCP needs a key. No keys exist yet, so TCP is refused."""
    if not came_by_unix_socket(request):
        raise Unauthorised("Invalid API key")


def came_by_unix_socket(request: Request) -> bool:
    """uvicorn names our end of the connection: (path, None) for a Unix socket, (host, port) for TCP."""
    server = request.scope.get("server")
    return server is not None and server[1] is None


def build(services: Services) -> FastAPI:
    """The app. Later parts of the API add their routes to it."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(BodyLimit)
    _answer_errors(app)
    sandboxes, pool, reconciler = services.sandboxes, services.pool, services.reconciler
    config, ledger = sandboxes.config, sandboxes.ledger
    creates = CapacityLimiter(MAX_WAITING + 2 * config.create_parallelism)
    trusted = [Depends(authorise)]

    async def run(work: Callable[[], T], limiter: CapacityLimiter | None = None) -> T:
        return await to_thread.run_sync(work, limiter=limiter)

    def brief(row: Sandbox) -> dict[str, Any]:
        return {
            "templateID": row.template,
            "sandboxID": row.id,
            "clientID": CLIENT_ID,
            "envdVersion": ENVD_VERSION,
            "url": config.url(row.id),
        }

    def listed(row: Sandbox) -> dict[str, Any]:
        started = row.claimed_at or row.created_at
        return {
            **brief(row),
            "startedAt": rfc3339(started),
            "endAt": rfc3339(started + OPEN_ENDED_S if row.ends_at is None else row.ends_at),
            "state": "running",
            "cpuCount": max(1, round(row.cpus)),
            "memoryMB": row.memory_mb,
            "diskSizeMB": DISK_MB,
            "metadata": row.metadata,
            "name": row.name,
            "keep": row.keep,
            "origin": row.origin,
            "unlimited": row.ends_at is None,
        }

    @app.get("/health")
    async def health(request: Request) -> Response:
        troubles = services.health.troubles()
        lines = [f"{source}: {trouble}" for source, trouble in sorted(troubles.items())]
        if lines and not came_by_unix_socket(request):  # the whole world may ask; ids, paths and logs are not for it
            lines = [f"{len(lines)} troubles: the host's journal and GET /health on its Unix socket name them"]
        return PlainTextResponse("\n".join(lines or ["ok"]) + "\n")

    @app.post("/v2/sandboxes", dependencies=trusted)
    async def create(body: NewSandbox) -> Response:
        template = body.templateID or config.default_template
        claim = Claim(body.timeout, body.keep, body.name, body.metadata or {}, _checked_envs(body.envVars or {}))
        row = await run(lambda: pool.obtain(template, claim, body.cold), creates)
        if row.ends_at is not None:
            reconciler.wake()
        values = {
            **brief(row),
            "envdAccessToken": access_token(sandboxes.key, row.id),
            "trafficAccessToken": None,
            "domain": config.domain,
        }
        return JSONResponse(values, 201, headers={ORIGIN_HEADER: row.origin})

    @app.get("/v2/sandboxes", dependencies=trusted)
    async def list_running() -> Response:
        rows = await run(lambda: ledger.rows("running"))
        return JSONResponse([listed(row) for row in rows])

    @app.get("/sandboxes/{sandbox_id}", dependencies=trusted)
    async def detail(sandbox_id: str) -> Response:
        row = await run(lambda: sandboxes.find(sandbox_id))
        values = {
            **listed(row),
            "envdAccessToken": access_token(sandboxes.key, row.id),
            "domain": config.domain,
            "address": row.address,
            "container": row.container,
        }
        return JSONResponse(values)

    @app.delete("/sandboxes/{sandbox_id}", dependencies=trusted)
    async def remove(sandbox_id: str) -> Response:
        row = await run(lambda: sandboxes.find(sandbox_id))
        if not await run(lambda: sandboxes.remove(row, "removed by request", ("running",))):
            raise NotFound(f"sandbox '{sandbox_id}' not found")
        return Response(status_code=204)

    @app.get("/pool", dependencies=trusted)
    async def pool_status() -> Response:
        return JSONResponse(asdict(await run(pool.status)))

    @app.post("/pool", dependencies=trusted)
    async def pool_change(body: PoolChange) -> Response:
        await run(pool.enable if body.enabled else pool.drain)
        return JSONResponse(asdict(await run(pool.status)))

    @app.post("/cleanup", dependencies=trusted)
    async def cleanup(body: Cleanup) -> Response:
        if body.unknown:
            await run(reconciler.sweep_unknown)
        removed, kept = await run(lambda: reconciler.cleanup(body.olderThan))
        return JSONResponse({"removed": removed, "kept": kept})

    @app.get("/routes", dependencies=trusted)
    async def routes() -> Response:
        return JSONResponse(asdict(await run(sandboxes.gateway.status)))

    @app.post("/routes/sync", dependencies=trusted)
    async def routes_sync() -> Response:
        await run(sandboxes.gateway.sync)
        return JSONResponse(asdict(await run(sandboxes.gateway.status)))

    return app


def rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _checked_envs(envs: dict[str, str]) -> dict[str, str]:
    for key, value in envs.items():
        if not key or "=" in key or "\0" in key + value:
            raise BadRequest(f"envVars: {key!r} cannot be the name of an environment variable, or its value has a NUL.")
    return envs


def _answer_errors(app: FastAPI) -> None:
    def answer(code: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"code": code, "message": message}, code, headers=headers)

    async def ours(_: Request, error: Exception) -> Response:
        if not isinstance(error, SandboxdError):
            raise error
        headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else {"Should-Retry": "false"}
        return answer(error.status, str(error), headers)

    async def invalid(_: Request, error: Exception) -> Response:
        first = error.errors()[0] if isinstance(error, RequestValidationError) else {}
        if first.get("type") == "json_invalid":
            return answer(400, f"the body is not valid JSON: {first['ctx']['error']} at character {first['loc'][1]}")
        where = ".".join(str(part) for part in first.get("loc", ())[1:]) or "the body"
        value = "" if first.get("type") == "missing" else f", got {first.get('input')!r}"
        return answer(400, f"{where}: {first.get('msg', error)}{value}")

    async def http(_: Request, error: Exception) -> Response:
        code = error.status_code if isinstance(error, HTTPException) else 500
        return answer(code, str(getattr(error, "detail", error)))

    async def unexpected(request: Request, error: Exception) -> Response:
        reference = secrets.token_hex(4)
        log.error("%s %s failed (%s)", request.method, request.url.path, reference, exc_info=error)
        return answer(500, f"internal error; the log of sandboxd has it under {reference}", {"Should-Retry": "false"})

    app.add_exception_handler(SandboxdError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, unexpected)
