"""What the gateway asks, on a socket of its own that has nothing else: to resume the sandbox that a request is for, and
which one a request is for that does not name it.
"""

import asyncio
import base64
import hashlib
import hmac
import html
import logging
from typing import Annotated
from urllib.parse import parse_qs, urlsplit

from fastapi import FastAPI, Header, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from sandboxd.api.answers import run
from sandboxd.api.services import Services
from sandboxd.audit import GATEWAY
from sandboxd.errors import NotFound, SandboxdError
from sandboxd.records import Sandbox
from sandboxd.tokens import agent_token

log = logging.getLogger(__name__)

FAILED_MOST = 1000
LEAST_S = 60.0  # for which a sandbox runs that a request has resumed: its own timeout may be a second
OPERATIONS = {"GET": "read", "HEAD": "read", "POST": "write"}


def build(services: Services) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    ledger, key = services.sandboxes.ledger, services.sandboxes.key
    resuming: dict[str, asyncio.Task[Sandbox]] = {}
    failed: dict[str, str] = {}  # why the last wake failed that nobody waited for, until somebody is told

    def sleeper(sandbox_id: str) -> Sandbox | None:
        """The one of that id, if a request may resume it."""
        return next((row for row in ledger.find(sandbox_id) if row.id == sandbox_id and row.auto_resume), None)

    def resume(sandbox_id: str) -> Sandbox:
        row = sleeper(sandbox_id)
        if row is None:
            raise NotFound(f"sandbox '{sandbox_id}' not found")
        timeout_s = None if row.timeout_s is None else max(row.timeout_s, LEAST_S)
        with services.sandboxes.audit.doing("wake", row, by=GATEWAY):
            return services.transitions.resume(row, timeout_s)

    def begun(sandbox_id: str) -> asyncio.Task[Sandbox]:
        """The one resume of that sandbox that is under way."""
        task = resuming.get(sandbox_id)
        if task is None:
            log.info("sandbox %s is resumed: a request is for it", sandbox_id)
            task = resuming[sandbox_id] = asyncio.create_task(run(lambda: resume(sandbox_id)))
            task.add_done_callback(lambda _: resuming.pop(sandbox_id))
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
            failed[sandbox_id] = str(error) if isinstance(error, SandboxdError) else "the log of sandboxd says why."

    @app.get("/wake/{sandbox_id}")
    async def wake(sandbox_id: str) -> Response:
        """Begins to resume it, and does not wait. 503 once, in HTML, when that failed before; 404 when it is gone."""
        if sandbox_id not in resuming:
            if (why := failed.pop(sandbox_id, None)) is not None:
                return PlainTextResponse(html.escape(why), 503)
            row = await run(lambda: sleeper(sandbox_id))
            if row is None:
                return Response(status_code=404)
            if row.state == "running":  # since the gateway looked
                return Response(status_code=202)
        if sandbox_id not in resuming:
            begun(sandbox_id).add_done_callback(lambda task: ended(sandbox_id, task))
        return Response(status_code=202)

    @app.get("/resume/{sandbox_id}")
    async def resumed(sandbox_id: str) -> Response:
        """Its address, once it answers; requests that come meanwhile wait for the same. 404 when it is gone."""
        try:
            row = await asyncio.shield(begun(sandbox_id))  # a client that leaves must not end what others wait for
        except NotFound:
            return Response(status_code=404)
        except SandboxdError as error:
            log.warning("sandbox %s cannot be resumed: %s", sandbox_id, error)
            message = f"The sandbox could not be resumed: {error}"
            return JSONResponse({"sandboxId": sandbox_id, "message": message, "code": 503}, 503)
        services.reconciler.wake()
        return PlainTextResponse(row.address)

    @app.get("/find")
    async def find(
        x_method: Annotated[str, Header()] = "",
        x_target: Annotated[str, Header()] = "",
        x_access_token: Annotated[str, Header()] = "",
    ) -> Response:
        """The id of the sandbox whose token, or whose signature of a file's URL, the request has. 404 for none."""
        ids = [route.id for route in await run(ledger.routes)]
        for sandbox_id in ids:
            token = agent_token(key, sandbox_id)
            if x_access_token:
                right = hmac.compare_digest(token.encode(), x_access_token.encode())
            else:
                right = signed(x_method, x_target, token)
            if right:
                return PlainTextResponse(sandbox_id)
        return Response(status_code=404)

    return app


def signed(method: str, target: str, token: str) -> bool:
    """Whether the URL of a file was signed with that token. The agent looks at the signature again, and at its end."""
    parts = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    given = query.get("signature", "")
    if parts.path != "/files" or not given or method not in OPERATIONS:
        return False
    words = [query.get("path", ""), OPERATIONS[method], query.get("username", ""), token]
    words += [query["signature_expiration"]] if "signature_expiration" in query else []
    raw = ":".join(words).encode(errors="surrogateescape")
    right = "v1_" + base64.b64encode(hashlib.sha256(raw).digest()).decode().rstrip("=")
    return hmac.compare_digest(right.encode(), given.encode(errors="surrogateescape"))
