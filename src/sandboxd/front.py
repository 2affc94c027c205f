"""Which API answers: the command line's on the Unix socket, E2B's to whoever comes by TCP."""

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from sandboxd import api, e2b
from sandboxd.api.access import came_by_unix_socket


class Front:
    """An ASGI application made of two."""

    def __init__(self, services: api.Services) -> None:
        self.trusted: FastAPI = api.build(services)
        self.public: FastAPI = e2b.build(services)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        trusted = scope["type"] == "lifespan" or came_by_unix_socket(scope)
        await (self.trusted if trusted else self.public)(scope, receive, send)
