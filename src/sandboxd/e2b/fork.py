"""POST /sandboxes/{id}/fork: copies of a sandbox's files, in new sandboxes. Processes and memory are not in them.

The sandbox is frozen while its files are copied, once for all copies. A copy has all that its sandbox was given:
template, limits, metadata, environment, volumes, walls. Each counts as one more sandbox of the key.
"""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Annotated, Any

from anyio import CapacityLimiter
from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from sandboxd.api.answers import run
from sandboxd.api.sandboxes import OPEN_ENDED_S
from sandboxd.api.services import Services
from sandboxd.audit import carried
from sandboxd.config import Template
from sandboxd.e2b import access, wire
from sandboxd.e2b.create import OLD_TIMEOUT_S
from sandboxd.errors import SandboxdError
from sandboxd.records import ApiKey, Claim, Sandbox

log = logging.getLogger(__name__)

MOST = 20  # copies at a time: E2B's
PARALLEL = 4  # forks at a time; more wait, and block nothing else


class NewFork(BaseModel):
    model_config = ConfigDict(strict=True)
    timeout: float = Field(default=OLD_TIMEOUT_S, gt=0, le=OPEN_ENDED_S)
    count: int = Field(default=1, ge=1, le=MOST)


def router(services: Services) -> APIRouter:
    made = APIRouter()
    quota = services.quota
    sandboxes = services.sandboxes
    forks = CapacityLimiter(PARALLEL)
    Key = Annotated[ApiKey, Depends(access.caller(services))]

    def one(key: ApiKey, template: Template, claim: Claim) -> dict[str, Any]:
        try:
            with quota.place(key, ""):
                row = sandboxes.create(template, claim)
        except SandboxdError as error:
            return {"error": {"code": error.status, "message": str(error)}}
        return {"sandbox": wire.brief(row, sandboxes.config, sandboxes.key)}

    def fork(sandbox_id: str, key: ApiKey, body: NewFork) -> list[dict[str, Any]]:
        parent = access.own(services, key, sandbox_id)
        claim = inherited(parent, body.timeout)
        with quota.place(key, ""):  # without room for one there is no need to freeze it
            sandboxes.check_room()
        with services.templates.copy(parent) as template, ThreadPoolExecutor(body.count, "fork") as several:
            log.info("sandbox %s is forked %d times: its files, not its processes", parent.id, body.count)
            copy = carried(lambda _: one(key, template, claim))
            return list(several.map(copy, range(body.count)))

    @made.post("/sandboxes/{sandbox_id}/fork")
    async def handle(sandbox_id: str, key: Key, body: NewFork | None = None) -> Response:
        found = await run(lambda: fork(sandbox_id, key, body or NewFork()), forks)
        services.reconciler.wake()
        return JSONResponse(found, 201)

    return made


def inherited(parent: Sandbox, timeout_s: float) -> Claim:
    """What the parent was given, whatever that is: a wall that it has must not be missing in its copies."""
    given: dict[str, Any] = {one.name: getattr(parent, one.name) for one in fields(Claim)}
    return Claim(
        **given | {"timeout_s": timeout_s, "keep": True, "volume": "", "shared": False, "request": "", "name": ""}
    )
