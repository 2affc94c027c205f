"""What both APIs of the fleet do alike: requests about one sandbox, template or volume go to the host that has it."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fleet import lists
from fleet.forward import Forwarded, given, target, without_body
from fleet.nodes import KEYS, Answer, Node
from fleet.services import Services
from sandboxd.api.answers import answer_errors
from sandboxd.bodies import BodyLimit, DrainedBody
from sandboxd.e2b.tags import template_name
from sandboxd.records import ApiKey

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SAFE = ("GET", "HEAD", "OPTIONS")
Handler = Callable[[Request], Awaitable[Response]]


class Common:
    """Handlers; `api` is the one of the hosts' two that they lead to."""

    def __init__(self, services: Services, api: str) -> None:
        self.services, self.nodes, self.index, self.api = services, services.nodes, services.index, api

    async def anywhere(self, request: Request) -> Response:
        """What every host answers alike."""
        return Forwarded(self.nodes.any, self.api, self.services.streams)

    async def sandbox(self, request: Request) -> Response:
        sandbox_id = request.path_params["sandbox_id"]
        node = await self.node_of(request)

        async def ended(status: int) -> None:
            if status == 204:
                await self.services.ended(node, self.index.whole(node.name, sandbox_id))

        kills = request.method == "DELETE" and not request.path_params.get("rest")
        return Forwarded(node, self.api, self.services.streams, ended if kills else None)

    async def node_of(self, request: Request) -> Node:
        """The host that has the sandbox that a request names."""
        return await self.services.node_of(request.path_params["sandbox_id"])

    async def template(self, request: Request) -> Response:
        """One that is nowhere is known to no host, and any says so."""
        name = request.path_params["name"]
        if self.maker(name) is None and template_name(name) not in self.services.config.templates:
            await self.look_again(request)
        return self.changing(self.maker(name) or self.nodes.any, request)

    async def volume(self, request: Request) -> Response:
        wanted = request.path_params["volume_id"]
        if not self.index.volume(wanted):
            await self.look_again(request)
        name = self.index.volume(wanted)
        node = self.nodes[name] if name else self.nodes.any
        node.check()
        return self.changing(node, request)

    async def look_again(self, request: Request) -> None:
        """What is asked for is not known: it may have been made by way of another manager just now."""
        await self.index.read_all()

    def changing(self, node: Node, request: Request) -> Response:
        """Forwarded; and afterwards it is known what the host has now."""
        node.check()
        return Forwarded(node, self.api, self.services.streams, None if request.method in SAFE else self.reread(node))

    def reread(self, node: Node) -> Callable[[int], Awaitable[None]]:
        async def read(status: int) -> None:
            if status < 300:
                await self.index.read(node)

        return read

    def maker(self, name: str) -> Node | None:
        """The host on which that template was made; a build of it by a tag counts as well."""
        plain = template_name(name)
        for one in (plain, plain.partition(":")[0]):
            if found := self.index.template(one):
                return self.nodes[found]
        return None

    async def all_of(self, request: Request, body: bytes = b"") -> dict[str, Answer] | Response:
        """What all hosts that answer say to the same request; or the answer to it, if one refuses or none answers."""
        answers = await lists.gathered(self.nodes.values(), lambda node: self.ask(node, request, body))
        if not answers:
            return given(await self.ask(self.nodes.any, request, body))
        return refused(answers) or answers

    async def ask(self, node: Node, request: Request, body: bytes = b"") -> Answer:
        """The same request to that host, its answer read whole."""
        headers = without_body(request.headers.raw)
        where = target(request.scope).decode("latin-1")
        return await node.ask(request.method, where, api=self.api, headers=headers, body=body)


class ByKey(Common):
    """Handlers for whoever comes with a key. What a stranger asks goes to one host, which refuses it."""

    def __init__(self, services: Services) -> None:
        super().__init__(services, KEYS)

    async def key_of(self, request: Request) -> ApiKey | None:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        given_key = request.headers.get("x-api-key") or (secret.strip() if scheme.lower() == "bearer" else "")
        return await self.services.keys.find(given_key)

    async def look_again(self, request: Request) -> None:
        """For a stranger nobody is asked anything."""
        if await self.key_of(request) is not None:
            await super().look_again(request)


async def body_of(request: Request) -> tuple[bytes, dict[str, Any] | None]:
    """The body, and what it says; None for what is no JSON object, which is for a host to refuse."""
    content = await request.body()
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return content, None
    return content, value if isinstance(value, dict) else None


def refused(answers: Mapping[str, Answer]) -> Response | None:
    """The first answer that is no success, as it came."""
    return next((given(answer) for answer in answers.values() if answer.status >= 300), None)


def application(routes: list[Route]) -> Starlette:
    app = Starlette(routes=routes)
    app.add_middleware(BodyLimit)
    app.add_middleware(DrainedBody)  # outermost: whoever refuses
    answer_errors(app)
    app.router.redirect_slashes = False
    return app


def every(path: str, handler: Handler) -> Route:
    """For all methods: which of them there are, the hosts know."""
    return Route(path, handler, methods=list(METHODS))
