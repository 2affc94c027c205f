"""Signing in with a key, and out. The key is looked up at sandboxd and forgotten: the session holds its id alone."""

import logging
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from console import forms
from console.daemon import Daemon
from console.errors import Refused, SignedOut
from console.rendering import Pages
from console.sessions import LIFE_S, Sessions, set_cookie
from console.throttle import Throttle
from console.viewer import Viewers, address_of, asking

log = logging.getLogger(__name__)

MAX_KEY = 200
WRONG = "This key opens nothing. It was revoked, or is not written as it was shown."


@dataclass(frozen=True)
class SignIn:
    daemon: Daemon
    viewers: Viewers
    sessions: Sessions
    throttle: Throttle
    pages: Pages

    async def form(self, request: Request) -> Response:
        try:
            await self.viewers.of(request)
        except (SignedOut, Refused):
            return self._page(request, "", 200)
        return RedirectResponse("/", 303)

    async def enter(self, request: Request) -> Response:
        address = address_of(request)
        try:
            self.throttle.check(address)
            found = await forms.fields(request)
            key = await self._key(found.get("key", "").strip(), address)
        except Refused as refused:
            if refused.status == 401:
                await self.throttle.failed(address)
                log.info("a sign-in from %s failed", address)
            headers = {"Retry-After": str(refused.retry_after_s)} if refused.retry_after_s else {}
            return self._page(request, refused.message, refused.status, headers)
        self.throttle.succeeded(address)
        session = self.sessions.begin(key["keyID"])
        log.info("key %s (%s) signed in from %s", key["keyID"], key["name"], address)
        return RedirectResponse("/", 303, {"Set-Cookie": set_cookie(self.sessions.text(session), LIFE_S)})

    async def leave(self, request: Request) -> Response:
        try:
            viewer = await self.viewers.of(request)
        except SignedOut:
            return RedirectResponse("/sign-in", 303)
        forms.check_token(await forms.fields(request), self.sessions.token(viewer.session))
        self.sessions.end(viewer.session)
        headers = {"Set-Cookie": set_cookie("", 0), "Clear-Site-Data": '"cache", "storage"'}
        return RedirectResponse("/sign-in", 303, headers)

    async def _key(self, text: str, address: str) -> dict[str, str]:
        """Raises Refused; with 401 for what is no key."""
        if not text:
            raise Refused(400, "Give the key: e2b_ and 40 more characters.")
        if len(text) > MAX_KEY or not text.isprintable():
            raise Refused(401, WRONG)
        try:
            key: dict[str, str] = await self.daemon.post("/keys/find", {"key": text}, asking(address))
        except Refused as refused:
            raise Refused(401, WRONG) if refused.status in (400, 401) else refused from None
        return key

    def _page(self, request: Request, trouble: str, status: int, headers: dict[str, str] | None = None) -> Response:
        return self.pages.answer(request, "sign-in", None, status, headers, trouble=trouble)
