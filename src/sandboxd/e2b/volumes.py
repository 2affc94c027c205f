"""Volumes: made, listed, removed, and what a sandbox asks for of them. Their content is in `volumecontent`."""

import posixpath
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from sandboxd.api.answers import run
from sandboxd.api.services import Services
from sandboxd.audit import current
from sandboxd.bodies import Text
from sandboxd.e2b import access
from sandboxd.errors import BadRequest
from sandboxd.records import ApiKey, Mount, Volume
from sandboxd.tokens import volume_token

TITLE = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"
MOST = 16  # volumes of one sandbox
# What a sandbox needs as its image has it, or as the engine mounts it: a volume there, or below, would break it.
TAKEN = (
    *("/bin", "/boot", "/code", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/proc", "/run"),
    *("/sbin", "/sys", "/usr", "/var/lock", "/var/run"),
)
WHOLE = ("/", "/home", "/home/user", "/root", "/tmp", "/var", "/var/lib", "/var/log", "/var/tmp")  # below is fine


class NewVolume(BaseModel):
    model_config = ConfigDict(strict=True)
    name: str = Field(pattern=TITLE)


class VolumeMount(BaseModel):
    model_config = ConfigDict(strict=True)
    name: Text
    path: Text


def router(services: Services) -> APIRouter:
    made = APIRouter()
    sandboxes, volumes = services.sandboxes, services.sandboxes.volumes
    Key = Annotated[ApiKey, Depends(access.caller(services))]

    def with_token(volume: Volume) -> dict[str, Any]:
        return {**shown(volume), "token": volume_token(sandboxes.key, volume.name), "domain": sandboxes.config.domain}

    @made.post("/volumes", status_code=201)
    async def create(body: NewVolume, key: Key) -> dict[str, Any]:
        """Of the size that the default template's disk has."""

        def do() -> Volume:
            sandboxes.check_disks()
            size_mb = sandboxes.template(sandboxes.config.default_template).disk_mb
            return volumes.create(key.name, body.name, size_mb, sandboxes.engine.userns_uid())

        made = await run(do)
        current().detail = f"volume_id={made.name} name={made.title}"
        return with_token(made)

    @made.get("/volumes")
    async def list_own(key: Key) -> Response:
        return JSONResponse([shown(one) for one in await run(lambda: sandboxes.ledger.volumes_of(key.name))])

    @made.get("/volumes/{volume_id}")
    async def detail(volume_id: str, key: Key) -> dict[str, Any]:
        return with_token(await run(lambda: volumes.find(key.name, volume_id)))

    @made.delete("/volumes/{volume_id}", status_code=204)
    async def remove(volume_id: str, key: Key) -> None:
        await run(lambda: volumes.remove(volumes.find(key.name, volume_id).name))

    return made


def shown(volume: Volume) -> dict[str, Any]:
    return {"volumeID": volume.name, "name": volume.title}


def mounts_of(services: Services, key: ApiKey, asked: list[VolumeMount]) -> tuple[Mount, ...]:
    """Raises BadRequest for a path where no volume can be, NotFound for a volume that the key's name does not have."""
    if len(asked) > MOST:
        raise BadRequest(f"volumeMounts: {len(asked)} are too many for one sandbox: {MOST} at most.")
    paths = [checked_path(one.path) for one in asked]
    for path in paths:
        if others := [other for other in paths if other is not path and within(other, path)]:
            raise BadRequest(f"volumeMounts: {others[0]!r} lies within {path!r}: give each volume a place of its own.")
    volumes = services.sandboxes.volumes
    found = [volumes.titled(key.name, one.name) for one in asked]
    if len({volume.name for volume in found}) < len(found):
        raise BadRequest("volumeMounts: a volume is mounted once in a sandbox.")
    return tuple(Mount(volume.name, volume.title, path) for volume, path in zip(found, paths, strict=True))


def checked_path(path: str) -> str:
    """Raises BadRequest for one that is not absolute and plain, or where a sandbox has something of its own."""
    if not path.startswith("/") or len(path) > 255 or not path.isprintable() or ".." in path.split("/"):
        raise BadRequest(f"volumeMounts: {path!r} is no absolute path without '..', of at most 255 characters.")
    plain = "/" + posixpath.normpath(path).strip("/")
    if plain in WHOLE or any(within(plain, one) for one in TAKEN):
        raise BadRequest(f"volumeMounts: a sandbox needs {plain!r} for itself. Take another path, such as /mnt/data.")
    return plain


def within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory}/")
