"""Around every request and answer: the headers that tell browsers what a page may do, and who may send what here.

Sandboxes are served below the same domain, so for a browser their pages are of the same site as ours: SameSite keeps
them from nothing. What keeps them is that each request with an effect must name our own origin.
"""

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

SAFE = ("GET", "HEAD")
FOREIGN = "This request does not come from a page of the console."
YEAR_S = 31_536_000


def policy(origin: str) -> str:
    """The Content-Security-Policy. No browser runs what stands in a page, and no page can be framed."""
    socket = origin.replace("https://", "wss://")
    rules = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": f"'self' {socket}",  # older browsers do not take a WebSocket of our own for 'self'
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def headers(origin: str) -> dict[str, str]:
    return {
        "Content-Security-Policy": policy(origin),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        # Not no-referrer: browsers would then send `Origin: null` with our own forms.
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        "Strict-Transport-Security": f"max-age={YEAR_S}",
        "X-Robots-Tag": "noindex, nofollow",
    }


class Guard:
    """ASGI middleware, outermost."""

    def __init__(self, app: ASGIApp, origin: str) -> None:
        self._app, self._origin, self._headers = app, origin, headers(origin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            if Headers(scope=scope).get("origin") != self._origin:
                await WebSocketClose(1008)(scope, receive, send)  # before it is accepted: this is a 403
                return
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                found = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    found[name] = value
                if "cache-control" not in found:
                    found["Cache-Control"] = "no-store"
            await send(message)

        if foreign(scope["method"], Headers(scope=scope), self._origin):
            refusal: Response = PlainTextResponse(f"{FOREIGN}\n", 403)
            await refusal(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)


def foreign(method: str, found: Headers, origin: str) -> bool:
    """Whether a request is another site's doing.

    One with an effect must name our origin. One without may come by a link from elsewhere, as a page of its own; what
    other pages load into themselves is refused.
    """
    if method not in SAFE:
        return found.get("origin") != origin
    site, mode = found.get("sec-fetch-site", "none"), found.get("sec-fetch-mode", "navigate")
    return site not in ("same-origin", "none") and mode != "navigate"
