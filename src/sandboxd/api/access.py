"""Who may ask what: whoever can open the Unix socket is trusted with everything."""

from fastapi import Depends, Request
from starlette.types import Scope

from sandboxd.errors import Unauthorised


def authorise(request: Request) -> None:
    """A second lock: what comes by TCP is given to another application already."""
    if not came_by_unix_socket(request.scope):
        raise Unauthorised("Invalid API key")


def came_by_unix_socket(scope: Scope) -> bool:
    """uvicorn names our end of the connection: (path, None) for a Unix socket, (host, port) for TCP."""
    server = scope.get("server")
    return server is not None and server[1] is None


TRUSTED = [Depends(authorise)]
