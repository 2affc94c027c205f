"""What happens to a sandbox between its creation and its end, by E2B's rules: connect only extends."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from sandboxd.api.answers import run
from sandboxd.api.sandboxes import OPEN_ENDED_S
from sandboxd.api.services import Services
from sandboxd.e2b import access, wire
from sandboxd.e2b.create import TIMEOUT_S
from sandboxd.errors import Conflict, NotFound
from sandboxd.records import USED, ApiKey, Sandbox


class Connect(BaseModel):
    model_config = ConfigDict(strict=True)
    timeout: float = Field(default=TIMEOUT_S, gt=0, le=OPEN_ENDED_S)
    memory: bool | None = None


class Timeout(BaseModel):
    model_config = ConfigDict(strict=True)
    timeout: float = Field(le=OPEN_ENDED_S)


class Refresh(BaseModel):
    model_config = ConfigDict(strict=True)
    duration: float = Field(default=TIMEOUT_S, ge=0, le=OPEN_ENDED_S)


class Pause(BaseModel):
    """`memory` false: only the files stay."""

    model_config = ConfigDict(strict=True)
    memory: bool | None = None


def router(services: Services) -> APIRouter:
    made = APIRouter(prefix="/sandboxes/{sandbox_id}")
    sandboxes, transitions, reconciler = services.sandboxes, services.transitions, services.reconciler
    key_of = access.caller(services)
    Key = Annotated[ApiKey, Depends(key_of)]

    def find(key: ApiKey, sandbox_id: str) -> Sandbox:
        return access.own(services, key, sandbox_id)

    def shown(row: Sandbox, status: int) -> Response:
        return JSONResponse(wire.brief(row, sandboxes.config, sandboxes.key), status)

    @made.delete("", status_code=204)
    async def kill(sandbox_id: str, key: Key) -> None:
        def remove() -> None:
            if not sandboxes.remove(find(key, sandbox_id), "removed by request", USED):
                raise NotFound(f"sandbox '{sandbox_id}' not found")

        await run(remove)

    @made.post("/timeout", status_code=204)
    async def set_timeout(sandbox_id: str, body: Timeout, key: Key) -> None:
        def change() -> None:
            row = find(key, sandbox_id)
            if row.state != "running":
                raise NotFound(f"sandbox '{row.id}' is paused: it has no timeout until it is resumed")
            transitions.extend(row, max(body.timeout, 0.0))

        await run(change)
        reconciler.wake()

    @made.post("/refreshes", status_code=204)
    async def refresh(sandbox_id: str, key: Key, body: Refresh | None = None) -> None:
        await run(lambda: transitions.prolong(find(key, sandbox_id), (body or Refresh()).duration))
        reconciler.wake()

    @made.post("/pause", status_code=204)
    async def pause(sandbox_id: str, key: Key, body: Pause | None = None) -> None:
        def do() -> None:
            row = find(key, sandbox_id)
            if row.state != "running":
                raise Conflict(f"sandbox '{row.id}' is paused already")
            if body is not None and body.memory is False:
                transitions.stop(row, "paused without its memory")
            else:
                transitions.pause(row)

        await run(do)

    async def connect(sandbox_id: str, key: Key, body: Connect | None = None) -> Response:
        """200 for one that runs: its end only moves away. 201 for one that had to be resumed."""
        timeout_s = (body or Connect()).timeout

        def do() -> tuple[Sandbox, int]:
            row = find(key, sandbox_id)
            if row.state == "running":
                try:
                    return transitions.prolong(row, timeout_s), 200
                except Conflict:  # paused by somebody else since
                    pass
            return transitions.resume(row, timeout_s), 201

        row, status = await run(do)
        reconciler.wake()
        return shown(row, status)

    made.post("/connect")(connect)

    @made.post("/resume")
    async def resume(sandbox_id: str, key: Key, body: Connect | None = None) -> Response:
        def do() -> Sandbox:
            row = find(key, sandbox_id)
            if row.state == "running":
                raise Conflict(f"sandbox '{row.id}' is running already")
            return transitions.resume(row, (body or Connect()).timeout)

        row = await run(do)
        reconciler.wake()
        return shown(row, 201)

    both = APIRouter()
    both.include_router(made)
    both.post("/v2/sandboxes/{sandbox_id}/connect")(connect)
    return both
