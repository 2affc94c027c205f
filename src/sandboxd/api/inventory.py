"""All that this host has, in one answer: for the service of a fleet, which reads it every few seconds."""

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from sandboxd.api.access import TRUSTED
from sandboxd.api.answers import run
from sandboxd.api.sandboxes import listed
from sandboxd.api.services import Services
from sandboxd.errors import NotFound
from sandboxd.keys import fingerprint
from sandboxd.records import USED


def router(services: Services) -> APIRouter:
    made = APIRouter(dependencies=TRUSTED)
    sandboxes, ledger, keys = services.sandboxes, services.sandboxes.ledger, services.keys

    def look() -> dict[str, Any]:
        warm, made_here = ledger.rows("warm"), {**ledger.templates(), **ledger.tagged()}
        version, found = keys.digests()
        sizes = {name: sandboxes.template_of(template) for name, template in made_here.items()}
        return {
            "sandboxes": [
                {**listed(row, sandboxes.config), "cpus": row.cpus, "generation": row.generation}
                for row in ledger.rows(*USED)
            ],
            "warm": [
                {"sandboxID": row.id, "templateID": row.template, "memoryMB": row.memory_mb, "cpus": row.cpus}
                for row in warm
            ],
            "pools": services.pool.enabled,
            "volumes": [
                {"name": one.name, "owner": one.owner, "title": one.title} for one in ledger.volumes() if not one.shared
            ],
            "templates": [
                {"name": name, "memoryMB": size.memory_mb, "cpus": size.cpus} for name, size in sizes.items()
            ],
            "keys": {"version": version, "fingerprint": fingerprint(found)},
        }

    @made.get("/inventory")
    async def inventory() -> Response:
        """`warm` are members of pools that nobody has claimed. Hosts with the same fingerprint have the same keys.
        `generation` is the number by which a volume on shared storage was taken, 0 without one; those are no host's.
        """
        return JSONResponse(await run(look))

    @made.get("/nodes")
    async def nodes() -> Response:
        raise NotFound("this host is not part of a fleet")

    return made
