"""Which path leads where, and who may take it."""

import json
import os

import httpx
import pytest

from tests.unit.envd.client import DEADLINE_S, TOKEN, Client, Running, envelope
from tests.unit.envd.test_auth import sign

UNAUTHORIZED = {
    "code": 401,
    "message": "unauthorized access, please provide a valid access token or method signing if supported",
}


@pytest.fixture
def stranger(agent: Running) -> Client:
    return Client(agent.port, token="wrong")


def test_health_needs_no_token(stranger: Client) -> None:
    response = stranger.http.get("/health")
    assert (response.status_code, response.content) == (204, b"")
    assert "content-length" not in response.headers and "transfer-encoding" not in response.headers


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/envs"),
        ("GET", "/metrics"),
        ("GET", "/no/such"),
        ("POST", "/init"),
        ("POST", "/health"),
        ("POST", "/process.Process/List"),
        ("POST", "/process.Process/Start"),
        ("POST", "/filesystem.Filesystem/Stat"),
        ("GET", "/files?path=/etc/passwd"),
        ("POST", "/files?path=/tmp/never"),
    ],
)
def test_everything_else_does(stranger: Client, method: str, path: str) -> None:
    response = stranger.http.request(method, path, content=b"{}")
    assert (response.status_code, response.json()) == (401, UNAUTHORIZED)


def test_with_the_token_unknown_paths_are_not_found(client: Client) -> None:
    for path in ("/init", "/no/such", "/process.Process/NoSuch", "/", "/files/x"):
        response = client.http.post(path)
        assert (response.status_code, response.json()["code"]) == (404, 404)


def test_wrong_methods_are_refused(client: Client) -> None:
    for path in ("/envs", "/metrics", "/files"):
        response = client.http.put(path)
        assert (response.status_code, response.json()["code"]) == (405, 405)
        assert "GET" in response.headers["allow"]
    assert client.http.get("/process.Process/List").status_code == 405


def test_browsers_may_ask_first(stranger: Client) -> None:
    response = stranger.http.options("/files")
    assert response.status_code == 204 and response.headers["access-control-allow-origin"] == "*"
    assert "authorization" in response.headers["access-control-allow-headers"].lower()


def test_envs_and_metrics(client: Client) -> None:
    assert client.http.get("/envs").json() == {
        "E2B_SANDBOX": "true",
        "E2B_SANDBOX_ID": "abc123def456",
        "E2B_TEMPLATE_ID": "base",
        "FROM_SANDBOX": "yes",
    }
    metrics = client.http.get("/metrics").json()
    assert 0 < metrics["mem_used"] <= metrics["mem_total"] and metrics["cpu_count"] >= 1


def test_a_signed_url_opens_one_file(agent: Running) -> None:
    query = {"path": "/etc/passwd", "signature": sign("/etc/passwd", "read", "", TOKEN)}
    with httpx.Client(base_url=f"http://127.0.0.1:{agent.port}", timeout=DEADLINE_S) as http:
        response = http.get("/files", params=query)
        assert response.status_code == 200 and response.text.startswith("root:")
        # A header is not signed, so it decides nothing.
        assert http.get("/files", params=query, headers={"Authorization": "Basic bm8tc3VjaDo="}).status_code == 200
        assert http.get("/files", params={**query, "path": "/etc/group"}).json()["message"] == "invalid signature"
        assert http.get("/files", params={**query, "username": "root"}).status_code == 401
        assert http.post("/files", params=query).status_code == 401


def test_a_replaced_agent_file_counts_for_the_next_request(agent: Running, client: Client) -> None:
    old = agent.file.read_text()

    def replace(text: str) -> None:
        new = agent.file.with_suffix(".new")
        new.write_text(text)
        os.rename(new, agent.file)

    try:
        replace(json.dumps({**json.loads(old), "accessToken": "other", "envs": {"FROM_SANDBOX": "claimed"}}))
        assert client.http.get("/envs").status_code == 401
        claimed = Client(agent.port, "other")
        assert claimed.run("echo $FROM_SANDBOX").stdout == b"claimed\n"
    finally:
        replace(old)
    assert client.http.get("/envs").status_code == 200


def test_a_streams_token_and_type_are_refused_before_it_begins(stranger: Client, client: Client) -> None:
    headers = {"Content-Type": "application/connect+json"}
    refused = stranger.http.post("/process.Process/Start", content=envelope({}), headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (401, 401)
    refused = client.http.post("/process.Process/Start", content=b"", headers={"Content-Type": "application/grpc"})
    assert refused.status_code == 415 and "application/connect+json" in refused.headers["accept-post"]
