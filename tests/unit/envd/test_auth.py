import base64
import hashlib
import time
from typing import Any

import httpx
import pytest

from envd.auth import basic_user, check_token, check_token_or_signature
from envd.config import AgentConfig
from envd.errors import EnvdError
from envd.web import Message, Request

CONFIG = AgentConfig(access_token="secret")


async def nothing() -> Message:
    return {"type": "http.disconnect"}


def request(method: str = "GET", query: dict[str, str] | None = None, **headers: str) -> Request:
    scope = {
        "method": method,
        "path": "/files",
        "query_string": str(httpx.QueryParams(query or {})).encode(),
        "headers": [(name.replace("_", "-").encode(), value.encode("utf-8")) for name, value in headers.items()],
    }
    return Request(scope, nothing)


def sign(*fields: str) -> str:
    """As E2B's clients do it."""
    return "v1_" + base64.b64encode(hashlib.sha256(":".join(fields).encode()).digest()).decode().rstrip("=")


def test_the_token_opens() -> None:
    check_token(request(x_access_token="secret"), CONFIG)
    check_token_or_signature(request(x_access_token="secret"), CONFIG)


@pytest.mark.parametrize(
    "headers", [{}, {"x_access_token": ""}, {"x_access_token": "secret1"}, {"x_access_token": "ü"}]
)
def test_anything_else_does_not(headers: dict[str, Any]) -> None:
    with pytest.raises(EnvdError, match="unauthorized access") as error:
        check_token(request(**headers), CONFIG)
    assert error.value.status == 401


def test_a_signature_opens_its_path_for_its_operation_and_user() -> None:
    reading = {"path": "/a b", "signature": sign("/a b", "read", "", "secret")}
    check_token_or_signature(request(query=reading), CONFIG)
    check_token_or_signature(request("HEAD", query=reading), CONFIG)
    writing = {"path": "~/ü", "username": "root", "signature": sign("~/ü", "write", "root", "secret")}
    check_token_or_signature(request("POST", query=writing), CONFIG)
    for wrong in ({**reading, "path": "/b"}, {**reading, "username": "root"}, {**reading, "signature": "v1_"}):
        with pytest.raises(EnvdError, match="invalid signature"):
            check_token_or_signature(request(query=wrong), CONFIG)
    with pytest.raises(EnvdError, match="invalid signature"):
        check_token_or_signature(request("POST", query=reading), CONFIG)


def test_a_signature_expires() -> None:
    def signed(expiration: str) -> Request:
        signature = sign("/a", "read", "", "secret", expiration)
        return request(query={"path": "/a", "signature": signature, "signature_expiration": expiration})

    check_token_or_signature(signed(str(int(time.time()) + 60)), CONFIG)
    with pytest.raises(EnvdError, match="signature is already expired"):
        check_token_or_signature(signed(str(int(time.time()) - 2)), CONFIG)
    with pytest.raises(EnvdError, match="not a number"):
        check_token_or_signature(signed("soon"), CONFIG)


def test_a_missing_signature_is_told_from_a_wrong_token() -> None:
    with pytest.raises(EnvdError, match="missing signature query parameter"):
        check_token_or_signature(request(), CONFIG)
    with pytest.raises(EnvdError, match="unauthorized access"):
        check_token_or_signature(request(x_access_token="wrong"), CONFIG)


def test_the_user_comes_from_basic_auth() -> None:
    assert basic_user(request()) is None
    assert basic_user(request(authorization="Bearer x")) is None
    assert basic_user(request(authorization="Basic " + base64.b64encode(b"root:").decode())) == "root"
    assert basic_user(request(authorization="Basic " + base64.b64encode(b":").decode())) is None
    with pytest.raises(EnvdError, match="Basic credentials"):
        basic_user(request(authorization="Basic ???"))
