"""Keys, and what each of them sees."""

import pytest

from sandboxd.keys import Keys
from tests.unit.sandboxd.conftest import World
from tests.unit.sandboxd.e2b.conftest import Public


@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-KEY": ""},
        {"X-API-KEY": "e2b_" + "0" * 40},
        {"X-API-KEY": "e2b_x"},
        {"X-API-KEY": "", "Authorization": "Basic eA=="},
    ],
)
def test_a_wrong_key(public: Public, headers: dict[str, str]) -> None:
    assert public.refused("GET", "/v2/sandboxes", 401, headers=headers) == "Invalid API key"


def test_a_key_as_a_bearer_token(public: Public) -> None:
    headers = {"X-API-KEY": "", "Authorization": f"Bearer {public.key}"}
    assert public.http.get("/v2/sandboxes", headers=headers).json() == []


def test_a_revoked_key_opens_nothing(public: Public, world: World) -> None:
    keys = Keys(world.ledger)
    found = public.create()["sandboxID"]
    keys.revoke(keys.all()[0].id)
    public.refused("GET", f"/sandboxes/{found}", 401)
    assert world.ledger.find(found), "its sandboxes stay"


def test_each_name_sees_its_own_sandboxes(public: Public, world: World) -> None:
    found = public.create()["sandboxID"]
    other, again = Public(world, "other"), Public(world, "team")
    assert other.http.get("/v2/sandboxes").json() == []
    for method, path in [("GET", ""), ("DELETE", ""), ("POST", "/pause"), ("POST", "/connect"), ("GET", "/metrics")]:
        assert "not found" in other.refused(method, f"/sandboxes/{found}{path}", 404)
    assert [one["sandboxID"] for one in again.http.get("/v2/sandboxes").json()] == [found]
    assert again.http.delete(f"/sandboxes/{found}").status_code == 204
    assert "removed by request" in public.refused("GET", f"/sandboxes/{found}", 404)
    assert "removed by request" not in other.refused("GET", f"/sandboxes/{found}", 404)


def test_ids_are_whole_and_may_have_a_client_id(public: Public) -> None:
    found = public.create()["sandboxID"]
    assert public.http.get(f"/sandboxes/{found}-local").json()["sandboxID"] == found
    for wrong in (found[:6], f"{found}0", "-", "%00", "..%2F..", "x" * 4000):
        assert public.http.get(f"/sandboxes/{wrong}").status_code == 404


def test_nothing_of_the_hosts_is_reached(public: Public) -> None:
    for path in ("/pool", "/keys", "/routes", "/doctor", "/logs/x", "/stats", "/openapi.json", "/docs"):
        public.refused("GET", path, 404)
