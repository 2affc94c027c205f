"""GET /metrics, three times: for the command line, for whoever is on this host, and from elsewhere with a secret."""

import hmac
import logging
from collections.abc import Awaitable, Callable

from fastapi import APIRouter, FastAPI, Request, Response

from sandboxd.api.access import TRUSTED, bearer
from sandboxd.api.answers import answer_errors, run
from sandboxd.api.services import Services
from sandboxd.errors import Forbidden, Unauthorised
from sandboxd.metrics import Metrics

log = logging.getLogger(__name__)

TOKEN = "metrics_token"
TOKEN_LENGTH = 32  # characters, and more: what is shorter was not made by the deploy


def trusted(metrics: Metrics) -> APIRouter:
    made = APIRouter(dependencies=TRUSTED)
    made.get("/metrics")(answering(metrics))
    return made


def build(metrics: Metrics) -> FastAPI:
    """All that there is on the loopback's port."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    answer_errors(app)
    app.get("/metrics")(answering(metrics))
    return app


def public(services: Services, metrics: Metrics) -> APIRouter:
    """With `Authorization: Bearer`, and what is in the file of the token: read anew, so that it can be replaced."""
    made = APIRouter()
    answer = answering(metrics)
    file = services.sandboxes.config.secrets_dir / TOKEN

    def check(request: Request) -> None:
        secret = bearer(request)
        try:
            right = file.read_text().strip()
        except OSError as error:
            log.warning("%s: %s. The deploy makes it: deploy again.", file, error.strerror)
            right = ""
        if len(right) >= TOKEN_LENGTH and hmac.compare_digest(secret.encode(), right.encode()):
            return
        if services.keys.find(request.headers.get("x-api-key", "") or secret):
            raise Forbidden("an API key does not open the metrics of the host: they have a secret of their own")
        raise Unauthorised("the metrics of the host want their own secret: Authorization: Bearer ...")

    @made.get("/metrics")
    async def metrics_by_token(request: Request) -> Response:
        await run(lambda: check(request))
        return await answer(request)

    return made


def answering(metrics: Metrics) -> Callable[[Request], Awaitable[Response]]:
    async def read(request: Request) -> Response:
        page, content_type = await run(lambda: metrics.page(request.headers.get("accept", "")))
        return Response(page, headers={"Content-Type": content_type})

    return read
