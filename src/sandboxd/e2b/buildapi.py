"""Requests of `Template.build`: a name, files, steps, and how far it is."""

import re
import time
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from sandboxd.api.answers import run
from sandboxd.api.services import Services
from sandboxd.api.templates import NAME, received
from sandboxd.audit import Actor, current
from sandboxd.bodies import Text
from sandboxd.e2b import access
from sandboxd.e2b.builds import URL_S, Build, Builds
from sandboxd.e2b.steps import HASH, parse
from sandboxd.e2b.tags import checked, template_name
from sandboxd.errors import BadRequest, Unauthorised, Unsupported
from sandboxd.records import ApiKey
from sandboxd.templatetable import DEFAULT_TAG
from sandboxd.times import rfc3339

PAGE = 100
BASES = ("e2bdev/base", "e2b/base")  # the images that clients name when they name none


class NewTemplate(BaseModel):
    model_config = ConfigDict(strict=True)
    name: Text = ""
    alias: Text = ""
    tags: list[Text] | None = None
    cpuCount: int | None = Field(default=None, ge=1, le=1024)
    memoryMB: int | None = Field(default=None, ge=64, le=16_777_216)


class NewBuild(BaseModel):
    model_config = ConfigDict(strict=True)
    fromImage: Text | None = None
    fromTemplate: Text | None = None
    fromImageRegistry: dict[str, Any] | None = None
    steps: list[dict[str, Any]] | None = None
    startCmd: Text | None = None
    readyCmd: Text | None = None
    force: bool = False


def router(services: Services, builds: Builds) -> APIRouter:
    made = APIRouter()
    sandboxes = services.sandboxes
    config = sandboxes.config
    Key = Annotated[ApiKey, Depends(access.caller(services))]

    @made.post("/v3/templates", status_code=202)
    async def create(body: NewTemplate, key: Key) -> dict[str, Any]:
        name, _, tag = template_name(body.name or body.alias).partition(":")
        tags = checked([*([tag] if tag else []), *(body.tags or [])]) or [DEFAULT_TAG]
        if not re.fullmatch(NAME, name):
            raise BadRequest(f"name: {name!r}: use lower-case letters, digits and dashes, at most 63.")
        if name in config.templates:
            raise BadRequest(f"template {name!r} is one of the host's settings. Take another name.")
        build = builds.request(name, key.name, body.memoryMB or 0, float(body.cpuCount or 0), tags)
        current().template, current().detail = name, f"asked for, with the tags {' '.join(tags)}"
        names = {"names": [name], "aliases": [name], "tags": tags}
        return {"templateID": name, "buildID": build.id, "public": False, **names}

    @made.get("/templates/{name}/files/{digest}", status_code=201)
    async def files(name: str, digest: str, key: Key) -> dict[str, Any]:
        if not HASH.fullmatch(digest):
            raise BadRequest(f"{digest!r} is no digest of files")
        if await run(lambda: builds.has(digest)):
            return {"present": True}
        expires = int(time.time()) + URL_S
        query = f"expires={expires}&signature={builds.signature(digest, expires)}"
        return {"present": False, "url": f"https://api.{config.domain}/build-files/{digest}?{query}"}

    @made.put("/build-files/{digest}")
    async def upload(digest: str, request: Request, expires: int = 0, signature: str = "") -> Response:
        """Without a key: the URL has a signature."""
        if not HASH.fullmatch(digest) or not builds.check(digest, expires, signature):
            raise Unauthorised("the URL of this upload is not, or no longer, valid")
        current().actor = Actor("upload")
        uploaded = await received(request, config.state_dir)
        await run(lambda: builds.keep(digest, uploaded))
        return Response(status_code=200)

    @made.post("/v2/templates/{name}/builds/{build_id}", status_code=202)
    async def start(name: str, build_id: str, body: NewBuild, key: Key) -> None:
        build = builds.find(name, build_id, key.name)
        current().template, current().detail = name, "begun"
        steps = parse(body.steps or [])
        known = [*config.templates, *await run(sandboxes.ledger.templates)]
        base = base_of(body, config.default_template, known)
        await run(lambda: sandboxes.template(base))  # an unknown one is told at once
        await run(lambda: builds.start(build, base, steps, body.startCmd or "", body.readyCmd or ""))

    @made.get("/templates/{name}/builds/{build_id}/status")
    async def status(name: str, build_id: str, key: Key, logsOffset: Annotated[int, Query(ge=0)] = 0) -> Response:
        return JSONResponse(shown(builds.find(name, build_id, key.name), logsOffset))

    return made


def base_of(body: NewBuild, default: str, known: Sequence[str]) -> str:
    """The template that is built on: one of `known`, or the default one.

    An image may be named as a template is, without a tag: a Dockerfile has no other way to name one. Raises Unsupported
    for other images: the agent would not be in them.
    """
    if body.fromTemplate:
        return template_name(body.fromTemplate)
    name, _, tag = (body.fromImage or BASES[0]).partition(":")
    if name in BASES:
        return default
    if name in known and tag in ("", "latest"):
        return name
    raise Unsupported(
        f"image {body.fromImage!r}: this host builds on its own templates, which have the agent in them, and on no"
        f" image. Use from_template('{default}'), or in a Dockerfile FROM {default}. There are: {', '.join(known)}."
    )


def shown(build: Build, offset: int) -> dict[str, Any]:
    entries = [
        {"timestamp": rfc3339(at), "message": text, "level": "info"} for at, text in build.lines[offset : offset + PAGE]
    ]
    found: dict[str, Any] = {
        "templateID": build.template,
        "buildID": build.id,
        "status": build.status,
        "logs": [entry["message"] for entry in entries],
        "logEntries": entries,
    }
    step = {"step": build.step} if build.step else {}
    return found | ({"reason": {"message": build.reason, **step}} if build.reason else {})
