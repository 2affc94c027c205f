"""Requests about the host: its health, the pools, the cleanup, the routes."""

from dataclasses import asdict

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field

from sandboxd.api.access import TRUSTED
from sandboxd.api.answers import run
from sandboxd.api.services import Services
from sandboxd.audit import current
from sandboxd.bodies import Text
from sandboxd.config import POOL_MAX
from sandboxd.overview import overview


class PoolChange(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    enabled: bool
    template: Text = ""  # all pools


class PoolSize(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    size: int = Field(ge=0, le=POOL_MAX)
    template: Text = ""  # the default one


class Cleanup(BaseModel):
    """A field that is not known is refused: whoever asks for less than a removal must not get one."""

    model_config = ConfigDict(strict=True, extra="forbid")
    olderThan: float = Field(ge=0)
    unknown: bool = False


def router(services: Services) -> APIRouter:
    made = APIRouter()
    sandboxes, pool, reconciler = services.sandboxes, services.pool, services.reconciler

    @made.get("/health")
    async def health() -> Response:
        troubles = services.health.troubles()
        lines = [f"{source}: {trouble}" for source, trouble in sorted(troubles.items())]
        return PlainTextResponse("\n".join(lines or ["ok"]) + "\n")

    @made.get("/overview", dependencies=TRUSTED)
    async def figures() -> Response:
        return JSONResponse(asdict(await run(lambda: overview(sandboxes, services.health, services.effects))))

    @made.get("/pool", dependencies=TRUSTED)
    async def pool_status() -> Response:
        return JSONResponse(asdict(await run(pool.status)))

    @made.post("/pool", dependencies=TRUSTED)
    async def pool_change(body: PoolChange) -> Response:
        current().template, current().detail = body.template, "turned on" if body.enabled else "drained"
        await run(lambda: (pool.enable if body.enabled else pool.drain)(body.template))
        return JSONResponse(asdict(await run(pool.status)))

    @made.post("/pool/resize", dependencies=TRUSTED)
    async def pool_resize(body: PoolSize) -> Response:
        template = body.template or sandboxes.config.default_template
        current().template, current().detail = template, f"size {body.size}"
        await run(lambda: pool.resize(template, body.size))
        return JSONResponse(asdict(await run(pool.status)))

    @made.post("/cleanup", dependencies=TRUSTED)
    async def cleanup(body: Cleanup) -> Response:
        current().detail = f"older than {body.olderThan:.0f} s" + ", and what is unknown" * body.unknown
        if body.unknown:
            await run(reconciler.sweep_unknown)
        removed, kept = await run(lambda: reconciler.cleanup(body.olderThan))
        return JSONResponse({"removed": removed, "kept": kept})

    @made.get("/routes", dependencies=TRUSTED)
    async def routes() -> Response:
        return JSONResponse(asdict(await run(sandboxes.gateway.status)))

    @made.post("/routes/sync", dependencies=TRUSTED)
    async def routes_sync() -> Response:
        await run(sandboxes.gateway.sync)
        return JSONResponse(asdict(await run(sandboxes.gateway.status)))

    return made
