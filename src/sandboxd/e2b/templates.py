"""Templates, and snapshots, which are templates with a sandbox's files. All are the whole host's, whoever made them."""

import re
import secrets
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from sandboxd.api.answers import run
from sandboxd.api.sandboxes import ENVD_VERSION
from sandboxd.api.services import Services
from sandboxd.api.templates import NAME
from sandboxd.audit import current
from sandboxd.bodies import Text
from sandboxd.config import Template
from sandboxd.e2b import access
from sandboxd.e2b.tags import template_name
from sandboxd.errors import BadRequest, Unsupported
from sandboxd.records import ApiKey, MadeTemplate
from sandboxd.templates import build_id
from sandboxd.times import rfc3339


class Visibility(BaseModel):
    model_config = ConfigDict(strict=True)
    public: bool | None = None


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
        current().detail = f"name={name}"
        return info(await run(lambda: templates.snapshot(access.own(services, key, sandbox_id), name)))

    @made.get("/snapshots")
    async def snapshots(key: Key, name: str = "") -> Response:
        found = await run(sandboxes.ledger.templates)
        rows = [one for one in found.values() if one.disk_mb and name in ("", one.name)]
        return JSONResponse([info(one) for one in rows])

    @made.get("/templates")
    @made.get("/v2/templates")
    async def list_templates(key: Key) -> Response:
        found = await run(sandboxes.ledger.templates)
        tagged = await run(sandboxes.ledger.tagged)
        found |= {name: one for name, one in tagged.items() if name.partition(":")[0] not in found}
        names = [*sandboxes.config.templates, *found]
        created = {name: one.created_at for name, one in found.items()}
        rows = [described(await run(partial(sandboxes.template, name)), created.get(name, 0.0)) for name in names]
        return JSONResponse(rows)

    @made.get("/templates/aliases/{alias:path}")
    async def alias(alias: str, key: Key) -> dict[str, Any]:
        """How clients ask whether there is one of that name. One that only tags name is there, too."""
        name = template_name(alias)
        if not await run(lambda: sandboxes.ledger.tagged(name)):
            name = (await run(lambda: sandboxes.template(name))).name
        return {"templateID": name, "public": False}

    @made.patch("/templates/{name}")
    @made.patch("/v2/templates/{name}")
    async def change(name: str, body: Visibility, key: Key) -> dict[str, Any]:
        found = await run(lambda: sandboxes.template(template_name(name)))
        if body.public:
            raise Unsupported(
                f"template {found.name!r} cannot be published: all keys of this host can use it, and nobody else can."
            )
        return {"names": [found.name]}

    @made.delete("/templates/{name}", status_code=204)
    async def remove(name: str, key: Key) -> None:
        """Of `name:tag` only the tag."""
        template, _, tag = template_name(name).partition(":")
        if tag:
            await run(lambda: sandboxes.ledger.remove_tags(template, [tag]))
            await run(templates.discard)
        else:
            await run(lambda: templates.remove(template))

    return made


def described(template: Template, created_at: float) -> dict[str, Any]:
    """The schema `Template`. One of the host's settings has no time: it is as old as 1970."""
    return {
        "templateID": template.name,
        "buildID": build_id(template.image),
        "cpuCount": max(1, round(template.cpus)),
        "memoryMB": template.memory_mb,
        "diskSizeMB": template.disk_mb,
        "public": False,
        "aliases": [template.name],
        "names": [template.name],
        "createdAt": rfc3339(created_at),
        "updatedAt": rfc3339(created_at),
        "createdBy": None,
        "lastSpawnedAt": None,
        "spawnCount": 0,
        "buildCount": 1,
        "envdVersion": ENVD_VERSION,
        "buildStatus": "ready",
    }


def info(template: MadeTemplate) -> dict[str, Any]:
    return {"snapshotID": template.name, "names": [template.name]}
