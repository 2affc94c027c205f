"""Requests about volumes: named disks that outlive their sandboxes."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from fastapi.responses import JSONResponse

from sandboxd.api.access import TRUSTED
from sandboxd.api.answers import rfc3339, run
from sandboxd.api.sandboxes import VOLUME_NAME
from sandboxd.api.services import Services
from sandboxd.records import Volume

Name = Annotated[str, Path(pattern=rf"^{VOLUME_NAME}$")]


def router(services: Services) -> APIRouter:
    made = APIRouter(dependencies=TRUSTED)
    ledger, disks = services.sandboxes.ledger, services.sandboxes.disks

    def listed(volume: Volume) -> dict[str, Any]:
        """`usedBytes` is null while it is not mounted: nobody looks into it then."""
        usage = disks.usage(volume.slot) if volume.slot else None
        return {
            "name": volume.name,
            "sizeMB": volume.size_mb,
            "usedBytes": usage.used if usage else None,
            "sandboxID": volume.sandbox_id,
            "createdAt": rfc3339(volume.created_at),
        }

    @made.get("/volumes")
    async def list_all() -> Response:
        return JSONResponse(await run(lambda: [listed(volume) for volume in ledger.volumes()]))

    @made.delete("/volumes/{name}", status_code=204)
    async def remove(name: Name) -> None:
        await run(lambda: ledger.remove_volume(name, lambda: disks.remove_volume(name)))

    return made
