"""The content of volumes: `/volumecontent/{id}/...`, with the volume's own token. `volumeprocess` does the work."""

import hmac
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from sandboxd.api.access import bearer
from sandboxd.api.services import Services
from sandboxd.audit import Actor, current
from sandboxd.errors import Unauthorised
from sandboxd.tokens import volume_token
from sandboxd.volumefiles import DIRECTORY_MODE, FILE_MODE, MOST_DEPTH, OWNER
from sandboxd.volumeprocess import Content

MOST_MODE = 0o1777  # a program must not become its owner's
Id = Annotated[int, Query(ge=0, lt=65536)]


class Change(BaseModel):
    model_config = ConfigDict(strict=True)
    uid: int | None = Field(None, ge=0, lt=65536)
    gid: int | None = Field(None, ge=0, lt=65536)
    mode: int | None = Field(None, ge=0, le=MOST_MODE)


def new_entry(
    uid: Id = OWNER, gid: Id = OWNER, mode: Annotated[int | None, Query(ge=0, le=MOST_MODE)] = None, force: bool = False
) -> dict[str, Any]:
    """What may be said of a file or directory to be made; without `mode` when it is not said."""
    return {"uid": uid, "gid": gid, "force": force} | ({} if mode is None else {"mode": mode})


Given = Annotated[dict[str, Any], Depends(new_entry)]


def router(services: Services) -> APIRouter:
    def check(request: Request, volume_id: str) -> None:
        secret = bearer(request)
        if not hmac.compare_digest(secret.encode(), volume_token(services.sandboxes.key, volume_id).encode()):
            raise Unauthorised("the token is not that of this volume")
        current().actor = Actor("volume", volume_id)

    made = APIRouter(prefix="/volumecontent/{volume_id}", dependencies=[Depends(check)])
    content = Content(services.sandboxes)

    @made.get("/path")
    async def look(volume_id: str, path: str) -> Response:
        return JSONResponse(await content.ask(volume_id, {"do": "look", "path": path}))

    @made.patch("/path")
    async def change(volume_id: str, path: str, body: Change) -> Response:
        wish = {"do": "change", "path": path, "values": body.model_dump()}
        return JSONResponse(await content.ask(volume_id, wish))

    @made.delete("/path", status_code=204)
    async def remove(volume_id: str, path: str) -> None:
        await content.ask(volume_id, {"do": "remove", "path": path})

    @made.get("/dir")
    async def listing(volume_id: str, path: str, depth: Annotated[int, Query(ge=1, le=MOST_DEPTH)] = 1) -> Response:
        wish = {"do": "list", "path": path, "values": {"depth": depth}}
        return JSONResponse(await content.ask(volume_id, wish))

    @made.post("/dir")
    async def make_directory(volume_id: str, path: str, given: Given) -> Response:
        values = {"mode": DIRECTORY_MODE} | given
        return JSONResponse(await content.ask(volume_id, {"do": "make", "path": path, "values": values}), 201)

    @made.get("/file")
    async def read(volume_id: str, path: str) -> Response:
        return await content.read(volume_id, {"do": "read", "path": path})

    @made.put("/file")
    async def write(request: Request, volume_id: str, path: str, given: Given) -> Response:
        wish = {"do": "write", "path": path, "values": {"mode": FILE_MODE} | given}
        return JSONResponse(await content.ask(volume_id, wish, request.stream()), 201)

    return made
