"""`Template.build`, request by request, as clients make them."""

import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandboxd.errors import EngineError
from tests.unit.sandboxd.conftest import World, until
from tests.unit.sandboxd.e2b.conftest import Public

DIGEST = "a" * 64


def requested(public: Public, name: str = "tools", **limits: int) -> dict[str, Any]:
    answer = public.http.post("/v3/templates", json={"name": name, **limits})
    assert answer.status_code == 202, answer.text
    return dict(answer.json())


def begun(public: Public, made: dict[str, Any], **body: Any) -> str:
    path = f"/v2/templates/{made['templateID']}/builds/{made['buildID']}"
    answer = public.http.post(path, json={"fromTemplate": "base", "steps": [], **body})
    assert answer.status_code == 202, answer.text
    return f"/templates/{made['templateID']}/builds/{made['buildID']}/status"


def ended(public: Public, path: str) -> dict[str, Any]:
    until(lambda: public.http.get(path).json()["status"] in ("ready", "error"), "the end of the build")
    return dict(public.http.get(path).json())


@pytest.fixture
def contexts(world: World, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, bytes]]:
    """The files of each build's context; the double of the engine only says that it builds."""
    seen: list[dict[str, bytes]] = []
    build = world.engine.build

    def read(context: Path, *rest: Any) -> object:
        with tarfile.open(context) as archive:
            assert all(one.mode & 0o444 == 0o444 for one in archive), "the build's root is not the host's"
            files = {one.name: archive.extractfile(one) for one in archive}
            seen.append({name: file.read() for name, file in files.items() if file is not None})
        context.write_text("")
        return build(context, *rest)

    monkeypatch.setattr(world.engine, "build", read)
    return seen


def test_from_the_name_to_a_sandbox(public: Public, world: World, contexts: list[dict[str, bytes]]) -> None:
    made = requested(public, "team/tools:latest", cpuCount=1, memoryMB=512)
    assert made["templateID"] == "tools" and made["names"] == ["tools"] and made["buildID"]
    path = begun(public, made, steps=[{"type": "RUN", "args": ["apt-get install -y tree", "root"]}], startCmd="sleep 5")
    done = ended(public, path)
    assert done["status"] == "ready" and done["logs"][0].startswith("building from base:1")
    assert public.http.get(path, params={"logsOffset": 1}).json()["logs"] == done["logs"][1:]
    (files,) = contexts
    assert b"apt-get install -y tree" in files["Dockerfile"] and b"start.d/template" in files["Dockerfile"]
    found = public.create(templateID="tools")
    detail = public.http.get(f"/sandboxes/{found['sandboxID']}").json()
    assert (detail["templateID"], detail["memoryMB"], detail["cpuCount"]) == ("tools", 512, 1)
    assert public.http.get("/templates/aliases/tools").status_code == 200


def test_files_are_uploaded_once_by_a_signed_url(
    public: Public, world: World, contexts: list[dict[str, bytes]]
) -> None:
    made = requested(public)
    answer = public.http.get(f"/templates/tools/files/{DIGEST}")
    assert answer.status_code == 201 and answer.json()["present"] is False
    url = answer.json()["url"].removeprefix("https://api.example.com")
    large = b"x" * 3_000_000  # more than a body of the API may have
    assert public.http.put(url, content=large, headers={"X-API-KEY": ""}).status_code == 200
    assert public.http.get(f"/templates/tools/files/{DIGEST}").json() == {"present": True}
    ended(public, begun(public, made, steps=[{"type": "COPY", "args": ["a", "b"], "filesHash": DIGEST}]))
    assert contexts[0][f"files/{DIGEST}"] == large


def test_files_that_nobody_has_used_for_a_day_are_forgotten(
    public: Public, world: World, contexts: list[dict[str, bytes]]
) -> None:
    """Not those that a client is told it need not send, or that a build has."""
    kept = world.config.state_dir / "build-files"
    kept.mkdir()
    made, told, built, unused, new = requested(public), "a" * 64, "b" * 64, "c" * 64, "d" * 64
    for digest in (told, built, unused):
        (kept / digest).write_bytes(b"x")
        os.utime(kept / digest, (time.time() - 90_000,) * 2)
    assert public.http.get(f"/templates/tools/files/{told}").json() == {"present": True}
    ended(public, begun(public, made, steps=[{"type": "COPY", "args": ["a", "b"], "filesHash": built}]))
    url = public.http.get(f"/templates/tools/files/{new}").json()["url"].removeprefix("https://api.example.com")
    assert public.http.put(url, content=b"x", headers={"X-API-KEY": ""}).status_code == 200
    assert {file.name for file in kept.iterdir()} == {told, built, new}


@pytest.mark.parametrize("change", [("signature=", "signature=0"), ("expires=", "expires=9"), (DIGEST, "b" * 64)])
def test_a_wrong_signature(public: Public, world: World, change: tuple[str, str]) -> None:
    url = public.http.get(f"/templates/tools/files/{DIGEST}").json()["url"].removeprefix("https://api.example.com")
    public.refused("PUT", url.replace(*change), 401, content=b"x")
    assert not (world.config.state_dir / "build-files").exists()


def test_a_build_again_takes_the_templates_place(
    public: Public, world: World, contexts: list[dict[str, bytes]]
) -> None:
    ended(public, begun(public, requested(public)))
    first = world.ledger.templates()["tools"].image
    old = public.create(templateID="tools")
    world.now[0] += 10
    ended(public, begun(public, requested(public)))
    second = world.ledger.templates()["tools"].image
    assert second != first and world.ledger.find(old["sandboxID"])
    world.now[0] += 10
    world.engine.fail["build"] = EngineError("it does not build")
    done = ended(public, begun(public, requested(public)))
    assert (done["status"], done["reason"]) == ("error", {"message": "it does not build"})
    assert world.ledger.templates()["tools"].image == second


def test_why_and_where_a_build_failed(public: Public, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As BuildKit says it."""

    def build(context: Path, *_: object) -> Iterator[bytes]:
        with tarfile.open(context) as archive:
            file = archive.extractfile("Dockerfile")
            assert file is not None
            number = next(at for at, line in enumerate(file.read().splitlines(), 1) if b"exit 7" in line)
        yield b"#6 0.201 why\n"
        yield b'#6 ERROR: process "exit 7" did not complete successfully: exit code: 7\n'
        yield f"Dockerfile:{number}\n".encode()
        raise EngineError("its last lines say why")

    monkeypatch.setattr(world.engine, "build", build)
    steps = [{"type": "RUN", "args": ["true"]}, {"type": "RUN", "args": ["exit 7"]}]
    done = ended(public, begun(public, requested(public), steps=steps))
    message = 'process "exit 7" did not complete successfully: exit code: 7'
    assert (done["status"], done["reason"]) == ("error", {"message": message, "step": "2"})


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"fromTemplate": None, "fromImage": "node:22"}, "from_template('base')"),
        ({"fromTemplate": None, "fromImage": "base:12"}, "FROM base. There are: base"),
        ({"steps": [{"type": "ADD"}]}, "steps.0"),
        ({"steps": [{"type": "COPY", "args": ["a", "b"], "filesHash": DIGEST}]}, "not uploaded"),
        ({"steps": "x"}, "steps"),
    ],
)
def test_what_cannot_be_built(public: Public, body: dict[str, Any], said: str) -> None:
    made = requested(public)
    path = f"/v2/templates/tools/builds/{made['buildID']}"
    assert said in public.refused("POST", path, 400, json={"fromTemplate": "base", **body})
    assert public.http.get(f"/templates/tools/builds/{made['buildID']}/status").json()["status"] == "waiting"


@pytest.mark.parametrize("image", ["base", "base:latest", "made"])
def test_an_image_may_be_named_as_a_template_is(
    public: Public, world: World, contexts: list[dict[str, bytes]], image: str
) -> None:
    ended(public, begun(public, requested(public, "made")))
    done = ended(public, begun(public, requested(public), fromTemplate=None, fromImage=image))
    assert done["status"] == "ready"


def test_the_image_that_clients_name_when_they_name_none(
    public: Public, world: World, contexts: list[dict[str, bytes]]
) -> None:
    path = begun(public, requested(public), fromTemplate=None, fromImage="e2bdev/base:latest")
    assert ended(public, path)["status"] == "ready"


def test_names_and_builds_that_are_not_there(public: Public, world: World) -> None:
    public.refused("POST", "/v3/templates", 400, json={"name": "No Name"})
    public.refused("POST", "/v3/templates", 400, json={"name": "base"})
    made = requested(public)
    other = Public(world, "other")
    other.refused("GET", f"/templates/tools/builds/{made['buildID']}/status", 404)
    public.refused("GET", "/templates/tools/builds/none/status", 404)
    public.refused("POST", f"/v2/templates/tools/builds/{made['buildID']}", 404, json={"fromTemplate": "nothing"})
    path = f"/v2/templates/tools/builds/{made['buildID']}"
    status = begun(public, made)
    public.refused("POST", path, 409, json={"fromTemplate": "base"})
    ended(public, status)  # else it would go on in a directory that is being removed
