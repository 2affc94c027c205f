"""Requests about volumes: named disks that outlive their sandboxes."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from fastapi.responses import JSONResponse

from sandboxd.api.access import TRUSTED
from sandboxd.api.answers import run
from sandboxd.api.services import Services
from sandboxd.disks import VOLUME_NAME
from sandboxd.records import Volume
from sandboxd.times import rfc3339

Name = Annotated[str, Path(pattern=rf"^{VOLUME_NAME}$")]


def router(services: Services) -> APIRouter:
    made = APIRouter(dependencies=TRUSTED)
    ledger, disks = services.sandboxes.ledger, services.sandboxes.disks
    volumes = services.sandboxes.volumes

    def listed(volume: Volume) -> dict[str, Any]:
        """`usedBytes` is null while it is not mounted: nobody looks into it then."""
        usage = disks.usage(volume.name if volume.owner else volume.slot) if volume.slot else None
        return {
            "name": volume.name,
            "sizeMB": volume.size_mb,
            "usedBytes": usage.used if usage else None,
            "sandboxID": volume.sandbox_id,
            "createdAt": rfc3339(volume.created_at),
            "owner": volume.owner,
            "title": volume.title,
        }

    @made.get("/volumes")
    async def list_all() -> Response:
        return JSONResponse(await run(lambda: [listed(volume) for volume in ledger.volumes()]))

    @made.delete("/volumes/{name}", status_code=204)
    async def remove(name: Name) -> None:
        await run(lambda: volumes.remove(name))

    return made
