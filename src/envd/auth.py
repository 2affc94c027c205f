"""Who may call: the sandbox's token, signed file URLs, and the user named by Basic auth. Touches nothing."""

import base64
import hashlib
import hmac
import time

from envd.config import AgentConfig
from envd.errors import unauthenticated
from envd.web import Request

UNAUTHORIZED = "unauthorized access, please provide a valid access token or method signing if supported"
SECONDS_DIGITS = 20  # more of them are no time, and thousands no number that Python reads
SIGNED_OPERATIONS = {"GET": "read", "HEAD": "read", "POST": "write"}


def check_token(request: Request, config: AgentConfig) -> None:
    """Raise `unauthenticated` unless the request carries the token of this sandbox."""
    if not _token_matches(request, config):
        raise unauthenticated(UNAUTHORIZED)


def check_token_or_signature(request: Request, config: AgentConfig) -> None:
    """The rule of /files: the token, or a signature of path, operation, user and expiry made with it."""
    if _token_matches(request, config):
        return
    given = request.query.get("signature")
    if given is None:
        has_token = request.header("x-access-token") is not None
        raise unauthenticated(UNAUTHORIZED if has_token else "missing signature query parameter")
    expiration = request.query.get("signature_expiration")
    expected = file_signature(
        path=request.query.get("path", ""),
        operation=SIGNED_OPERATIONS.get(request.method, ""),
        username=request.query.get("username", ""),
        token=config.access_token,
        expiration=expiration,
    )
    if not _equal(given, expected):
        raise unauthenticated("invalid signature")
    if expiration is not None:
        if not (expiration.isascii() and expiration.isdecimal() and len(expiration) <= SECONDS_DIGITS):
            raise unauthenticated("invalid signature: signature_expiration is not a number of seconds")
        if int(expiration) < time.time():
            raise unauthenticated("signature is already expired")


def file_signature(path: str, operation: str, username: str, token: str, expiration: str | None) -> str:
    """The signature that E2B's clients compute; `expiration` is in Unix seconds, as it stands in the query."""
    fields = [path, operation, username, token]
    if expiration is not None:
        fields.append(expiration)
    digest = hashlib.sha256(":".join(fields).encode("utf-8", "surrogateescape")).digest()
    return "v1_" + base64.b64encode(digest).decode().rstrip("=")


def basic_user(request: Request) -> str | None:
    """The user name of `Authorization: Basic` (the password is meaningless), None when there is none."""
    scheme, _, value = (request.header("authorization") or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name = base64.b64decode(value.strip(), validate=True).decode().partition(":")[0]
    except ValueError:  # not base64, not even ASCII, or not UTF-8
        raise unauthenticated("invalid Authorization header: not Basic credentials") from None
    return name or None


def _token_matches(request: Request, config: AgentConfig) -> bool:
    return _equal(request.header("x-access-token") or "", config.access_token)


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode())
