"""What is asked of the host itself: whether it is well, which everybody may ask, and whose key this is."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from fastapi.responses import PlainTextResponse

from sandboxd.api.services import Services
from sandboxd.e2b import access
from sandboxd.records import ApiKey


def router(services: Services) -> APIRouter:
    made = APIRouter()
    Key = Annotated[ApiKey, Depends(access.caller(services))]

    @made.get("/health")
    async def health() -> Response:
        """No names: ids, paths and logs are not for the whole world."""
        count = len(services.health.troubles())
        hint = f"{count} troubles: the host's journal and GET /health on its Unix socket name them"
        return PlainTextResponse(f"{hint if count else 'ok'}\n")

    @made.get("/teams")
    async def teams(key: Key) -> list[dict[str, Any]]:
        """A key's name is the one team that it belongs to. The key itself is not told again."""
        return [{"teamID": key.name, "name": key.name, "apiKey": "", "isDefault": True}]

    return made
