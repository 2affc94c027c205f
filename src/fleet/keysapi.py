"""E2B's API for the whole fleet, to whoever has a key. The hosts check it themselves, and answer in their words."""

import re
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from fleet import lists, wishes
from fleet.buildsapi import BuildsApi
from fleet.common import ByKey, application, body_of, every
from fleet.forward import given, target, without_body
from fleet.nodes import KEYS, Node
from fleet.services import Services
from sandboxd.e2b.tags import template_name
from sandboxd.records import ApiKey

REPEAT = re.compile(r"[A-Za-z0-9-]{1,255}")


class KeysApi(ByKey):
    def __init__(self, services: Services) -> None:
        super().__init__(services)
        self._builds = BuildsApi(services)

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
            *self._builds.routes(),
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

    async def create(self, request: Request) -> Response:
        body, values = await body_of(request)
        key = await self.key_of(request)
        wish = None if key is None or values is None else await self.wish(key, values)
        if wish is None:
            return given(await self.ask(self.nodes.any, request, body))
        header = request.headers.get("idempotency-key", "")
        headers = without_body(request.headers.raw)
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
        self.services.placing.check_takes(node.name, f"sandbox '{request.path_params['sandbox_id']}'")
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
        if isinstance(answers := await self.all_of(request), Response):
            return answers
        rows, headers = lists.page(self.index, answers, request.query_params, key.name)
        return JSONResponse(rows, headers=headers)

    async def running(self, request: Request) -> Response:
        if (key := await self.key_of(request)) is None:
            return await self.anywhere(request)
        if isinstance(answers := await self.all_of(request), Response):
            return answers
        lost = [row for row in lists.lost_rows(self.index, answers) if row["owner"] == key.name]
        lost = [row for row in lost if lists.was_running(self.index, row)]
        lost = [lists.shown(self.index, row) for row in lost if lists.wanted(self.index, row, request.query_params)]
        return JSONResponse(lists.joined(answers) + lost)

    async def metrics(self, request: Request) -> Response:
        """Each host tells of those that it has."""
        if await self.key_of(request) is None:
            return await self.anywhere(request)
        if isinstance(answers := await self.all_of(request), Response):
            return answers
        merged = {name: one for answer in answers.values() for name, one in answer.json()["sandboxes"].items()}
        return JSONResponse({"sandboxes": merged})

    async def joined(self, request: Request) -> Response:
        if await self.key_of(request) is None:
            return await self.anywhere(request)
        if isinstance(answers := await self.all_of(request), Response):
            return answers
        return JSONResponse(lists.joined(answers))

    async def templates(self, request: Request) -> Response:
        if await self.key_of(request) is None:
            return await self.anywhere(request)
        if isinstance(answers := await self.all_of(request), Response):
            return answers
        configured = self.services.config.templates
        return JSONResponse(lists.united(answers, "templateID", lambda row: row["templateID"] not in configured))

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
        if not having:
            self.services.check_heard(f"a volume of the key {key.name!r}")
        node = self.nodes[having[0]] if having else self.services.placing.home(key.name)
        node.check()
        answer = await self.ask(node, request, body)
        await self.index.read(node)
        return given(answer)


def build(services: Services) -> Starlette:
    return application(KeysApi(services).routes())
