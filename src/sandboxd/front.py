"""Which API answers: by the socket that a request came to."""

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from sandboxd import api, e2b, gatewayapi
from sandboxd.api.access import unix_socket


class Front:
    """An ASGI application made of three: the command line's, the gateway's, and E2B's for whoever comes by TCP."""

    def __init__(self, services: api.Services) -> None:
        self.trusted: FastAPI = api.build(services)
        self.gateway: FastAPI = gatewayapi.build(services)
        self.public: FastAPI = e2b.build(services)
        self._gateway_socket = str(services.sandboxes.config.gateway.socket)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._of(scope)(scope, receive, send)

    def _of(self, scope: Scope) -> FastAPI:
        if scope["type"] == "lifespan":
            return self.trusted
        socket = unix_socket(scope)
        if socket is None:
            return self.public
        return self.gateway if socket == self._gateway_socket else self.trusted
