"""Who may ask what: whoever can open the Unix socket is trusted with everything."""

from fastapi import Depends, Request
from starlette.types import Scope

from sandboxd.errors import Unauthorised


def authorise(request: Request) -> None:
    """A second lock: what comes by TCP is given to another application already."""
    if unix_socket(request.scope) is None:
        raise Unauthorised("Invalid API key")


def unix_socket(scope: Scope) -> str | None:
    """The path of the Unix socket that a request came to; None when it came by TCP.

    uvicorn names our end of the connection: (path, None) for a Unix socket, (host, port) for TCP.
    """
    server = scope.get("server")
    return str(server[0]) if server is not None and server[1] is None else None


def bearer(request: Request) -> str:
    """The secret of `Authorization: Bearer`, empty without one."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


TRUSTED = [Depends(authorise)]
