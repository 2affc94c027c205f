"""What one manager of a fleet tells another: it reaches the other's host, and that its own fleet service."""

from typing import Annotated

from fastapi import APIRouter, Path

from sandboxd import fleetservice
from sandboxd.api.access import TRUSTED
from sandboxd.api.services import Services
from sandboxd.errors import NotFound

NODE = r"^[a-z0-9.-]{1,64}$"


def router(services: Services) -> APIRouter:
    made = APIRouter(dependencies=TRUSTED)

    @made.get("/fleet/look/{node}", status_code=204)
    async def look(node: Annotated[str, Path(pattern=NODE)]) -> None:
        """The fleet service of this host knows now what that host has, and so does the gateway here."""
        status, said = await fleetservice.ask(services.sandboxes.config, f"/nodes/{node}/look")
        if status != 204:
            raise NotFound(f"the fleet service of this host does not look at node {node!r}: {status} {said[:200]}")

    return made
