"""Who may open the ports of a sandbox: over the daemon's API, as far as the route that the gateway gets."""

import base64
import hashlib
import hmac
from typing import Any
from urllib.parse import urlsplit

import pytest

from sandboxd.previews import LINK_MAX_S
from sandboxd.tokens import traffic_token
from tests.unit.sandboxd.clients import Direct
from tests.unit.sandboxd.conftest import KEY, World
from tests.unit.sandboxd.fake_engine import START

LINK_KEY = b"l" * 32


@pytest.fixture
def client(world: World) -> Direct:
    (world.config.secrets_dir / "link_key").write_text(f"key {base64.b64encode(LINK_KEY).decode()}\n")
    return Direct(world)


def route(client: Direct, made: dict[str, Any]) -> list[str]:
    """Address, digest, host, access."""
    fields = dict(client.world.haproxy.map)[made["sandboxID"]].split("|")
    return [*fields, "", "", ""][:4]


def change(client: Direct, made: dict[str, Any], status: int = 200, **body: Any) -> dict[str, Any]:
    answer = client.unix.put(f"/sandboxes/{made['sandboxID']}/access", json=body)
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def linked(client: Direct, made: dict[str, Any], status: int = 200, **body: Any) -> dict[str, Any]:
    answer = client.unix.post(f"/sandboxes/{made['sandboxID']}/link", json=body)
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_public_unless_it_is_said_otherwise(client: Direct) -> None:
    made = client.create()
    assert made["trafficAccessToken"] is None and route(client, made)[1:] == ["", "", ""]
    shown = client.unix.get(f"/sandboxes/{made['sandboxID']}/access").json()
    assert shown == {"sandboxID": made["sandboxID"], "access": "public", "trafficAccessToken": None}
    assert client.unix.get("/v2/sandboxes").json()[0]["access"] == "public"


def test_created_with_a_token(client: Direct) -> None:
    made = client.create(access="token")
    assert made["trafficAccessToken"] == traffic_token(KEY, made["sandboxID"])
    assert route(client, made)[1:] == [sha256(made["trafficAccessToken"]), "", "0"]


def test_created_with_a_password_that_nobody_keeps(client: Direct) -> None:
    made = client.create(access="basic")
    assert route(client, made)[1:] == [sha256(f"{made['user']}:{made['password']}"), "", "basic"]
    assert len(made["password"]) == 20 and made["trafficAccessToken"] is None
    for path in ("/v2/sandboxes", f"/sandboxes/{made['sandboxID']}", f"/sandboxes/{made['sandboxID']}/access"):
        assert "password" not in client.unix.get(path).text
    client.world.ledger._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert made["password"].encode() not in client.world.config.ledger.read_bytes()


def test_each_change_begins_a_new_round(client: Direct) -> None:
    made = client.create()
    tokens = []
    for body in ({"access": "token"}, {"access": "token", "revoke": True}, {"access": "public"}, {"access": "token"}):
        found = change(client, made, **body)
        assert found["access"] == body["access"] and "password" not in found
        tokens.append(found["trafficAccessToken"])
        assert route(client, made)[1] == (sha256(tokens[-1]) if tokens[-1] else "")
    assert len({*tokens}) == 4 and tokens[2] is None
    assert change(client, made, access="token")["trafficAccessToken"] == tokens[-1], "the same again changes nothing"
    first, second = change(client, made, access="basic"), change(client, made, access="basic")
    assert first["password"] != second["password"] and route(client, made)[1] == sha256(f"preview:{second['password']}")


def test_a_sleeping_one_is_changed_too(client: Direct) -> None:
    made = client.create()
    client.unix.post(f"/sandboxes/{made['sandboxID']}/pause")
    change(client, made, access="token")
    assert route(client, made)[0] == "asleep" and route(client, made)[3] == "1"


@pytest.mark.parametrize(("port", "host", "signed"), [(None, "qa", 8000), (8000, "8000", 8000), (5173, "5173", 5173)])
def test_a_link_is_signed_for_a_port_an_end_and_a_round(
    client: Direct, port: int | None, host: str, signed: int
) -> None:
    made = client.create()
    change(client, made, access="token")
    found = linked(client, made, port=port, seconds=90)
    url = urlsplit(found["url"])
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"https://{host}-{made['sandboxID']}.example.com/"
    until = int(START) + 90
    proof = hmac.new(LINK_KEY, f"link:{made['sandboxID']}:{signed}:{until}:1".encode(), hashlib.sha256).hexdigest()
    assert url.query == f"sandbox_link={until}.{proof}", "as haproxy.cfg makes it again"
    assert found["expiresAt"] == "2027-01-15T08:01:30.000Z"


def test_what_has_no_link(client: Direct) -> None:
    made = client.create()
    assert "is public" in linked(client, made, 409, seconds=60)["message"]
    change(client, made, access="basic")
    assert "asks for a password" in linked(client, made, 409, seconds=60)["message"]
    change(client, made, access="token")
    assert "49983" in linked(client, made, 400, seconds=60, port=49983)["message"]
    for wrong in (
        {"seconds": 0},
        {"seconds": LINK_MAX_S + 1},
        {"port": 70000, "seconds": 1},
        {"seconds": 1, "x": 1},
        {},
    ):
        linked(client, made, 400, **wrong)
    (client.world.config.secrets_dir / "link_key").unlink()
    assert "link_key" in linked(client, made, 500, seconds=60)["message"]


@pytest.mark.parametrize("body", [{}, {"access": "secret"}, {"access": "token", "x": 1}, {"access": None}])
def test_bad_modes(client: Direct, body: dict[str, Any]) -> None:
    made = client.create()
    change(client, made, 400, **body)
    assert client.unix.post("/v2/sandboxes", json={"access": "secret"}).status_code == 400
    assert client.unix.put("/sandboxes/ffff/access", json={"access": "token"}).status_code == 404
    assert client.tcp.put(f"/sandboxes/{made['sandboxID']}/access", json={"access": "public"}).status_code in (401, 404)


@pytest.mark.parametrize(
    ("setting", "body", "wakes"), [(True, {}, True), (False, {}, False), (True, {"wake": False}, False)]
)
def test_who_wakes_up(world: World, setting: bool, body: dict[str, Any], wakes: bool) -> None:
    object.__setattr__(world.config, "wake_on_visit", setting)
    client = Direct(world)
    made = client.create(**body)
    client.unix.post(f"/sandboxes/{made['sandboxID']}/pause")
    assert (made["sandboxID"] in dict(world.haproxy.map)) == wakes
    assert client.unix.get("/v2/sandboxes").json()[0]["wakeOnVisit"] == wakes


@pytest.mark.parametrize(
    ("setting", "body", "idle_s"),
    [(None, {}, None), (60.0, {}, 60.0), (60.0, {"idlePause": None}, None), (None, {"idlePause": 1800}, 1800.0)],
)
def test_who_is_paused_when_nobody_uses_it(
    world: World, setting: float | None, body: dict[str, Any], idle_s: float | None
) -> None:
    object.__setattr__(world.config, "idle_pause_s", setting)
    client = Direct(world)
    client.create(**body)
    assert client.unix.get("/v2/sandboxes").json()[0]["idlePause"] == idle_s
    assert client.unix.post("/v2/sandboxes", json={"idlePause": 0}).status_code == 400
