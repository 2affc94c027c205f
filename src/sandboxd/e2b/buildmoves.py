"""A build that goes to another host of a fleet before it begins: where the template is that it is built on.

Only a manager asks this, on a Unix socket. It carries what the one host gives to the other: the build, then its files.
"""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from sandboxd.api.access import TRUSTED
from sandboxd.api.answers import run
from sandboxd.api.services import Services
from sandboxd.api.templates import NAME, received
from sandboxd.audit import current
from sandboxd.bodies import Text
from sandboxd.e2b.builds import Build, Builds
from sandboxd.e2b.steps import HASH
from sandboxd.errors import BadRequest, NotFound


class Moved(BaseModel):
    """A build without its id; memory in MB, 0 of each is the base's."""

    model_config = ConfigDict(extra="forbid")
    template: str = Field(pattern=NAME)
    owner: Text
    memory_mb: int = Field(ge=0)
    cpus: float = Field(ge=0)
    tags: list[Text]


def router(services: Services, builds: Builds) -> APIRouter:
    made = APIRouter(dependencies=TRUSTED)

    @made.delete("/builds/{build_id}")
    async def give(build_id: str, template: str, owner: str) -> dict[str, Any]:
        current().template, current().detail = template, "goes to another host"
        build = builds.give(template, build_id, owner)
        return {name: getattr(build, name) for name in Moved.model_fields}

    @made.put("/builds/{build_id}", status_code=204)
    async def take(build_id: UUID, body: Moved) -> None:
        current().template, current().detail = body.template, "comes from another host"
        builds.take(Build(id=str(build_id), **body.model_dump()))

    @made.get("/build-files/{digest}")
    async def files(digest: str) -> Response:
        path = builds.path(checked(digest))
        if not await run(path.exists):
            raise NotFound(f"files {digest} are not here")
        return FileResponse(path)

    @made.put("/build-files/{digest}", status_code=204)
    async def keep(digest: str, request: Request) -> None:
        checked(digest)
        uploaded = await received(request, services.sandboxes.config.state_dir)
        await run(lambda: builds.keep(digest, uploaded))

    return made


def checked(digest: str) -> str:
    """Raises BadRequest."""
    if not HASH.fullmatch(digest):
        raise BadRequest(f"{digest!r} is no digest of files")
    return digest
