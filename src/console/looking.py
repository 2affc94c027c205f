"""The pages that only show: what runs, one sandbox, the host. Parts of them are asked for again every few seconds."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from console import hostview, views
from console.board import Board, Usage
from console.daemon import Daemon
from console.errors import Refused
from console.logs import Logs
from console.rendering import Pages, is_part
from console.viewer import Viewer, Viewers

FRESH_S = 300.0  # an examination takes a second or two of the host's time
REPLACE = {"HX-Reswap": "outerHTML"}
HOST_ONLY = "Your key shows your own sandboxes only. One that shows the host: docker-sandbox key create NAME --host"


@dataclass
class Looking:
    daemon: Daemon
    viewers: Viewers
    board: Board
    logs: Logs
    pages: Pages
    now: Callable[[], float] = time.time
    _examined: hostview.Examination | None = None
    _examining: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def everything(self, request: Request) -> Response:
        """GET /"""
        viewer = await self.viewers.of(request)
        look = await self.board.look()
        rows = [row for row in look.rows if viewer.sees(row)][::-1]  # the newest first
        now = self.now()
        found = [views.shown(row, look.usage.get(row["sandboxID"], Usage()), now) for row in rows]
        return self.pages.answer(request, "list", viewer, found=found, summary=views.summary(rows))

    async def sandbox(self, request: Request) -> Response:
        """GET /sandboxes/{id}"""
        viewer = await self.viewers.of(request)
        try:
            row = await self.viewers.sandbox(viewer, request.path_params["sandbox_id"])
        except Refused as refused:
            if refused.status == 404 and is_part(request):  # it was there before: the page stops to ask
                return self.pages.answer(request, "ended", viewer, headers=REPLACE, message=refused.message)
            raise
        look = await self.board.look()
        one = views.shown(row, look.usage.get(row["sandboxID"], Usage()), self.now())
        life = [] if is_part(request) else await self._life(row["sandboxID"])
        return self.pages.answer(request, "sandbox", viewer, one=one, life=life)

    async def events(self, request: Request) -> Response:
        """GET /sandboxes/{id}/events"""
        try:
            viewer, sandbox_id = await self._seen(request)
        except Refused as refused:
            if refused.status == 404 and is_part(request):
                return Response(None, 204)  # the page says already that it has ended
            raise
        return self.pages.answer(request, "events", viewer, life=await self._life(sandbox_id))

    async def log(self, request: Request) -> Response:
        """GET /sandboxes/{id}/log"""
        viewer, sandbox_id = await self._seen(request)
        return self.logs.follow(viewer, sandbox_id)

    async def log_text(self, request: Request) -> Response:
        """GET /sandboxes/{id}/log.txt"""
        viewer, sandbox_id = await self._seen(request)
        return await self.logs.text(viewer, sandbox_id)

    async def host(self, request: Request) -> Response:
        """GET /host"""
        viewer = await self._host_viewer(request)
        overview, pool = await asyncio.gather(self.daemon.get("/overview"), self.daemon.get("/pool"))
        return self.pages.answer(
            request,
            "host",
            viewer,
            figures=hostview.figures(overview),
            versions=hostview.versions(overview),
            troubles=overview["troubles"],
            pool=pool,
        )

    async def examination(self, request: Request) -> Response:
        """GET /host/examination: the last one, if it is fresh and nobody asks for a `new` one."""
        viewer = await self._host_viewer(request)
        async with self._examining:
            old = self._examined
            age_s = self.now() - old.at if old else FRESH_S
            if old is None or age_s >= FRESH_S or ("new" in request.query_params and age_s >= 2):
                async with self.daemon.stream("POST", "/doctor", {"probe": False}) as found:
                    findings = [one async for one in found]
                old = self._examined = hostview.examination(findings, self.now())
        age = views.span(self.now() - old.at)
        return self.pages.answer(request, "examination", viewer, found=old, age=age)

    async def health(self, _: Request) -> Response:
        """GET /health: that the console itself answers, for whoever watches it."""
        return PlainTextResponse("ok\n")

    async def _seen(self, request: Request) -> tuple[Viewer, str]:
        viewer = await self.viewers.of(request)
        row = await self.viewers.sandbox(viewer, request.path_params["sandbox_id"])
        return viewer, row["sandboxID"]

    async def _life(self, sandbox_id: str) -> list[dict[str, str]]:
        try:
            return await self.logs.life(sandbox_id)
        except Refused:
            return []  # Docker is away: the rest of the page is worth showing

    async def _host_viewer(self, request: Request) -> Viewer:
        viewer = await self.viewers.of(request)
        if not viewer.host:
            raise Refused(403, HOST_ONLY)
        return viewer
