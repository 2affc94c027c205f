"""Tags of templates: what they name, and that a build stays as long as one does."""

from typing import Any

import pytest

from sandboxd.e2b.tags import template_name
from sandboxd.errors import EngineError
from sandboxd.templates import build_id
from tests.unit.sandboxd.conftest import World
from tests.unit.sandboxd.e2b.conftest import Public
from tests.unit.sandboxd.e2b.test_builds import begun, contexts, ended
from tests.unit.sandboxd.fake_engine import refusal

__all__ = ["contexts"]


def built(public: Public, name: str = "tools", **body: Any) -> str:
    """The build's id."""
    answer = public.http.post("/v3/templates", json={"name": name, **body})
    assert answer.status_code == 202, answer.text
    made = answer.json()
    done = ended(public, begun(public, made))
    assert done["status"] == "ready", done
    public.world.now[0] += 1
    return str(made["buildID"])


def tags(public: Public, name: str = "tools") -> dict[str, str]:
    answer = public.http.get(f"/templates/{name}/tags")
    assert answer.status_code == 200, answer.text
    return {one["tag"]: one["buildID"] for one in answer.json()}


def assign(public: Public, target: str, *names: str) -> dict[str, Any]:
    answer = public.http.post("/templates/tags", json={"target": target, "tags": names})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def images(world: World) -> set[str]:
    return {image for image in world.engine.images if "-template-" in image}


@pytest.fixture(autouse=True)
def any_build(contexts: list[dict[str, bytes]]) -> None:
    """The double of the engine reads no archives."""


def test_a_build_has_the_tags_that_it_is_asked_for(public: Public, world: World) -> None:
    first = built(public)
    assert tags(public) == {"default": first}
    second = built(public, "tools:v2", tags=["stable", "stable"])
    assert tags(public) == {"default": first, "v2": second, "stable": second}
    assert public.create(templateID="tools:v2")["templateID"] == "tools:v2"
    assert world.engine.payloads[-1]["Image"].endswith(second)
    public.create(templateID="team/tools")
    assert world.engine.payloads[-1]["Image"].endswith(first)


def test_old_builds_stay_as_long_as_a_tag_names_them(public: Public, world: World) -> None:
    first = built(public)
    assert assign(public, "tools", "v1") == {"tags": ["v1"], "buildID": first}
    second = built(public)
    assert tags(public) == {"default": second, "v1": first} and len(images(world)) == 2
    assign(public, "tools:v1", "default")
    assert tags(public) == {"default": first, "v1": first} and len(images(world)) == 1
    assert public.http.request("DELETE", "/templates/tags", json={"name": "tools", "tags": ["v1"]}).status_code == 204
    assert tags(public) == {"default": first} and len(images(world)) == 1
    built(public)
    assert len(images(world)) == 1 and first not in "".join(images(world))


def test_an_image_in_use_goes_later(public: Public, world: World) -> None:
    built(public, "tools:v1")
    found = public.create(templateID="tools:v1")["sandboxID"]
    world.engine.fail["remove_image"] = refusal()
    public.http.request("DELETE", "/templates/tags", json={"name": "tools", "tags": ["v1"]})
    assert len(images(world)) == 1 and "not found" in public.refused("GET", "/templates/tools/tags", 404)
    assert public.http.get(f"/sandboxes/{found}").json()["templateID"] == "tools:v1"
    world.reconciler.tick()
    assert images(world) == set()


def test_a_build_that_fails_changes_no_tag(public: Public, world: World) -> None:
    first = built(public, "tools:v1")
    world.engine.fail["build"] = EngineError("it does not build")
    made = public.http.post("/v3/templates", json={"name": "tools:v1"}).json()
    assert ended(public, begun(public, made))["status"] == "error"
    assert tags(public) == {"v1": first} and len(images(world)) == 1


def test_a_template_that_only_tags_name(public: Public) -> None:
    built(public, "tools:v1")
    public.refused("POST", "/v2/sandboxes", 404, json={"templateID": "tools"})
    assert public.http.get("/templates/aliases/tools").json()["templateID"] == "tools"
    assert public.http.get("/templates/aliases/tools:v1").status_code == 200
    public.refused("GET", "/templates/aliases/tools:v2", 404)
    assert "tools:v1" in [one["templateID"] for one in public.http.get("/templates").json()]
    assign(public, "tools:v1", "latest")
    public.create(templateID="tools:latest")


def test_removal_of_a_template_is_of_all_its_tags(public: Public, world: World) -> None:
    built(public, tags=["default", "v1"])
    built(public, "tools:v2")
    found = public.create(templateID="tools:v2")["sandboxID"]
    public.refused("DELETE", "/templates/tools", 409)
    public.http.delete(f"/sandboxes/{found}")
    assert public.http.delete("/templates/tools:v2").status_code == 204 and tags(public).keys() == {"default", "v1"}
    public.refused("DELETE", "/templates/tools:v2", 404)
    assert public.http.delete("/templates/tools").status_code == 204
    public.refused("GET", "/templates/tools/tags", 404)
    assert images(world) == set()


def test_sandboxes_are_listed_by_name_and_by_tag(public: Public) -> None:
    built(public, tags=["default", "v1"])
    both = {public.create(templateID=name)["sandboxID"] for name in ("tools", "tools:v1")}
    listed = public.http.get("/v2/sandboxes", params={"template": "tools"}).json()
    assert {one["sandboxID"] for one in listed} == both
    (one,) = public.http.get("/v2/sandboxes", params={"template": "tools:v1"}).json()
    assert one["templateID"] == "tools:v1"


@pytest.mark.parametrize(
    ("method", "body", "status"),
    [
        ("POST", {"target": "tools:v9", "tags": ["a"]}, 404),
        ("POST", {"target": "nothing", "tags": ["a"]}, 404),
        ("POST", {"target": "base", "tags": ["a"]}, 400),
        ("POST", {"target": "snap", "tags": ["a"]}, 409),
        ("POST", {"target": "tools", "tags": []}, 400),
        ("POST", {"target": "tools", "tags": ["a b"]}, 400),
        ("POST", {"target": "tools", "tags": ["tools:a"]}, 400),
        ("POST", {"target": "tools", "tags": [str(number) for number in range(101)]}, 400),
        ("DELETE", {"name": "tools", "tags": ["v9"]}, 404),
        ("DELETE", {"name": "tools", "tags": ["v1", "v9"]}, 404),
        ("DELETE", {"name": "tools", "tags": ["default"]}, 400),
        ("DELETE", {"name": "base", "tags": ["a"]}, 400),
        ("DELETE", {"name": "nothing", "tags": ["a"]}, 404),
    ],
)
def test_what_is_refused(public: Public, world: World, method: str, body: dict[str, Any], status: int) -> None:
    built(public, tags=["default", "v1"])
    world.templates.snapshot(world.ledger.find(public.create()["sandboxID"])[0], "snap")
    before = tags(public)
    public.refused(method, "/templates/tags", status, json=body)
    assert tags(public) == before


def test_one_of_the_settings_has_one_build(public: Public) -> None:
    (one,) = public.http.get("/templates/base/tags").json()
    assert one["tag"] == "default" and one["createdAt"].startswith("1970")
    public.refused("GET", "/templates/nothing/tags", 404)
    public.refused("POST", "/v3/templates", 400, json={"name": "base:v1"})
    public.refused("POST", "/v3/templates", 400, json={"name": "tools:a b"})


def test_names() -> None:
    names = ("a", "t/a", "a:default", "t/a:latest", "a:v1", "t/a:v1")
    assert [template_name(name) for name in names] == ["a", "a", "a", "a", "a:v1", "a:v1"]


def test_ids_of_builds_are_uuids() -> None:
    own = "6d5f7a0e-3f2b-4d0f-9c51-6f0b6f9c7a11"
    assert build_id(f"acme-template-x:{own}") == own
    assert build_id("acme-template-x:1800000000") == build_id("acme-template-x:1800000000") != build_id("base:1")
