"""What a viewer does to sandboxes: make one, pause, resume, stop, start, put off its end, kill.

Without scripts each is a form, whose answer is a redirect to a page; htmx gets a sentence that says what has happened.
What sandboxd refuses is shown in its own words.
"""

import logging
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from console import forms, views
from console.board import Board
from console.daemon import Daemon
from console.errors import Refused
from console.rendering import Pages, is_part
from console.sessions import Sessions
from console.viewer import Viewer, Viewers

log = logging.getLogger(__name__)

MAX_NAME = 128


@dataclass(frozen=True)
class Actions:
    daemon: Daemon
    viewers: Viewers
    sessions: Sessions
    board: Board
    pages: Pages
    default_template: str

    async def act(self, request: Request) -> Response:
        """POST /sandboxes/{id}/{action}"""
        viewer, found = await self._form(request)
        row = await self.viewers.sandbox(viewer, request.path_params["sandbox_id"])
        done = await self._do(viewer, row["sandboxID"], request.path_params["action"], found)
        self.board.forget()
        log.info("key %s (%s): %s %s", viewer.session.key, viewer.name, request.path_params["action"], row["sandboxID"])
        if not is_part(request):
            gone = request.path_params["action"] == "kill"
            return RedirectResponse("/" if gone else f"/sandboxes/{row['sandboxID']}", 303)
        said = f"{row['name'] or row['sandboxID']} is {done}."
        return self.pages.answer(request, "said", viewer, headers={"HX-Trigger": "changed"}, said=said, good=True)

    async def _do(self, viewer: Viewer, sandbox_id: str, action: str, found: dict[str, str]) -> str:
        """Returns what it is now. Raises Refused."""
        path = f"/sandboxes/{sandbox_id}"
        if action == "kill":
            await self.daemon.delete(path, viewer.asking)
        elif action == "extend":
            timeout_s = timeout_of(found)
            await self.daemon.post(f"{path}/timeout", {"timeout": timeout_s}, viewer.asking)
            return "to end in " + views.EXTENSIONS[found["timeout"]] if timeout_s else "without an end"
        elif action in ("resume", "start"):
            await self.daemon.post(f"{path}/{action}", {}, viewer.asking)
        elif action in views.VERBS:
            await self.daemon.post(f"{path}/{action}", None, viewer.asking)
        else:
            raise Refused(404, f"Nothing can be done that is called {action[:40]!r}.")
        return views.VERBS[action][1]

    async def ask_kill(self, request: Request) -> Response:
        """GET /sandboxes/{id}/kill: a page, or what a dialog shows."""
        viewer = await self.viewers.of(request)
        row = await self.viewers.sandbox(viewer, request.path_params["sandbox_id"])
        return self.pages.answer(request, "kill", viewer, row=row)

    async def ask_new(self, request: Request) -> Response:
        """GET /new"""
        viewer = await self.viewers.of(request)
        return await self._new(request, viewer, {}, "", 200)

    async def make(self, request: Request) -> Response:
        """POST /new"""
        viewer, found = await self._form(request)
        try:
            made = await self.daemon.post("/v2/sandboxes", wanted(found) | {"keyID": viewer.session.key}, viewer.asking)
        except Refused as refused:
            return await self._new(request, viewer, found, refused.message, refused.status)
        self.board.forget()
        log.info("key %s (%s): made %s", viewer.session.key, viewer.name, made["sandboxID"])
        where = f"/sandboxes/{made['sandboxID']}"
        if is_part(request):
            return Response(None, 200, {"HX-Redirect": where})
        return RedirectResponse(where, 303)

    async def _new(
        self, request: Request, viewer: Viewer, found: dict[str, str], trouble: str, status: int
    ) -> Response:
        templates = [one["templateID"] for one in await self.daemon.get("/templates")]
        given = {"template": self.default_template, "name": "", "timeout": "3600", "internet": "on"} | (
            {"internet": ""} | found if found else {}
        )
        return self.pages.answer(
            request, "new", viewer, status, templates=templates, given=given, trouble=trouble, max_name=MAX_NAME
        )

    async def _form(self, request: Request) -> tuple[Viewer, dict[str, str]]:
        viewer = await self.viewers.of(request)
        found = await forms.fields(request)
        forms.check_token(found, self.sessions.token(viewer.session))
        return viewer, found


def wanted(found: dict[str, str]) -> dict[str, Any]:
    """The body that asks sandboxd for a new sandbox. Raises Refused.

    One with an end is kept until then; one without is taken by the hourly cleanup, as those of the command line are.
    """
    name, timeout_s = found.get("name", "").strip(), timeout_of(found)
    if len(name) > MAX_NAME:
        raise Refused(400, f"name: has {len(name)} characters; {MAX_NAME} are the most.")
    return {
        "templateID": found.get("template", ""),
        "name": name,
        "timeout": timeout_s,
        "keep": timeout_s is not None,
        "allow_internet_access": found.get("internet") == "on",
    }


def timeout_of(found: dict[str, str]) -> float | None:
    """Seconds; None for no end. Raises Refused."""
    text = found.get("timeout", "")
    if text == views.ENDLESS:
        return None
    if text not in views.EXTENSIONS:
        raise Refused(400, f"timeout: {text[:40]!r} is none of the times that can be chosen.")
    return float(text)
