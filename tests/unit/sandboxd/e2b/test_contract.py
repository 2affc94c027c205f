"""Every operation of the control plane, with what its own description allows and with what it does not.

Whatever comes, the answer is one that E2B's clients can read: a documented status, and of an error code and message.
"""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import MagicMock
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandboxd import e2b
from sandboxd.e2b import looks
from sandboxd.front import Front
from tests.unit.properties import always_the_same, anything, json_values
from tests.unit.sandboxd.conftest import World, config_in, living, services_of, short_directory
from tests.unit.sandboxd.e2b.conftest import Public

DOCUMENTED = {400, 401, 403, 404, 405, 409, 413, 422, 429}
# Successes that the code chooses itself, so that its own description does not know them.
CHOSEN = {
    "post /v2/sandboxes": {201},
    "post /sandboxes": {201},
    "post /sandboxes/{sandbox_id}/resume": {201},
    "post /sandboxes/{sandbox_id}/connect": {200, 201},
    "post /v2/sandboxes/{sandbox_id}/connect": {200, 201},
}
OPEN = {"get /health", "put /build-files/{digest}"}  # to whoever has no key


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    description: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def successes(self) -> set[int]:
        return CHOSEN.get(str(self), {int(one) for one in self.description["responses"] if one.startswith("2")})


def described() -> tuple[list[Operation], dict[str, Any]]:
    """The operations, and the schemas of their bodies. No request is made, so there is no daemon behind it."""
    nobody = MagicMock()
    nobody.sandboxes.config.create_parallelism = 1
    document = e2b.build(nobody, nobody).openapi()
    found = [Operation(method, path, one) for path, item in document["paths"].items() for method, one in item.items()]
    return found, document["components"]["schemas"]


OPERATIONS, SCHEMAS = described()


def fitting(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a schema describes, and some just beside it."""
    if "$ref" in schema:
        return fitting(SCHEMAS[schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        return st.one_of([fitting(one) for one in schema["anyOf"]])
    match schema.get("type"):
        case "object" if "properties" in schema:
            required = schema.get("required", [])
            fields = {name: fitting(one) | json_values for name, one in schema["properties"].items()}
            return st.fixed_dictionaries(
                {name: one for name, one in fields.items() if name in required},
                optional={name: one for name, one in fields.items() if name not in required},
            )
        case "object":
            values = schema.get("additionalProperties")
            return st.dictionaries(anything, fitting(values) if isinstance(values, dict) else json_values, max_size=3)
        case "array":
            return st.lists(fitting(schema["items"]), max_size=3)
        case "string":
            return st.sampled_from(["base", "t1", "team/base:default", "asc", "forward", "running,paused"]) | anything
        case "integer" | "number":
            edges = [schema[name] for name in ("minimum", "maximum", "exclusiveMinimum") if name in schema]
            return st.sampled_from([0, 1, -1, 10**30, *(edge + by for edge in edges for by in (-1, 0, 1))])
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
    return json_values


STEPS = st.fixed_dictionaries(
    {"type": st.sampled_from(["RUN", "COPY", "USER", "WORKDIR", "ENV"]) | json_values},
    optional={"args": st.lists(anything, max_size=4) | json_values, "filesHash": st.just("a" * 64) | json_values},
)


class Caller:
    """Asks the application itself, in one event loop; `known` are ids that mean something."""

    def __init__(self, world: World) -> None:
        public = Public(world)
        self.world = world
        self.app = Front(services_of(world))
        self.loop = asyncio.new_event_loop()
        # A port is named: without one an ASGI application is told that a Unix socket was used.
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app, raise_app_exceptions=False),
            base_url="http://api.example.com:8090",
        )
        self.key = {"X-API-KEY": public.key}
        running, paused = public.create()["sandboxID"], public.create()["sandboxID"]
        assert public.http.post(f"/sandboxes/{paused}/pause").status_code == 204
        build = self.ask("post", "/v3/templates", self.key, content=b'{"name": "t1"}').json()["buildID"]
        self.known = [running, f"{running}-local", paused, build, "t1", "base", "a" * 64]

    def ask(self, method: str, path: str, headers: dict[str, str], **options: Any) -> httpx.Response:
        headers = {"Content-Type": "application/json", **headers}
        return self.loop.run_until_complete(self.http.request(method, path, headers=headers, **options))


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    with (
        pytest.MonkeyPatch.context() as patch,
        short_directory() as directory,
        living(config_in(directory)) as world,
    ):
        patch.setattr(looks, "SAMPLE_S", 0.0)
        made = Caller(world)
        yield made
        made.loop.run_until_complete(made.http.aclose())
        made.loop.close()


def request_of(operation: Operation, caller: Caller, data: st.DataObject, weird: bool = True) -> dict[str, Any]:
    """A request for an operation: its path, query and body."""
    texts = st.sampled_from(caller.known) | (anything if weird else st.just("unknown"))
    path, query = operation.path, []
    for one in operation.description.get("parameters", []):
        if one["in"] == "path":
            value = data.draw(texts, one["name"]).encode(errors="replace")
            path = path.replace("{" + one["name"] + "}", quote(value, safe=""))
        elif one["in"] == "query" and data.draw(st.booleans()):
            for value in data.draw(st.lists(fitting(one["schema"]) | anything, min_size=1, max_size=2)):
                query.append(f"{one['name']}={quote(str(value).encode(errors='replace'), safe='')}")
    found: dict[str, Any] = {"path": path + ("?" + "&".join(query) if query else "")}
    if (body := operation.description.get("requestBody")) is not None:
        value = data.draw(fitting(body["content"]["application/json"]["schema"]) | json_values, "body")
        if isinstance(value, dict) and "steps" in value and data.draw(st.booleans()):
            value["steps"] = data.draw(st.lists(STEPS, max_size=3), "steps")
        found["content"] = json.dumps(value).encode()
        if weird and data.draw(st.integers(0, 9)) == 0:
            found["content"] = data.draw(st.binary(max_size=30), "no JSON")
    return found


@settings(always_the_same, max_examples=25)
@given(data=st.data())
@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_every_answer_can_be_read(caller: Caller, operation: Operation, data: st.DataObject) -> None:
    answer = caller.ask(operation.method, headers=caller.key, **request_of(operation, caller, data))
    if answer.status_code >= 400:
        assert answer.status_code in DOCUMENTED, answer.text
        error = answer.json()
        assert type(error["code"]) is int and error["code"] == answer.status_code and error["message"]
        assert len(answer.content) < 20_000
    elif answer.status_code == 204:
        assert answer.content == b""
    elif answer.headers.get("content-type") == "application/json":
        answer.json()


@settings(always_the_same, max_examples=3)
@given(data=st.data())
@pytest.mark.parametrize("operation", [one for one in OPERATIONS if str(one) not in OPEN], ids=str)
def test_without_a_key_there_is_nothing_but_a_refusal(
    caller: Caller, operation: Operation, data: st.DataObject
) -> None:
    before = caller.world.ledger.rows("running", "paused", "stopped")
    wanted = request_of(operation, caller, data, weird=False)
    for headers in ({}, {"X-API-KEY": "e2b_" + "0" * 40}, {"Authorization": "Bearer x"}):
        answer = caller.ask(operation.method, headers=headers, **wanted)
        assert (answer.status_code, answer.json()["code"]) == (401, 401), answer.text
    assert caller.world.ledger.rows("running", "paused", "stopped") == before


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("post", "/v2/sandboxes", {"templateID": "base", "network": {"\ud800": True}}, 400, "network.\\ud800"),
        ("post", "/v2/sandboxes", {"templateID": "base", "metadata": {"\ud800": "x"}}, 400, "metadata."),
        ("post", "/v2/sandboxes", {"templateID": ["x" * 100_000]}, 400, "templateID: "),
        ("delete", "/sandboxes/", None, 404, "Not Found"),
        ("put", f"/build-files/{'a' * 64}?expires=9999999999&signature=%C3%A9", None, 401, "no longer"),
        ("patch", "/v2/sandboxes", None, 405, "Not Allowed"),
    ],
)
def test_what_was_once_answered_in_no_form(
    caller: Caller, method: str, path: str, body: object, status: int, said: str
) -> None:
    """What these tests have found."""
    answer = caller.ask(method, path, caller.key, content=json.dumps(body).encode() if body else b"")
    assert (answer.status_code, answer.json()["code"]) == (status, status)
    assert said in answer.json()["message"] and len(answer.content) < 1000
    assert status != 405 or answer.headers["allow"]


def test_no_sandbox_has_a_template_with_another_tag(public: Public) -> None:
    made = public.create()["sandboxID"]
    assert public.http.get("/v2/sandboxes?template=base:other").json() == []
    (listed,) = public.http.get("/v2/sandboxes?template=team/base:default").json()
    assert listed["sandboxID"] == made


def test_after_all_that_it_works(caller: Caller) -> None:
    for operation in OPERATIONS:
        assert operation.successes
    made = caller.ask("post", "/v2/sandboxes", caller.key, content=b'{"templateID": "base"}')
    assert made.status_code == 201
    assert caller.ask("delete", f"/sandboxes/{made.json()['sandboxID']}", caller.key).status_code == 204
    assert caller.ask("get", "/health", {}).status_code == 200
