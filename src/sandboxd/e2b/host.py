"""What everybody may ask of the host: whether it is well."""

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from sandboxd.api.services import Services


def router(services: Services) -> APIRouter:
    made = APIRouter()

    @made.get("/health")
    async def health() -> Response:
        """No names: ids, paths and logs are not for the whole world."""
        count = len(services.health.troubles())
        hint = f"{count} troubles: the host's journal and GET /health on its Unix socket name them"
        return PlainTextResponse(f"{hint if count else 'ok'}\n")

    return made
