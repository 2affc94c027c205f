"""The API of the Unix socket for the whole fleet: what the command line on a manager asks."""

import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, replace
from typing import Any
from urllib.parse import urlencode

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from fleet import lists, sums, wishes
from fleet.common import SAFE, Common, application, body_of, every, refused
from fleet.errors import FleetError
from fleet.forward import Streaming, given, target, without_body
from fleet.nodes import TRUSTED, Node, Unreachable
from fleet.placing import Leaderless
from fleet.services import Services
from sandboxd.errors import BadRequest
from sandboxd.records import ApiKey

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class TrustedApi(Common):
    def __init__(self, services: Services) -> None:
        super().__init__(services, TRUSTED)

    def routes(self) -> list[Route]:
        return [
            Route("/health", self.health, methods=["GET"]),
            Route("/nodes", self.node_rows, methods=["GET"]),
            Route("/nodes/{name}/look", self.look, methods=["GET"]),
            Route("/nodes/{name}/{action}", self.node, methods=["POST"]),
            Route("/v2/sandboxes", self.create, methods=["POST"]),
            Route("/v2/sandboxes", self.sandboxes, methods=["GET"]),
            Route("/sandboxes/{sandbox_id}/snapshots", self.snapshot, methods=["POST"]),
            every("/sandboxes/{sandbox_id}", self.sandbox),
            every("/sandboxes/{sandbox_id}/{rest:path}", self.sandbox),
            every("/logs/{sandbox_id}", self.sandbox),
            Route("/find", self.find, methods=["GET"]),
            Route("/stats", self.stats, methods=["GET"]),
            Route("/doctor", self.doctor, methods=["POST"]),
            Route("/metrics", self.metrics, methods=["GET"]),
            Route("/overview", self.merged(sums.overview), methods=["GET"]),
            Route("/pool", self.merged(sums.pools), methods=["GET", "POST"]),
            Route("/pool/resize", self.merged(sums.pools), methods=["POST"]),
            Route("/routes", self.merged(sums.routes), methods=["GET"]),
            Route("/routes/sync", self.merged(sums.routes), methods=["POST"]),
            Route("/cleanup", self.merged(sums.cleanup), methods=["POST"]),
            Route("/templates", self.templates, methods=["GET"]),
            Route("/templates/{name}/build", self.build, methods=["POST"]),
            every("/templates/{name}", self.template),
            Route("/volumes", self.volumes, methods=["GET"]),
            every("/volumes/{volume_id}", self.volume),
            Route("/keys", self.keys, methods=["GET"]),
            every("/keys", self.keeper),
            every("/keys/{rest:path}", self.keeper),
            every("/{rest:path}", self.anywhere),
        ]

    async def health(self, _: Request) -> Response:
        lines = [node.obituary for node in self.nodes.values() if node.lost_since is not None]
        return PlainTextResponse("\n".join(lines or ["ok"]) + "\n")

    async def node_rows(self, _: Request) -> Response:
        return JSONResponse(await self.services.members.rows())

    async def look(self, request: Request) -> Response:
        """Another manager has had something made there: it is reached by way of this one, too, from now on."""
        await self.index.read(self.services.members.named(request.path_params["name"]))
        await self.services.gateway.sync()
        return Response(status_code=204)

    async def node(self, request: Request) -> Response:
        """Cordons, drains or activates a host; the answer is its row. Or it is off: what became of its sandboxes."""
        name, action = request.path_params["name"], request.path_params["action"]
        members = self.services.members
        _, values = await body_of(request)
        now = (values or {}).get("now", False)
        if not isinstance(now, bool):
            raise BadRequest(f"now: {now!r} is neither true nor false")
        try:
            if action == "fenced":
                return JSONResponse(asdict(await self.services.fencing.fenced(name)))
            if action == "cordon":
                await members.cordon(name)
            elif action == "drain":
                await members.drain(name, now, self.services.ended)
            elif action == "activate":
                await members.activate(name)
            else:
                raise BadRequest(f"{action!r} is none of cordon, drain, activate and fenced")
        except FleetError as error:
            raise Leaderless(str(error)) from error
        (row,) = (row for row in await members.rows() if row["name"] == name)
        return JSONResponse(row)

    async def create(self, request: Request) -> Response:
        body, values = await body_of(request)
        key_id = (values or {}).get("keyID") or ""
        key = await self.services.keys.get(key_id) if key_id and isinstance(key_id, str) else None
        wish = None if values is None else await self.wish(values, key)
        if wish is None:
            return given(await self.ask(self.nodes.any, request, body))
        if values and values.get("here") is True:  # whoever asks needs it beside the gateway of this manager
            wish = replace(wish, bound={**wish.bound, self.nodes.own: "what is asked for here"})
        headers = without_body(request.headers.raw)
        asked = wishes.Request(TRUSTED, target(request.scope).decode("latin-1"), headers, body)
        return given(await self.services.placing.create(asked, wish, key))

    async def wish(self, values: dict[str, Any], key: ApiKey | None) -> wishes.Wish | None:
        """None for a body that any host refuses."""
        template, volume = values.get("templateID") or "", values.get("volume") or ""
        if not isinstance(template, str) or not isinstance(volume, str):
            return None
        chosen = template or self.services.config.default_template
        plain = not (values.get("cold") or values.get("diskMB"))
        owner, shared = key.name if key else "", values.get("shared") is True
        return await self.services.wish(chosen, owner, volume=volume, plain=plain, shared=shared)

    async def sandboxes(self, request: Request) -> Response:
        answers = await lists.gathered(self.nodes.values(), lambda node: self.ask(node, request))
        return refused(answers) or JSONResponse(lists.native(self.index, answers))

    async def snapshot(self, request: Request) -> Response:
        body, values = await body_of(request)
        node = await self.node_of(request)
        self.services.check_name(node, (values or {}).get("name"))
        answer = await self.ask(node, request, body)
        await self.index.read(node)
        return given(answer)

    async def find(self, request: Request) -> Response:
        """The id of the sandbox that what a request shows is of: for the gateway of this host, see `gatewayapi`."""
        answers = await lists.gathered(self.nodes.living, lambda node: self.ask(node, request))
        found = next((answer for answer in answers.values() if answer.status == 200), None)
        return Response(status_code=404) if found is None else given(found)

    async def stats(self, request: Request) -> Response:
        """`at` and `clock` are ours: the hosts' counters are read within some milliseconds of each other."""
        wanted: dict[str, list[str]] = {}
        for one in request.query_params.getlist("id"):
            wanted.setdefault((await self.services.node_of(one)).name, []).append(one)

        async def ask(node: Node) -> Any:
            query = urlencode({"id": wanted.get(node.name, [])}, doseq=True)
            return await node.ask("GET", f"/stats?{query}" if query else "/stats")

        asked = [self.nodes[name] for name in wanted] if wanted else self.nodes.living
        answers = await lists.gathered(asked, ask)
        if (refusal := refused(answers)) is not None:
            return refusal
        rows = [{**row, "node": name} for name, one in answers.items() for row in one.json()["sandboxes"]]
        return JSONResponse({"at": time.time(), "clock": time.monotonic(), "sandboxes": rows})

    async def doctor(self, request: Request) -> Response:
        """Each host examines itself, one after the other; its findings have its name before theirs."""
        body, _ = await body_of(request)
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]

        async def findings() -> AsyncIterator[bytes]:
            for node in self.nodes.values():
                try:
                    node.check()
                    async for line in _lines(node, headers, body):
                        yield json.dumps(_of_node(node.name, line)).encode() + b"\n"
                except Unreachable as error:
                    finding = {"name": f"{node.name}: node", "level": "fail", "seen": str(error), "node": node.name}
                    finding["remedy"] = f"look at that host, and at its network: ping {node.address}"
                    yield json.dumps(finding).encode() + b"\n"

        return Streaming(self.services.streams, findings())

    async def metrics(self, _: Request) -> Response:
        answers = await lists.gathered(
            self.nodes.living, lambda node: node.ask("GET", "/metrics", headers=[(b"accept", b"text/plain")])
        )
        pages = {name: answer.body.decode() for name, answer in answers.items() if answer.status == 200}
        return Response(sums.metrics(pages), headers={"Content-Type": METRICS_TYPE})

    def merged(self, merge: Callable[[sums.Values], dict[str, Any]]) -> Callable[[Request], Any]:
        """Asked of every host that answers, and put together."""

        async def handle(request: Request) -> Response:
            body = await request.body()
            if isinstance(answers := await self.all_of(request, body), Response):
                return answers
            if request.method not in SAFE:
                await self.index.read_all()
            return JSONResponse(merge({name: answer.json() for name, answer in answers.items()}))

        return handle

    async def templates(self, request: Request) -> Response:
        if isinstance(answers := await self.all_of(request), Response):
            return answers
        return JSONResponse(lists.united(answers, "templateID", lambda row: row["kind"] != "configured", node=True))

    async def build(self, request: Request) -> Response:
        """Where there is a template of that name already, or its base; or else at the home of the name."""
        name, base = request.path_params["name"], request.query_params.get("base", "")
        node = self.maker(name)
        if node is None:
            self.services.check_heard(f"template {name!r}")
            node = (self.maker(base) if base else None) or self.services.placing.home(name)
        return self.changing(node, request)

    async def volumes(self, request: Request) -> Response:
        if isinstance(answers := await self.all_of(request), Response):
            return answers
        return JSONResponse(lists.volumes(answers))

    async def keys(self, request: Request) -> Response:
        answer = await self.ask(self.services.keys.keeper(), request)
        if answer.status != 200:
            return given(answer)
        rows = [{**row, "sandboxes": self.index.count_of(row["name"])} for row in answer.json()]
        return JSONResponse(rows)

    async def keeper(self, request: Request) -> Response:
        body = await request.body()
        if request.method in SAFE:
            return given(await self.ask(self.services.keys.keeper(), request, body))
        return given(await self.services.keys.change(lambda node: self.ask(node, request, body)))


async def _lines(node: Node, headers: list[tuple[bytes, bytes]], body: bytes) -> AsyncIterator[dict[str, Any]]:
    async def once() -> AsyncIterator[bytes]:
        yield body

    response = await node.open(TRUSTED, "POST", b"/doctor", headers, once())
    try:
        if response.status_code != 200:
            yield json.loads(await response.aread())
            return
        rest = b""
        async for piece in response.aiter_raw():
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                yield json.loads(line)
    except httpx.TransportError as error:  # it has begun, and is gone
        raise node.silent(repr(error)) from error
    finally:
        await response.aclose()


def _of_node(node: str, line: dict[str, Any]) -> dict[str, Any]:
    return {**line, "name": f"{node}: {line['name']}", "node": node} if "name" in line else line


def build(services: Services) -> Starlette:
    return application(TrustedApi(services).routes())
