"""The interpreter's HTTP surface: which path leads where, who may take it, and how an error is told."""

import logging
import re

from envd.auth import check_token
from envd.config import ConfigSource
from envd.errors import not_found
from envd.web import Receive, Request, Response, Scope, Send, answer
from interpreter import bodies
from interpreter.contexts import Contexts
from interpreter.delivery import deliver

CONTEXT = re.compile(r"/contexts/([^/]+)(/restart)?")

log = logging.getLogger("interpreter")


class Interpreter:
    """The ASGI application."""

    def __init__(self, source: ConfigSource, contexts: Contexts) -> None:
        self._source = source
        self._contexts = contexts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await answer(self._answer, Request(scope, receive), Response(send), "code interpreter", log)

    async def _answer(self, request: Request, response: Response) -> None:
        if request.method == "OPTIONS":
            await response.empty(204)
        elif request.path == "/health":
            request.allow("GET", "HEAD")
            await response.whole(200, {"content-type": "text/plain"}, b"OK")
        elif request.path == "/execute":
            request.allow("POST")
            check_token(request, self._source.current())
            await self._execute(request, response)
        elif request.path == "/contexts" or CONTEXT.fullmatch(request.path):
            # E2B's clients send no token here, so none can be demanded; but a wrong one is an error.
            if request.header("x-access-token") is not None:
                check_token(request, self._source.current())
            await self._manage(request, response)
        else:
            raise not_found(f"nothing is served at {request.path}")

    async def _execute(self, request: Request, response: Response) -> None:
        asked = await bodies.execute(request)
        if asked.context_id is not None:
            context = self._contexts.get(asked.context_id)
        else:
            context = self._contexts.default(asked.language)
        await request.while_connected(deliver(context, asked.code, asked.env_vars, response))

    async def _manage(self, request: Request, response: Response) -> None:
        found = CONTEXT.fullmatch(request.path)
        if found is None:
            request.allow("GET", "HEAD", "POST")
            if request.method == "POST":
                asked = await bodies.create_context(request)
                context = await self._contexts.create(asked.language, asked.cwd)
                await response.json(200, context.described())
            else:
                await response.json(200, [context.described() for context in self._contexts.all()])
        elif found[2]:
            request.allow("POST")
            await self._contexts.restart(found[1])
            await response.json(200, self._contexts.get(found[1]).described())
        else:
            request.allow("DELETE")
            await self._contexts.delete(found[1])
            await response.empty(204)
