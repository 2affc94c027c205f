"""E2B's API for the whole fleet, to whoever has a key. The hosts check it themselves, and answer in their words."""

import re
from typing import Any
from urllib.parse import quote, urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from fleet import lists, moves, wishes
from fleet.common import Common, application, body_of, every, refused
from fleet.forward import Forwarded, given, onward, target
from fleet.nodes import KEYS, Answer, Node
from fleet.services import Services
from sandboxd.e2b.tags import template_name
from sandboxd.errors import HostFull
from sandboxd.records import ApiKey

MOVED = 1000  # builds that are remembered
REPEAT = re.compile(r"[A-Za-z0-9-]{1,255}")


class KeysApi(Common):
    def __init__(self, services: Services) -> None:
        super().__init__(services, KEYS)
        self._moved: dict[str, Node] = {}  # builds that are not where their names have their homes

    def routes(self) -> list[Route]:
        return [
            Route("/health", self.health, methods=["GET"]),
            Route("/sandboxes", self.create, methods=["POST"]),
            Route("/v2/sandboxes", self.create, methods=["POST"]),
            Route("/sandboxes", self.running, methods=["GET"]),
            Route("/v2/sandboxes", self.page, methods=["GET"]),
            Route("/sandboxes/metrics", self.metrics, methods=["GET"]),
            Route("/sandboxes/{sandbox_id}/fork", self.fork, methods=["POST"]),
            Route("/sandboxes/{sandbox_id}/snapshots", self.snapshot, methods=["POST"]),
            every("/sandboxes/{sandbox_id}", self.own),
            every("/sandboxes/{sandbox_id}/{rest:path}", self.own),
            every("/v2/sandboxes/{sandbox_id}/{rest:path}", self.own),
            Route("/snapshots", self.joined, methods=["GET"]),
            Route("/templates", self.templates, methods=["GET"]),
            Route("/v2/templates", self.templates, methods=["GET"]),
            Route("/v3/templates", self.build, methods=["POST"]),
            Route("/templates/{name}/files/{digest}", self.files, methods=["GET"]),
            Route("/build-files/{digest}", self.upload, methods=["PUT"]),
            Route("/v2/templates/{name}/builds/{build_id}", self.start_build, methods=["POST"]),
            every("/v2/templates/{name}/builds/{build_id}", self.built),
            every("/templates/{name}/builds/{build_id}/{rest:path}", self.built),
            Route("/templates/tags", self.tags, methods=["POST", "DELETE"]),
            every("/templates/aliases/{name:path}", self.template),
            every("/templates/{name:path}/tags", self.template),
            every("/templates/{name}", self.template),
            every("/v2/templates/{name}", self.template),
            Route("/volumes", self.joined, methods=["GET"]),
            Route("/volumes", self.new_volume, methods=["POST"]),
            every("/volumes/{volume_id}", self.volume),
            every("/volumecontent/{volume_id}/{rest:path}", self.volume),
            every("/{rest:path}", self.anywhere),
        ]

    async def key_of(self, request: Request) -> ApiKey | None:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        given_key = request.headers.get("x-api-key") or (secret.strip() if scheme.lower() == "bearer" else "")
        return await self.services.keys.find(given_key)

    async def health(self, _: Request) -> Response:
        count = len(self.nodes) - len(self.nodes.living)
        return PlainTextResponse(f"{count} hosts are lost: docker-sandbox node ls names them\n" if count else "ok\n")

    async def own(self, request: Request) -> Response:
        """Of a stranger's request no other host hears."""
        if await self.key_of(request) is None:
            return await self.anywhere(request)
        return await self.sandbox(request)

    async def node_of(self, request: Request) -> Node:
        """By the whole id, as on a single host."""
        return await self.services.node_of(request.path_params["sandbox_id"], whole=True)

    async def look_again(self, request: Request) -> None:
        """For a stranger nobody is asked anything."""
        if await self.key_of(request) is not None:
            await super().look_again(request)

    async def create(self, request: Request) -> Response:
        body, values = await body_of(request)
        key = await self.key_of(request)
        wish = None if key is None or values is None else await self.wish(key, values)
        if wish is None:
            return given(await self.ask(self.nodes.any, request, body))
        header = request.headers.get("idempotency-key", "")
        headers = [one for one in onward(request.headers.raw) if one[0] != b"content-length"]
        repeat = header if REPEAT.fullmatch(header) else ""
        asked = wishes.Request(KEYS, target(request.scope).decode("latin-1"), headers, body, repeat)
        return given(await self.services.placing.create(asked, wish, key))

    async def wish(self, key: ApiKey, values: dict[str, Any]) -> wishes.Wish | None:
        """None for a body that any host refuses."""
        template, mounts = values.get("templateID"), values.get("volumeMounts") or []
        if not isinstance(template, str) or not isinstance(mounts, list):
            return None
        titles = [one.get("name") if isinstance(one, dict) else None for one in mounts]
        if not all(isinstance(title, str) for title in titles):
            return None
        return await self.services.wish(template_name(template), key.name, titles=titles)

    async def fork(self, request: Request) -> Response:
        """All copies, or none: so many more the key may have in the whole fleet."""
        key = await self.key_of(request)
        body, values = await body_of(request)
        if key is None:
            return given(await self.ask(self.nodes.any, request, body))
        node = await self.node_of(request)
        number = (values or {}).get("count", 1)
        async with self.services.limits.place(key, number if type(number) is int and number > 0 else 1):
            answer = await self.ask(node, request, body)
            await self.index.read(node)
        if answer.status < 300:  # the copies are reached by their names
            await self.services.gateway.sync()
            await self.services.placing.tell(node)
        return given(answer)

    async def snapshot(self, request: Request) -> Response:
        key = await self.key_of(request)
        body, values = await body_of(request)
        if key is None:
            return given(await self.ask(self.nodes.any, request, body))
        node = await self.node_of(request)
        self.services.check_name(node, (values or {}).get("name"))
        answer = await self.ask(node, request, body)
        await self.index.read(node)
        return given(answer)

    async def page(self, request: Request) -> Response:
        if (key := await self.key_of(request)) is None:
            return await self.anywhere(request)
        answers = await lists.gathered(self.nodes.values(), lambda node: self.ask(node, request))
        if (refusal := refused(answers)) is not None or not answers:  # no host answers
            return refusal or await self.anywhere(request)
        rows, headers = lists.page(self.index, answers, request.query_params, key.name)
        return JSONResponse(rows, headers=headers)

    async def running(self, request: Request) -> Response:
        if (key := await self.key_of(request)) is None:
            return await self.anywhere(request)
        answers = await lists.gathered(self.nodes.values(), lambda node: self.ask(node, request))
        if (refusal := refused(answers)) is not None or not answers:
            return refusal or await self.anywhere(request)
        lost = [row for row in lists.lost_rows(self.index, answers) if row["owner"] == key.name]
        lost = [row for row in lost if lists.was_running(self.index, row)]
        lost = [lists.shown(self.index, row) for row in lost if lists.wanted(self.index, row, request.query_params)]
        return JSONResponse(lists.joined(answers) + lost)

    async def metrics(self, request: Request) -> Response:
        """Each host tells of those that it has."""
        if await self.key_of(request) is None:
            return await self.anywhere(request)
        answers = await lists.gathered(self.nodes.living, lambda node: self.ask(node, request))
        if (refusal := refused(answers)) is not None or not answers:
            return refusal or await self.anywhere(request)
        merged = {name: one for answer in answers.values() for name, one in answer.json()["sandboxes"].items()}
        return JSONResponse({"sandboxes": merged})

    async def joined(self, request: Request) -> Response:
        if await self.key_of(request) is None:
            return await self.anywhere(request)
        answers = await lists.gathered(self.nodes.living, lambda node: self.ask(node, request))
        if (refusal := refused(answers)) is not None or not answers:
            return refusal or await self.anywhere(request)
        return JSONResponse(lists.joined(answers))

    async def templates(self, request: Request) -> Response:
        if await self.key_of(request) is None:
            return await self.anywhere(request)
        answers = await lists.gathered(self.nodes.living, lambda node: self.ask(node, request))
        if (refusal := refused(answers)) is not None or not answers:
            return refusal or await self.anywhere(request)
        configured = self.services.config.templates
        return JSONResponse(lists.united(answers, "templateID", lambda row: row["templateID"] not in configured))

    def builder(self, name: str) -> Node:
        """The host that builds the template of that name: the one that has it already, or else its home."""
        return self.maker(name) or self.services.placing.home(template_name(name).partition(":")[0])

    async def build(self, request: Request) -> Response:
        body, values = await body_of(request)
        name = (values or {}).get("name") or (values or {}).get("alias") or ""
        return given(await self.ask(self.builder(name) if isinstance(name, str) else self.nodes.any, request, body))

    def place_of(self, name: str, build_id: str) -> Node:
        """Where a build went, or else where it is, unless another host has become the home of its name since."""
        try:
            return self._moved.get(build_id) or self.builder(name)
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

    async def tags(self, request: Request) -> Response:
        body, values = await body_of(request)
        name = (values or {}).get("target" if request.method == "POST" else "name")
        node = None
        if isinstance(name, str) and (node := self.maker(name)) is None:  # it may have been built a moment ago
            await self.look_again(request)
            node = self.maker(name)
        node = node or self.nodes.any
        node.check()
        answer = await self.ask(node, request, body)
        await self.index.read(node)
        return given(answer)

    async def new_volume(self, request: Request) -> Response:
        """All volumes of a key are on one host, so that one sandbox can have several of them, and are counted there."""
        key = await self.key_of(request)
        body, _ = await body_of(request)
        if key is None:
            return given(await self.ask(self.nodes.any, request, body))
        having = [node for node, _ in self.index.volumes_of(key.name).values()]
        node = self.nodes[having[0]] if having else self.services.placing.home(key.name)
        node.check()
        answer = await self.ask(node, request, body)
        await self.index.read(node)
        return given(answer)


def base_of(values: dict[str, Any]) -> str:
    """What a build names as the template, or the image, that it is built on; empty for none."""
    named = values.get("fromTemplate") or values.get("fromImage")
    return named if isinstance(named, str) else ""


def build(services: Services) -> Starlette:
    return application(KeysApi(services).routes())
