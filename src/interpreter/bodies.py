"""What clients ask: the JSON of a request, checked. Touches nothing."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from envd.errors import invalid_argument
from envd.fields import shown
from envd.web import Request

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Execute:
    """`context_id` names a context, `language` the default context of a language; with neither it is Python's."""

    code: str
    context_id: str | None = None
    language: str | None = None
    env_vars: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CreateContext:
    language: str | None = None
    cwd: str | None = None


async def execute(request: Request) -> Execute:
    """Raises `invalid_argument` for what cannot be understood."""
    body = await _object(request)
    code = body.get("code")
    if not isinstance(code, str):
        raise invalid_argument(f"code = {shown(code)}: must be a string")
    if not _encodable(code):
        raise invalid_argument("code: has half of a surrogate pair, which no UTF-8 text can hold")
    context_id, language = _text(body, "context_id"), _text(body, "language")
    if context_id is not None and language is not None:
        raise invalid_argument("context_id and language exclude each other: a context has its language")
    return Execute(code, context_id, language, _variables(body.get("env_vars")))


async def create_context(request: Request) -> CreateContext:
    """Raises `invalid_argument` for what cannot be understood; no body at all is a request without wishes."""
    body = await _object(request)
    return CreateContext(_text(body, "language"), _text(body, "cwd"))


async def _object(request: Request) -> Mapping[str, Any]:
    try:
        body = json.loads(await request.body() or b"{}")
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise invalid_argument(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise invalid_argument("the body is not a JSON object")
    return body


def _text(body: Mapping[str, Any], key: str) -> str | None:
    value = body.get(key)
    if value is not None and not isinstance(value, str):
        raise invalid_argument(f"{key} = {shown(value)}: must be a string")
    return value or None


def _encodable(text: str) -> bool:
    """Whether a kernel can be told it. JSON can spell what UTF-8 cannot ("\\ud800")."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _variables(value: object) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise invalid_argument(f"env_vars = {shown(value)}: must be an object")
    for name, text in value.items():
        if not VARIABLE.fullmatch(name):
            raise invalid_argument(f"env_vars: {shown(name)} is not the name of an environment variable")
        if not isinstance(text, str) or "\0" in text or not _encodable(text):
            raise invalid_argument(f"env_vars: {name} = {shown(text)}: must be UTF-8 text without null bytes")
    return value
