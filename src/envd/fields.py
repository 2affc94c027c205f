"""Typed reading of protobuf's JSON: absent fields have defaults, wrong ones are named in the error. Touches nothing.

Fields are asked for by their lowerCamelCase names; as protobuf demands, the original snake_case ones are taken too.
"""

import base64
import binascii
from typing import Any, TypeVar

from envd.codec import JsonObject
from envd.errors import EnvdError, invalid_argument

T = TypeVar("T")

SHOWN_CHARACTERS = 80  # of a wrong value, in an error


def text(message: JsonObject, name: str, default: str = "") -> str:
    return _typed(message, name, str, default)


def boolean(message: JsonObject, name: str, default: bool = False) -> bool:
    return _typed(message, name, bool, default)


def nested(message: JsonObject, name: str) -> JsonObject:
    return _typed(message, name, dict, {})


def integer(message: JsonObject, name: str, default: int = 0) -> int:
    """Protobuf's JSON allows a number or a decimal string."""
    value = _value(message, name)
    if value is None:
        return default
    if isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return int(value)
        except ValueError:
            pass
    raise _wrong(name, value, "an integer")


def data(message: JsonObject, name: str) -> bytes:
    """Bytes travel as base64."""
    value = text(message, name)
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise _wrong(name, value, "base64") from None


def text_list(message: JsonObject, name: str) -> list[str]:
    values: list[Any] = _typed(message, name, list, [])
    if not all(isinstance(value, str) for value in values):
        raise _wrong(name, values, "a list of strings")
    return values


def text_map(message: JsonObject, name: str) -> dict[str, str]:
    values = nested(message, name)
    if not all(isinstance(value, str) for value in values.values()):
        raise _wrong(name, values, "a map of strings")
    return values


def _value(message: JsonObject, name: str) -> object:
    value = message.get(name)
    if value is None and not name.islower():
        value = message.get("".join(f"_{c.lower()}" if c.isupper() else c for c in name))
    return value


def _typed(message: JsonObject, name: str, kind: type[T], default: T) -> T:
    value = _value(message, name)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise _wrong(name, value, f"of type {kind.__name__}")
    return value


def shown(value: object) -> str:
    """A wrong value, for an error: its beginning, however large it is."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."


def _wrong(name: str, value: object, expected: str) -> EnvdError:
    return invalid_argument(f"field {name!r}: {shown(value)} is not {expected}")
