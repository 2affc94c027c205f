"""Requests about volumes: named disks that outlive their sandboxes."""

from dataclasses import replace
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
    volumes, shared, store = services.sandboxes.volumes, services.sandboxes.shared, services.sandboxes.shared.store

    def listed(volume: Volume, node: str = "") -> dict[str, Any]:
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
            "shared": volume.shared,
            **({"node": node} if volume.shared else {}),
        }

    def on_shared(here: dict[str, Volume]) -> list[dict[str, Any]]:
        """Those on shared storage, whichever host has them: `node`, empty for none."""
        rows: list[dict[str, Any]] = []
        if store is None:
            return rows
        for name in store.names():
            made_at = store.made_at(name)
            own = here.get(name) or Volume(name, store.size_mb(name) or 0, made_at, "", "", shared=True)
            rows.append(listed(replace(own, created_at=made_at), store.owner(name).node))
        return rows

    def all_of_them() -> list[dict[str, Any]]:
        found = ledger.volumes()
        rows = on_shared({volume.name: volume for volume in found if volume.shared})
        return sorted([*(listed(one) for one in found if not one.shared), *rows], key=lambda row: row["name"])

    def forget(name: str) -> None:
        if store is not None and not ledger.has_own_volume(name) and store.has(name):
            shared.remove(name)
        else:
            volumes.remove(name)

    @made.get("/volumes")
    async def list_all() -> Response:
        return JSONResponse(await run(all_of_them))

    @made.delete("/volumes/{name}", status_code=204)
    async def remove(name: Name) -> None:
        await run(lambda: forget(name))

    return made
