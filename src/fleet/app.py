"""Which API of the fleet answers: by the socket that a request came to, as on a single host."""

from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from fleet import keysapi, trustedapi
from fleet.services import Services
from sandboxd.api.access import unix_socket
from sandboxd.audit import Act, within
from sandboxd.behalf import asker


class Front:
    """An ASGI application made of two: the command line's, and E2B's for whoever else comes by TCP."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.trusted: Starlette = trustedapi.build(services)
        self.public: Starlette = keysapi.build(services)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """In the course of an act, of which the hosts are told: their audit logs say who asked here."""
        actor, address = asker(scope, f"{self.services.config.project}-console")
        with within(Act(actor, address=address)):
            await (self.public if unix_socket(scope) is None else self.trusted)(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """The parts work in the server's own loop, between its start and its end."""
        await receive()
        await self.services.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.services.stop()
        await send({"type": "lifespan.shutdown.complete"})
