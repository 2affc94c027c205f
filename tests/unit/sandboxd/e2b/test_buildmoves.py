"""A build that another host goes on with: what a manager of a fleet asks of both."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.unit.sandboxd.conftest import World, config_in, living, short_directory
from tests.unit.sandboxd.e2b.conftest import Public
from tests.unit.sandboxd.e2b.test_builds import DIGEST, begun, ended, requested
from tests.unit.sandboxd.test_observed import Trusted


def trusted(public: Public) -> TestClient:
    return TestClient(Trusted(public.front, str(public.world.config.socket)))


def test_it_goes_on_elsewhere(public: Public, tmp_path: Path) -> None:
    made = requested(public, "tools:new", cpuCount=1, memoryMB=512)
    build, asked = f"/builds/{made['buildID']}", {"template": "tools", "owner": "team"}
    given = trusted(public).delete(build, params=asked)
    assert given.json() == {"template": "tools", "owner": "team", "memory_mb": 512, "cpus": 1.0, "tags": ["new"]}
    assert trusted(public).delete(build, params=asked).status_code == 404
    status = f"/templates/tools/builds/{made['buildID']}/status"
    public.refused("GET", status, 404)
    with short_directory() as directory, living(config_in(directory)) as world:
        other = Public(world)
        assert trusted(other).put(build, json=given.json()).status_code == 204
        assert other.http.get(status).json()["status"] == "waiting"
        begun(other, made)
        assert ended(other, status)["status"] == "ready" and world.ledger.tagged().keys() == {"tools:new"}


def test_only_what_waits_and_is_ones_own_goes(public: Public, world: World) -> None:
    made = requested(public)
    build = f"/builds/{made['buildID']}"
    assert trusted(public).delete(build, params={"template": "tools", "owner": "other"}).status_code == 404
    path = begun(public, made)
    assert trusted(public).delete(build, params={"template": "tools", "owner": "team"}).status_code == 409
    assert ended(public, path)["status"] == "ready"


def test_its_files(public: Public) -> None:
    client, path, large = trusted(public), f"/build-files/{DIGEST}", b"x" * 3_000_000
    assert client.get(path).status_code == 404
    assert client.put(path, content=large).status_code == 204
    assert client.get(path).content == large and public.http.get(f"/templates/tools/files/{DIGEST}").json()["present"]


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_what_is_no_digest(public: Public, method: str) -> None:
    assert trusted(public).request(method, "/build-files/none").status_code == 400


def test_it_is_not_for_keys(public: Public) -> None:
    public.refused("PUT", "/builds/1f1f1f1f-0000-0000-0000-000000000000", 404, json={})
    public.refused("DELETE", "/builds/1f1f1f1f-0000-0000-0000-000000000000", 404)
    public.refused("GET", f"/build-files/{DIGEST}", 405)
    public.refused("PUT", f"/build-files/{DIGEST}", 401, content=b"x")
