"""Requests about who may open the ports of a sandbox."""

from typing import Any, Literal

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from sandboxd import previews
from sandboxd.api.access import TRUSTED
from sandboxd.api.answers import run
from sandboxd.api.services import Services
from sandboxd.records import BASIC, TOKEN, Sandbox
from sandboxd.times import rfc3339
from sandboxd.tokens import traffic_token

Access = Literal["public", "token", "basic"]


class NewAccess(BaseModel):
    """Body of PUT /sandboxes/{id}/access. With `revoke` even the same access begins anew."""

    model_config = ConfigDict(strict=True, extra="forbid")
    access: Access
    revoke: bool = False


class NewLink(BaseModel):
    """Body of POST /sandboxes/{id}/link."""

    model_config = ConfigDict(strict=True, extra="forbid")
    port: int | None = Field(None, ge=1, le=65535)
    seconds: float = Field(gt=0, le=previews.LINK_MAX_S)


def router(services: Services) -> APIRouter:
    made = APIRouter(dependencies=TRUSTED)
    sandboxes, transitions = services.sandboxes, services.transitions

    def described(row: Sandbox) -> dict[str, Any]:
        token = traffic_token(sandboxes.key, row.id, row.access_round) if row.access == TOKEN else None
        return {"sandboxID": row.id, "access": row.access, "trafficAccessToken": token}

    @made.get("/sandboxes/{sandbox_id}/access")
    async def show(sandbox_id: str) -> Response:
        return JSONResponse(described(await run(lambda: sandboxes.find(sandbox_id))))

    @made.put("/sandboxes/{sandbox_id}/access")
    async def change(sandbox_id: str, body: NewAccess) -> Response:
        """A password is made each time that it is asked for, since nobody can look it up; and told this once."""
        password = previews.new_password() if body.access == BASIC else None

        def do() -> Sandbox:
            row = sandboxes.find(sandbox_id)
            if row.access == body.access and not body.revoke and password is None:
                return row
            return transitions.open_to(row, body.access, password.digest if password else "")

        return JSONResponse(described(await run(do)) | told(password))

    @made.post("/sandboxes/{sandbox_id}/link")
    async def link(sandbox_id: str, body: NewLink) -> Response:
        def do() -> previews.Link:
            row = sandboxes.find(sandbox_id)
            return previews.link(sandboxes.config, row, body.port, body.seconds, sandboxes.host.now())

        made = await run(do)
        return JSONResponse({"url": made.url, "expiresAt": rfc3339(made.until)})

    return made


def told(password: previews.Password | None) -> dict[str, str]:
    """What an answer has of a password that was just made."""
    return {"user": password.user, "password": password.password} if password else {}
