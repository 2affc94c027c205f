"""The application: which address is answered by what, and how a refusal looks."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp

from console.actions import Actions
from console.board import Board
from console.config import Config
from console.daemon import Daemon
from console.errors import Refused, SignedOut
from console.guard import Guard
from console.logs import BEAT_S, Logs
from console.looking import Looking
from console.rendering import Pages, is_part
from console.served import Assets
from console.sessions import Sessions
from console.signin import SignIn
from console.terminal import CHECK_S, Terminals
from console.throttle import LATE_S, Throttle
from console.viewer import Viewers


@dataclass(frozen=True)
class Patience:
    """How long things take that a test does not want to wait for, in seconds; `now` is the wall clock."""

    late_s: float = LATE_S
    check_s: float = CHECK_S
    beat_s: float = BEAT_S
    now: Callable[[], float] = time.time


def build(config: Config, patience: Patience | None = None) -> ASGIApp:
    patience = patience or Patience()
    now = patience.now
    daemon = Daemon(config.socket)
    sessions = Sessions(config.secret, config.state / "ended", now)
    viewers, board, assets = Viewers(daemon, sessions), Board(daemon), Assets()
    pages = Pages(assets, sessions, config.domain)
    entry = SignIn(daemon, viewers, sessions, Throttle(time.monotonic, patience.late_s), pages)
    looking = Looking(daemon, viewers, board, Logs(daemon, viewers, patience.beat_s), pages, now)
    actions = Actions(daemon, viewers, sessions, board, pages, config.default_template)
    terminals = Terminals(config.gateway, viewers, patience.check_s)

    def get(path: str, endpoint: Callable[[Request], object]) -> Route:
        return Route(path, endpoint, methods=["GET"])

    def post(path: str, endpoint: Callable[[Request], object]) -> Route:
        return Route(path, endpoint, methods=["POST"])

    routes = [
        get("/", looking.everything),
        get("/new", actions.ask_new),
        post("/new", actions.make),
        get("/sandboxes/{sandbox_id}", looking.sandbox),
        get("/sandboxes/{sandbox_id}/events", looking.events),
        get("/sandboxes/{sandbox_id}/log", looking.log),
        get("/sandboxes/{sandbox_id}/log.txt", looking.log_text),
        get("/sandboxes/{sandbox_id}/kill", actions.ask_kill),
        post("/sandboxes/{sandbox_id}/{action}", actions.act),
        WebSocketRoute("/sandboxes/{sandbox_id}/terminal", terminals.serve),
        get("/host", looking.host),
        get("/host/examination", looking.examination),
        get("/sign-in", entry.form),
        post("/sign-in", entry.enter),
        post("/sign-out", entry.leave),
        get("/assets/{name}", assets.serve),
        get("/health", looking.health),
    ]

    async def signed_out(request: Request, _: Exception) -> Response:
        """A poll of a page cannot show the form: it sends the whole page there."""
        if is_part(request):
            return Response(None, 401, {"HX-Redirect": "/sign-in"})
        if request.method == "GET" and request.headers.get("accept", "").startswith("text/event-stream"):
            return Response(None, 401)
        return RedirectResponse("/sign-in", 303)

    async def refused(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            words = {404: "There is no such page.", 405: "This address does not take that."}
            error = Refused(error.status_code, words.get(error.status_code, str(error.detail)))
        if not isinstance(error, Refused):
            raise error
        headers = {"Retry-After": str(error.retry_after_s)} if error.retry_after_s else {}
        if is_part(request):
            # Whatever was to be put somewhere, this is not it.
            headers |= {"HX-Retarget": "#said", "HX-Reswap": "innerHTML"}
            return pages.answer(request, "said", None, error.status, headers, said=error.message, good=False)
        try:
            viewer = await viewers.of(request)
        except (SignedOut, Refused):
            viewer = None
        return pages.answer(request, "error", viewer, error.status, headers, message=error.message)

    async def unexpected(request: Request, _: Exception) -> Response:
        """Starlette raises it again afterwards, so that the server logs it."""
        message = "Something went wrong in the console itself. Its log has it: journalctl -u '*-console'"
        template = "said" if is_part(request) else "error"
        headers = {"HX-Retarget": "#said", "HX-Reswap": "innerHTML"}
        return pages.answer(request, template, None, 500, headers, said=message, message=message, good=False)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await daemon.close()

    handlers = {SignedOut: signed_out, Refused: refused, HTTPException: refused, Exception: unexpected}
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)
    return Guard(app, config.origin)
