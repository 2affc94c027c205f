"""Templates become answers: a whole page, or the part of one that htmx asked for. Everything is escaped."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from console import views
from console.served import Assets
from console.sessions import Sessions
from console.viewer import Viewer

TEMPLATES = Path(__file__).parent / "templates"


class Pages:
    def __init__(self, assets: Assets, sessions: Sessions, domain: str) -> None:
        self._sessions = sessions
        self._templates = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals |= {"asset": assets.url, "domain": domain, "views": views}

    def answer(
        self,
        request: Request,
        template: str,
        viewer: Viewer | None,
        status: int = 200,
        headers: dict[str, str] | None = None,
        **values: Any,
    ) -> HTMLResponse:
        """`template` without its ending. It decides itself what a whole page has around it; see `base.html`."""
        token = self._sessions.token(viewer.session) if viewer else ""
        text = self._templates.get_template(f"{template}.html").render(
            viewer=viewer, token=token, part=is_part(request), path=request.url.path, **values
        )
        return HTMLResponse(text, status, headers)


def is_part(request: Request) -> bool:
    """Whether htmx asks, to put the answer into a page that is there."""
    return request.headers.get("hx-request") == "true"
