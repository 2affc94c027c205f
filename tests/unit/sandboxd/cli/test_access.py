"""`access`, and the links of `get-host`: over the daemon's own API."""

import base64
import json

import pytest

from sandboxd.tokens import traffic_token
from tests.unit.sandboxd.cli.doubles import ID, Cli
from tests.unit.sandboxd.conftest import KEY, World


@pytest.fixture(autouse=True)
def link_key(world: World) -> None:
    (world.config.secrets_dir / "link_key").write_text(f"key {base64.b64encode(b'l' * 32).decode()}\n")


def failed(cli: Cli, *arguments: str) -> tuple[int, str]:
    done = cli.run(*arguments)
    assert done.stdout == b""
    return done.returncode, done.stderr.decode()


def test_it_is_shown_and_changed(used: Cli) -> None:
    assert used.out("access", ID) == f"{ID}: public\n"
    assert used.out("access", ID[:4], "token") == f"{ID}: token\n"
    assert json.loads(used.out("access", ID, "--json")) == {"sandboxID": ID, "access": "token"}
    assert "access     token\n" in used.out("info", ID)


def test_the_token_is_shown_when_it_is_asked_for(used: Cli) -> None:
    code, said = failed(used, "access", ID, "--token")
    assert code == 1 and "access public" in said
    used.out("access", ID, "token")
    assert used.out("access", ID, "--token") == f"{traffic_token(KEY, ID, 1)}\n"
    assert used.out("access", ID, "--revoke") == f"{ID}: token\n"
    assert json.loads(used.out("access", ID, "--token", "--json"))["trafficAccessToken"] == traffic_token(KEY, ID, 2)


def test_a_password_is_told_once(used: Cli) -> None:
    first, second, third = used.out("access", ID, "basic").splitlines()
    assert (first, second) == (f"{ID}: basic", "user: preview") and len(third.removeprefix("password: ")) == 20
    assert used.out("access", ID) == f"{ID}: basic\n"
    found = json.loads(used.out("access", ID, "--revoke", "--json"))
    assert found["access"] == "basic" and found["user"] == "preview" and found["password"] not in third


def test_init_tells_a_password_beside_the_id(cli: Cli) -> None:
    done = cli.run("init", "--access", "basic")
    assert done.stdout.decode() == f"{ID}\n"
    user, password = done.stderr.decode().splitlines()
    assert user == "user: preview" and len(password.removeprefix("password: ")) == 20
    again = cli.run("init", "--access", "basic", "--json")
    assert again.stderr == b"" and len(json.loads(again.stdout)["password"]) == 20
    assert "Token" not in cli.out("init", "--access", "token", "--json")


def test_a_link(used: Cli) -> None:
    code, said = failed(used, "get-host", ID, "--private")
    assert code == 1 and f"docker-sandbox access {ID} token" in said
    used.out("access", ID, "token")
    assert used.out("get-host", ID, "--private").startswith(f"https://qa-{ID}.example.com/?sandbox_link=")
    found = json.loads(used.out("get-host", ID, "--private", "--port", "5173", "--for", "2m", "--json"))
    assert found["url"].startswith(f"https://5173-{ID}.example.com/?sandbox_link=")
    assert found["expiresAt"] == "2027-01-15T08:02:00.000Z"


def test_a_time_is_for_a_link(used: Cli) -> None:
    code, said = failed(used, "get-host", ID, "--for", "1h")
    assert code == 2 and "--private" in said
