"""Builds of templates, as E2B's clients ask for them: each on one host, from its name and its files to its logs."""

from typing import Any
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fleet import lists, moves
from fleet.common import ByKey, body_of, every
from fleet.forward import Forwarded, given, onward
from fleet.nodes import KEYS, Answer, Node
from fleet.services import Services
from sandboxd.e2b.tags import template_name
from sandboxd.errors import HostFull

MOVED = 1000  # builds that are remembered


class BuildsApi(ByKey):
    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._moved: dict[str, Node] = {}  # builds that are not where their names have their homes

    def routes(self) -> list[Route]:
        return [
            Route("/v3/templates", self.build, methods=["POST"]),
            Route("/templates/{name}/files/{digest}", self.files, methods=["GET"]),
            Route("/build-files/{digest}", self.upload, methods=["PUT"]),
            Route("/v2/templates/{name}/builds/{build_id}", self.start_build, methods=["POST"]),
            every("/v2/templates/{name}/builds/{build_id}", self.built),
            every("/templates/{name}/builds/{build_id}/{rest:path}", self.built),
        ]

    def builder(self, name: str) -> Node:
        """The host that builds the template of that name: the one that has it already, or else its home. Raises
        Unreachable if a host may have it that was never heard.
        """
        if (node := self.maker(name)) is None:
            self.services.check_heard(f"template {name!r}")
        return node or self.home(name)

    def home(self, name: str) -> Node:
        return self.services.placing.home(template_name(name).partition(":")[0])

    async def build(self, request: Request) -> Response:
        body, values = await body_of(request)
        name = (values or {}).get("name") or (values or {}).get("alias") or ""
        return given(await self.ask(self.builder(name) if isinstance(name, str) else self.nodes.any, request, body))

    def place_of(self, name: str, build_id: str) -> Node:
        """Where a build went, or else where it is, unless another host has become the home of its name since."""
        try:
            return self._moved.get(build_id) or self.maker(name) or self.home(name)
        except HostFull:  # no host takes anything new, which this build is not
            return self.nodes.any

    async def start_build(self, request: Request) -> Response:
        answer = await self.begin(request)
        if answer.status == 404 and await self.key_of(request) is not None and await self.look_for_build(request):
            answer = await self.begin(request)
        return given(answer)

    async def look_for_build(self, request: Request) -> bool:
        """Whether it is on another host than it should be: a host has come or gone since it was asked for."""
        name, build_id = request.path_params["name"], request.path_params["build_id"]
        headers = [one for one in onward(request.headers.raw) if not one[0].startswith(b"content-")]
        path = f"/templates/{quote(name)}/builds/{quote(build_id)}/status"
        others = [node for node in self.nodes.living if node is not self.place_of(name, build_id)]
        found = await lists.gathered(others, lambda node: node.ask("GET", path, api=KEYS, headers=headers))
        where = next((other for other, answer in found.items() if answer.status == 200), "")
        if where:
            self.went(build_id, self.nodes[where])
        return bool(where)

    async def begin(self, request: Request) -> Answer:
        """A build is known where its name has its home, before it says what it is built on: it goes where that is."""
        body, values = await body_of(request)
        key = await self.key_of(request)
        name, build_id = request.path_params["name"], request.path_params["build_id"]
        node = self.place_of(name, build_id)
        if key is not None and values is not None and (base := base_of(values)):
            if self.maker(base) is None and template_name(base) not in self.services.config.templates:
                await self.look_again(request)
            parent = self.maker(base)
            if parent is not None and parent is not node:
                self.services.check_name(parent, name)
                parent.check()
                refusal = await moves.move(moves.Build(build_id, name, key.name, moves.files_of(values)), node, parent)
                if refusal is not None:
                    return refusal
                self.went(build_id, parent)
                node = parent
        return await self.ask(node, request, body)

    async def built(self, request: Request) -> Response:
        """Where the name has its home; or where the build went, which another manager may have seen to."""
        build_id, name = request.path_params["build_id"], request.path_params["name"]
        node, body = self.place_of(name, build_id), await request.body()
        answer = await self.ask(node, request, body)
        if answer.status == 404:
            others = [one for one in self.nodes.living if one is not node]
            found = await lists.gathered(others, lambda one: self.ask(one, request, body))
            for other, elsewhere in found.items():
                if elsewhere.status < 300:
                    self.went(build_id, self.nodes[other])
                    answer = elsewhere
        return given(answer)

    def went(self, build_id: str, node: Node) -> None:
        self._moved[build_id] = node
        for old in list(self._moved)[:-MOVED]:
            del self._moved[old]

    async def files(self, request: Request) -> Response:
        """The upload that its answer names has no template in its path, so it gets the host in its query."""
        node = self.builder(request.path_params["name"])
        answer = await self.ask(node, request)
        if answer.status != 201 or not (url := answer.json().get("url")):
            return given(answer)
        return JSONResponse({**answer.json(), "url": f"{url}&{urlencode({'node': node.name})}"}, 201)

    async def upload(self, request: Request) -> Response:
        node = self.nodes.get(request.query_params.get("node", "")) or self.nodes.any
        node.check()
        return Forwarded(node, KEYS, self.services.streams)


def base_of(values: dict[str, Any]) -> str:
    """What a build names as the template, or the image, that it is built on; empty for none."""
    named = values.get("fromTemplate") or values.get("fromImage")
    return named if isinstance(named, str) else ""
