"""The protocol itself, over unary calls and streams that exist."""

import pytest

from tests.unit.envd.client import Client, Json, bash, envelope

STREAM = {"Content-Type": "application/connect+json"}


@pytest.mark.parametrize("body", [b"", b"[]", b"nonsense", b"\xff", b"[" * 100_000])
def test_a_unary_call_wants_one_object(client: Client, body: bytes) -> None:
    response = client.http.post("/process.Process/List", content=body, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (400, "invalid_argument")


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/proto", "application/connect+json"])
def test_a_unary_call_wants_json(client: Client, content_type: str) -> None:
    response = client.http.post("/process.Process/List", content=b"{}", headers={"Content-Type": content_type})
    assert response.status_code == 415
    assert response.headers["accept-post"] == "application/json, application/connect+json"


def test_parameters_of_the_type_do_not_matter(client: Client) -> None:
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert client.http.post("/process.Process/List", content=b"{}", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_argument"),
        (b"\0\0\0\0\x05{}", "invalid_argument"),
        (envelope(bash("true")) * 2, "invalid_argument"),
        (envelope([]), "invalid_argument"),
        (b"\x01\0\0\0\x02{}", "unimplemented"),
        (b"\0\x7f\0\0\0", "resource_exhausted"),
    ],
)
def test_a_stream_tells_its_errors_at_its_end(client: Client, body: bytes, code: str) -> None:
    response = client.http.post("/process.Process/Start", content=body, headers=STREAM)
    assert response.status_code == 200 and response.headers["content-type"] == STREAM["Content-Type"]
    assert response.content[0] == 2 and f'"code":"{code}"'.encode() in response.content


def test_a_client_stream_tells_its_errors_too(client: Client) -> None:
    message: Json = {"data": {"input": {"stdin": ""}}}
    for body, code in ((envelope(message), "invalid_argument"), (envelope({"start": {}}), "unimplemented")):
        response = client.http.post("/process.Process/StreamInput", content=body, headers=STREAM)
        assert response.status_code == 200 and response.content[0] == 2
        assert f'"code":"{code}"'.encode() in response.content


def test_a_message_has_a_limit(client: Client) -> None:
    headers = {"Content-Type": "application/json"}
    body = (bytes(1_000_000) for _ in range(20))
    response = client.http.post("/process.Process/List", content=body, headers=headers)
    assert (response.status_code, response.json()["code"]) == (413, "resource_exhausted")


def test_numbers_in_headers(client: Client) -> None:
    done = client.start(bash("true"), Connect_Timeout_Ms="60000.0", Keepalive_Ping_Interval="50")
    assert done.end["exitCode"] == 0
    assert client.start(bash("true"), Connect_Timeout_Ms="0").end["exitCode"] == 0
    headers = {"Connect-Timeout-Ms": "soon"}
    response = client.http.post("/process.Process/List", json={}, headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "invalid_argument")
