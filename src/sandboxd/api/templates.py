"""Requests about templates: which there are, snapshots, builds, removal."""

import json
import os
import re
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from sandboxd.api.access import TRUSTED
from sandboxd.api.answers import run
from sandboxd.api.services import Services
from sandboxd.audit import current
from sandboxd.errors import BadRequest, SandboxdError
from sandboxd.records import MadeTemplate
from sandboxd.times import rfc3339

NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
MAX_CONTEXT_BYTES = 4 * 1024**3


class NewSnapshot(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    name: str = Field(pattern=NAME)


def router(services: Services) -> APIRouter:
    made = APIRouter(dependencies=TRUSTED)
    sandboxes, templates = services.sandboxes, services.templates
    config = sandboxes.config

    @made.get("/templates")
    async def list_templates() -> Response:
        configured = [
            {"templateID": name, "image": template.image, "kind": "configured", "base": "", "createdAt": None}
            for name, template in config.templates.items()
        ]
        found = await run(sandboxes.ledger.templates)
        return JSONResponse(configured + [shown(one) for one in found.values()])

    @made.post("/sandboxes/{sandbox_id}/snapshots", status_code=201)
    async def snapshot(sandbox_id: str, body: NewSnapshot) -> dict[str, Any]:
        current().detail = f"name={body.name}"
        return shown(await run(lambda: templates.snapshot(sandboxes.find(sandbox_id), body.name)))

    @made.delete("/templates/{name}", status_code=204)
    async def remove(name: str) -> None:
        await run(lambda: templates.remove(name))

    @made.post("/templates/{name}/build")
    async def build(name: str, request: Request, base: str = "") -> Response:
        """The body is a tar archive; the answer JSON lines: {"line": ...}, last {"template": ...} or {"error": ...}."""
        if not re.fullmatch(NAME, name):
            raise BadRequest(f"name: {name!r}: use lower-case letters, digits and dashes, at most 63.")
        context = await received(request, config.state_dir)
        return StreamingResponse(lines(name, base or config.default_template, context), media_type="application/jsonl")

    def lines(name: str, base: str, context: Path) -> Iterator[bytes]:
        try:
            for line in templates.build(name, base, context):
                yield json_line({"line": line.decode(errors="replace").rstrip()})
            yield json_line({"template": shown(sandboxes.ledger.templates()[name])})
        except SandboxdError as error:
            current().fail(error.status, str(error))  # the answer has begun with 200
            yield json_line({"error": str(error)})
        finally:
            context.unlink(missing_ok=True)  # whoever asked may have gone long ago: this comes late then

    return made


def shown(template: MadeTemplate) -> dict[str, Any]:
    return {
        "templateID": template.name,
        "image": template.image,
        "kind": "snapshot" if template.disk_mb else "built",
        "base": template.base,
        "createdAt": rfc3339(template.created_at),
    }


def json_line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


async def received(request: Request, directory: Path) -> Path:
    """The body as a file, which is the caller's to remove."""
    handle, path = tempfile.mkstemp(prefix="context-", suffix=".tar", dir=directory)
    size_bytes = 0
    with os.fdopen(handle, "wb") as file:
        try:
            async for piece in request.stream():
                size_bytes += len(piece)
                if size_bytes > MAX_CONTEXT_BYTES:
                    raise BadRequest(f"the build context has more than {MAX_CONTEXT_BYTES} bytes.")
                await run(partial(file.write, piece))
        except BaseException:
            os.unlink(path)
            raise
    return Path(path)
