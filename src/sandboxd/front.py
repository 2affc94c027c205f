"""Which API answers: by the socket that a request came to."""

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from sandboxd import api, e2b, gatewayapi, metricsapi
from sandboxd.api.access import unix_socket
from sandboxd.e2b.builds import Builds
from sandboxd.metrics import Metrics
from sandboxd.observed import Observed


class Front:
    """An ASGI application made of four: the command line's, the gateway's, the metrics', and E2B's for whoever else
    comes by TCP. `metrics_port` is that of the loopback where the metrics are without a key, 0 for none.
    """

    def __init__(self, services: api.Services, metrics_port: int = 0) -> None:
        metrics, config = Metrics(services), services.sandboxes.config
        self.trusted: FastAPI = api.build(services)
        self.trusted.include_router(metricsapi.trusted(metrics))
        self.trusted.include_router(e2b.create.of_pools(services, "/warm/e2b"))
        self.trusted.include_router(gatewayapi.trusted(services))
        builds = Builds(services.templates, config.state_dir, services.sandboxes.key)
        self.trusted.include_router(e2b.buildmoves.router(services, builds))
        self.gateway: FastAPI = gatewayapi.build(services)
        self.public: FastAPI = e2b.build(services, builds)
        self.public.include_router(metricsapi.public(services, metrics))
        self.metrics: FastAPI = metricsapi.build(metrics)
        self._sockets = {
            str(config.gateway.socket): ("gateway", self.gateway),
            str(config.socket): ("cli", self.trusted),
        }
        if config.fleet:
            self._sockets[str(config.fleet.socket)] = ("cli", self.trusted)
        self._metrics_port = metrics_port
        self._observed = Observed(services.sandboxes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.trusted(scope, receive, send)
            return
        name, app = self._of(scope)
        if scope["type"] != "http":  # a WebSocket, of which there are none here: it is refused
            await app(scope, receive, send)
            return
        await self._observed.serve(name, app, scope, receive, send)

    def _of(self, scope: Scope) -> tuple[str, FastAPI]:
        socket = unix_socket(scope)
        if socket is None and self._metrics_port and scope["server"][1] == self._metrics_port:
            return "metrics", self.metrics
        # A socket that is none of ours is trusted with nothing.
        return self._sockets.get(socket or "", ("e2b", self.public))
