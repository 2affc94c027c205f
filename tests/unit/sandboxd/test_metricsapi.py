"""Who gets the metrics, and where."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from sandboxd.front import Front
from sandboxd.keys import Keys
from tests.unit.sandboxd.conftest import World, services_of, short_directory
from tests.unit.sandboxd.test_main import LIMIT_S, deployed, running

SECRET = "5ec2e7" * 8
FIRST = "# HELP process_virtual_memory_bytes"


@pytest.fixture
def public(world: World) -> Iterator[TestClient]:
    (world.config.secrets_dir / "metrics_token").write_text(f"{SECRET}\n")
    with TestClient(Front(services_of(world)), raise_server_exceptions=False) as client:
        yield client


def test_from_elsewhere_with_the_secret(public: TestClient) -> None:
    for word in ("Bearer", "bearer"):
        answer = public.get("/metrics", headers={"Authorization": f"{word} {SECRET}"})
        assert answer.status_code == 200 and answer.text.startswith(FIRST)


@pytest.mark.parametrize("given", [{}, {"Authorization": "Bearer"}, {"Authorization": f"Basic {SECRET}"}])
def test_nobody_else(public: TestClient, given: dict[str, str]) -> None:
    answer = public.get("/metrics", headers=given)
    assert answer.status_code == 401 and "Authorization: Bearer" in answer.json()["message"]
    wrong = public.get("/metrics", headers={"Authorization": f"Bearer {SECRET[:-1]}"})
    assert wrong.status_code == 401 and SECRET[:8] not in wrong.text


def test_an_ordinary_key_is_told_that_it_is_not_enough(public: TestClient, world: World) -> None:
    key = Keys(world.ledger).create("team", 0, world.now[0])[1]
    for headers in ({"X-API-KEY": key}, {"Authorization": f"Bearer {key}"}):
        answer = public.get("/metrics", headers=headers)
        assert answer.status_code == 403 and "a secret of their own" in answer.json()["message"]


@pytest.mark.parametrize("secret", [None, "", "short"])
def test_without_a_secret_that_is_one_nobody_gets_in(public: TestClient, world: World, secret: str | None) -> None:
    file = world.config.secrets_dir / "metrics_token"
    file.unlink()
    if secret is not None:
        file.write_text(secret)
    assert public.get("/metrics", headers={"Authorization": f"Bearer {secret or ''}"}).status_code == 401


def test_a_secret_that_is_replaced_holds_at_once(public: TestClient, world: World) -> None:
    (world.config.secrets_dir / "metrics_token").write_text("0" * 32)
    assert public.get("/metrics", headers={"Authorization": f"Bearer {'0' * 32}"}).status_code == 200
    assert public.get("/metrics", headers={"Authorization": f"Bearer {SECRET}"}).status_code == 401


def test_on_the_port_of_the_loopback_there_are_the_metrics_and_nothing_else(world: World) -> None:
    app = Front(services_of(world), 9464)

    async def on_port(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "server": ("127.0.0.1", 9464)} if scope["type"] == "http" else scope, receive, send)

    client = TestClient(on_port)
    assert client.get("/metrics").text.startswith(FIRST)
    assert client.get("/v2/sandboxes").status_code == 404 and client.get("/health").status_code == 404
    assert TestClient(app).get("/metrics").status_code == 401


def test_the_daemon_listens_there() -> None:
    with short_directory() as directory, deployed(directory) as files, running(files):
        port = int(files.read_text().partition('metrics_listen = "127.0.0.1:')[2].partition('"')[0])
        with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as connection:
            connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
    assert answer.startswith(b"HTTP/1.1 200") and b"sandboxd_build_info" in answer
