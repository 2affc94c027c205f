"""What the gateway asks, on a socket of its own that has nothing else: to resume the sandbox that a request is for,
which one a request is for that does not name it, and to bring a new worker's routes up to date.
"""

import asyncio
import base64
import hashlib
import hmac
import html
import logging
import time
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from sandboxd import AGENT_PORT, fleetservice
from sandboxd.api.access import TRUSTED
from sandboxd.api.answers import run, threads_of
from sandboxd.api.services import Services
from sandboxd.audit import GATEWAY, brief
from sandboxd.errors import NotFound, SandboxdError
from sandboxd.records import PUBLIC, Sandbox
from sandboxd.tokens import agent_token

log = logging.getLogger(__name__)

FAILED_MOST = 1000
FAILED_S = 300.0  # a page in the background asks once a minute: whoever comes later than this begins anew
MOST_FIELDS = 20  # of the URL of a file
UNTOLD = "the log of sandboxd says why."
LEAST_S = 60.0  # for which a sandbox runs that a request has resumed: its own timeout may be a second
SHOWN = ("x-method", "x-target", "x-access-token")
OPERATIONS = {"GET": "read", "HEAD": "read", "POST": "write"}


def build(services: Services) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    ledger, key = services.sandboxes.ledger, services.sandboxes.key
    resuming: dict[str, asyncio.Task[Sandbox]] = {}
    # When, and why, the last wake failed that nobody waited for, until somebody is told.
    failed: dict[str, tuple[float, str]] = {}

    def sleeper(sandbox_id: str) -> Sandbox | None:
        """The one of that id, if a request may resume it."""
        row = ledger.of_id(sandbox_id)
        return row if row is not None and row.auto_resume else None

    def resume(sandbox_id: str) -> Sandbox:
        row = sleeper(sandbox_id)
        if row is None:
            raise NotFound(f"sandbox '{sandbox_id}' not found")
        if row.state != "running":  # else it was, since the request looked, or somebody is about it: that is waited for
            log.info("sandbox %s is resumed: a request is for it", row.id)
        timeout_s = None if row.timeout_s is None else max(row.timeout_s, LEAST_S)
        with services.sandboxes.audit.doing("wake", row, by=GATEWAY):
            return services.transitions.resume(row, timeout_s)

    def begun(row: Sandbox) -> asyncio.Task[Sandbox]:
        """The one resume of that sandbox that is under way."""
        task = resuming.get(row.id)
        if task is None:
            task = resuming[row.id] = asyncio.create_task(run(lambda: resume(row.id), threads_of(row.owner)))
            task.add_done_callback(lambda _: resuming.pop(row.id))
        return task

    def ended(sandbox_id: str, task: asyncio.Task[Sandbox]) -> None:
        """For a page that does not wait: the next one tells."""
        error = None if task.cancelled() else task.exception()
        if error is None:
            services.reconciler.wake()
        elif not isinstance(error, NotFound):
            log.warning("sandbox %s cannot be resumed: %s", sandbox_id, error)
            if len(failed) >= FAILED_MOST:  # of pages that nobody looked at again
                failed.clear()
            why = brief(str(error)) if isinstance(error, SandboxdError) else UNTOLD
            failed[sandbox_id] = time.monotonic(), why

    def stranger(row: Sandbox, shown: Shown, port: int) -> bool:
        """The gateway has closed all ports of a private sandbox but its agent's, which has a token of its own."""
        return row.access != PUBLIC and port == AGENT_PORT and not shown.opens(agent_token(key, row.id))

    @app.get("/wake/{sandbox_id}")
    async def wake(
        sandbox_id: str, shown: Annotated[Shown, Depends(shown)], x_port: Annotated[int, Header()] = 0
    ) -> Response:
        """Begins to resume it, and does not wait. 503 once, in HTML, when that failed before; 404 when it is gone."""
        row = await run(lambda: sleeper(sandbox_id))
        if row is None:
            return Response(status_code=404)
        if stranger(row, shown, x_port):
            return Response(status_code=401)
        if sandbox_id not in resuming:
            at, why = failed.pop(sandbox_id, (0.0, ""))
            if why and time.monotonic() - at < FAILED_S:
                return PlainTextResponse(html.escape(why), 503)
            if row.state == "running":  # since the gateway looked
                return Response(status_code=202)
        if sandbox_id not in resuming:
            begun(row).add_done_callback(lambda task: ended(sandbox_id, task))
        return Response(status_code=202)

    @app.get("/resume/{sandbox_id}")
    async def resumed(
        sandbox_id: str, shown: Annotated[Shown, Depends(shown)], x_port: Annotated[int, Header()] = 0
    ) -> Response:
        """Its address, once it answers; requests that come meanwhile wait for the same. 404 when it is gone."""
        found = await run(lambda: sleeper(sandbox_id))
        if found is None:
            return Response(status_code=404)
        if stranger(found, shown, x_port):
            return Response(status_code=401)
        try:
            row = await asyncio.shield(begun(found))  # a client that leaves must not end what others wait for
        except NotFound:  # meanwhile
            return Response(status_code=404)
        except SandboxdError as error:
            log.warning("sandbox %s cannot be resumed: %s", sandbox_id, error)
            message = f"The sandbox could not be resumed: {brief(str(error))}"
            return JSONResponse({"sandboxId": sandbox_id, "message": message, "code": 503}, 503)
        services.reconciler.wake()
        return PlainTextResponse(row.address)

    @app.get("/started")
    async def started() -> Response:
        """A new worker of the gateway has taken over: routes that were made while it started went to the old one."""
        try:
            await run(services.sandboxes.gateway.sync)
        except SandboxdError as error:  # the reconciler comes again
            log.warning("the routes of a new worker of the gateway are not in step yet: %s", error)
        return Response(status_code=204)

    @app.get("/find")
    async def find(request: Request, shown: Annotated[Shown, Depends(shown)]) -> Response:
        """The id of the sandbox whose token, or whose signature of a file's URL, the request has. 404 for none. On a
        manager it may be on any host of the fleet.
        """
        config = services.sandboxes.config
        if (found := await run(lambda: holder(services, shown))) is not None:
            return PlainTextResponse(found)
        if config.fleet is not None and config.fleet.manages:
            headers = {name: value for name in SHOWN if (value := request.headers.get(name))}
            try:
                status, said = await fleetservice.ask(config, "/find", headers)
            except SandboxdError as error:
                log.warning("whose a request is cannot be looked for on other hosts: %s", error)
                return Response(status_code=503)
            return PlainTextResponse(said, status)
        return Response(status_code=404)

    return app


def trusted(services: Services) -> APIRouter:
    """The last of these, for the managers of a fleet: of the sandboxes of this host."""
    made = APIRouter(dependencies=TRUSTED)

    @made.get("/find")
    async def find(shown: Annotated[Shown, Depends(shown)]) -> Response:
        found = await run(lambda: holder(services, shown))
        return PlainTextResponse(found) if found else Response(status_code=404)

    return made


def holder(services: Services, shown: "Shown") -> str | None:
    """The id of the sandbox here that it opens."""
    routes, key = services.sandboxes.ledger.routes(), services.sandboxes.key
    return next((route.id for route in routes if shown.opens(agent_token(key, route.id))), None)


@dataclass(frozen=True)
class Shown:
    """What a request to an agent has with it: a token, or a signature in its URL."""

    token: str
    signature: "Signature | None"

    def opens(self, token: str) -> bool:
        if self.token:
            return hmac.compare_digest(token.encode(), self.token.encode())
        return self.signature is not None and self.signature.fits(token)


def shown(
    x_method: Annotated[str, Header()] = "",
    x_target: Annotated[str, Header()] = "",
    x_access_token: Annotated[str, Header()] = "",
) -> Shown:
    return Shown(x_access_token, None if x_access_token else Signature.of(x_method, x_target))


@dataclass(frozen=True)
class Signature:
    """Of the URL of a file. The agent looks at it again, and at its end."""

    given: bytes
    before: str  # what was signed before the token, and after it
    after: str

    @classmethod
    def of(cls, method: str, target: str) -> "Signature | None":
        """None for what is no signed URL. A stranger may have written it."""
        try:
            parts = urlsplit(target)
            fields = parse_qs(parts.query, keep_blank_values=True, max_num_fields=MOST_FIELDS)
        except ValueError:
            return None
        query = {name: values[-1] for name, values in fields.items()}
        if parts.path != "/files" or not query.get("signature") or method not in OPERATIONS:
            return None
        before = f"{query.get('path', '')}:{OPERATIONS[method]}:{query.get('username', '')}:"
        after = f":{query['signature_expiration']}" if "signature_expiration" in query else ""
        return cls(query["signature"].encode(errors="surrogateescape"), before, after)

    def fits(self, token: str) -> bool:
        raw = f"{self.before}{token}{self.after}".encode(errors="surrogateescape")
        right = "v1_" + base64.b64encode(hashlib.sha256(raw).digest()).decode().rstrip("=")
        return hmac.compare_digest(right.encode(), self.given)
