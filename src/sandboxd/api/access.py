"""Who may ask what."""

from fastapi import Depends, Request

from sandboxd.errors import Unauthorised


def authorise(request: Request) -> None:
    """Whoever can open the Unix socket is trusted; TCP needs a key. No keys exist yet, so TCP is refused."""
    if not came_by_unix_socket(request):
        raise Unauthorised("Invalid API key")


def came_by_unix_socket(request: Request) -> bool:
    """uvicorn names our end of the connection: (path, None) for a Unix socket, (host, port) for TCP."""
    server = request.scope.get("server")
    return server is not None and server[1] is None


TRUSTED = [Depends(authorise)]
