"""Snapshots: a sandbox's files as a template. Templates are the whole host's, whoever made them."""

import re
import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from sandboxd.api.answers import run
from sandboxd.api.services import Services
from sandboxd.api.templates import NAME
from sandboxd.bodies import Text
from sandboxd.e2b import access
from sandboxd.errors import BadRequest
from sandboxd.records import ApiKey, MadeTemplate


class NewSnapshot(BaseModel):
    model_config = ConfigDict(strict=True)
    name: Text = ""
    memory: bool | None = None


def router(services: Services) -> APIRouter:
    made = APIRouter()
    sandboxes, templates = services.sandboxes, services.templates
    Key = Annotated[ApiKey, Depends(access.caller(services))]

    @made.post("/sandboxes/{sandbox_id}/snapshots", status_code=201)
    async def snapshot(sandbox_id: str, key: Key, body: NewSnapshot | None = None) -> dict[str, Any]:
        """Files only: memory is not kept, whatever `memory` says."""
        asked = (body or NewSnapshot()).name.partition(":")[0]
        name = asked or f"snapshot-{secrets.token_hex(5)}"
        if not re.fullmatch(NAME, name):
            raise BadRequest(f"name: {name!r}: use lower-case letters, digits and dashes, at most 63.")
        return info(await run(lambda: templates.snapshot(access.own(services, key, sandbox_id), name)))

    @made.get("/snapshots")
    async def snapshots(key: Key, name: str = "") -> Response:
        found = await run(sandboxes.ledger.templates)
        rows = [one for one in found.values() if one.disk_mb and name in ("", one.name)]
        return JSONResponse([info(one) for one in rows])

    @made.delete("/templates/{name}", status_code=204)
    async def remove(name: str, key: Key) -> None:
        await run(lambda: templates.remove(name))

    return made


def info(template: MadeTemplate) -> dict[str, Any]:
    return {"snapshotID": template.name, "names": [template.name]}
