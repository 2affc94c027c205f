"""The agent's HTTP surface: which path leads where, who may take it, and how an error is told. Touches nothing."""

import logging
from collections.abc import Mapping

from envd import connect, filesystem_service
from envd.archives import TAR_TYPE, pack, pack_or_download, unpack
from envd.auth import basic_user, check_token, check_token_or_signature
from envd.config import AgentConfig, ConfigSource
from envd.downloads import BYTES_TYPE, download
from envd.errors import ClientDisconnected, EnvdError
from envd.metrics import Metrics
from envd.process_service import ProcessService
from envd.processes import ProcessTable
from envd.uploads import upload
from envd.users import find_user
from envd.watch_service import WatchService
from envd.web import Receive, Request, Response, Scope, Send, answer

log = logging.getLogger("envd")


class Agent:
    """The ASGI application."""

    def __init__(self, source: ConfigSource, table: ProcessTable) -> None:
        self._source = source
        self._metrics = Metrics()
        services = {
            "process.Process": ProcessService(table).methods(),
            "filesystem.Filesystem": {**filesystem_service.methods(), **WatchService().methods()},
        }
        self._rpc: Mapping[str, connect.Method] = {
            f"/{service}/{name}": method for service, methods in services.items() for name, method in methods.items()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await answer(self._answer, Request(scope, receive), Response(send), "agent", log)

    async def _answer(self, request: Request, response: Response) -> None:
        if request.method == "OPTIONS" or (request.method in ("GET", "HEAD") and request.path == "/health"):
            await response.empty(204)
            return
        config = self._source.current()
        if request.path == "/files":
            check_token_or_signature(request, config)
            await _files(request, response, config)
            return
        check_token(request, config)
        if (method := self._rpc.get(request.path)) is not None:
            await _call(method, request, response, config)
        elif request.path == "/metrics":
            request.allow("GET", "HEAD")
            await response.json(200, self._metrics.sample("/"))
        elif request.path == "/envs":
            request.allow("GET", "HEAD")
            await response.json(200, config.sandbox_envs())
        else:
            raise EnvdError("not_found", f"nothing is served at {request.path}")


async def _files(request: Request, response: Response, config: AgentConfig) -> None:
    """The user comes from the query alone: a signature covers it, and an Authorization header it does not."""
    request.allow("GET", "HEAD", "POST")
    user = find_user(request.query.get("username") or config.user)
    if request.method == "POST":
        transfer = unpack if request.content_type == TAR_TYPE else upload
    else:
        accepted = request.header("accept") or ""
        transfer = download if TAR_TYPE not in accepted else pack_or_download if BYTES_TYPE in accepted else pack
    await transfer(request, response, user, config.workdir)


async def _call(method: connect.Method, request: Request, response: Response, config: AgentConfig) -> None:
    """An RPC; what fails before its stream has begun is told in the words of Connect."""
    try:
        codec = connect.negotiate(method, request)
        user = find_user(basic_user(request) or config.user)
        await connect.serve(method, codec, connect.Call.of(request, user, config), request, response)
    except ClientDisconnected:
        raise
    except EnvdError as error:
        if response.started:
            raise
        await response.json(error.status, {"code": error.code, "message": error.message}, error.headers)
