"""How a message travels: the seam between the services, which know JSON objects, and bytes. Touches nothing.

The services speak protobuf's JSON mapping. A codec for another form (binary protobuf) turns its bytes into the same
objects and back; it is told the procedure, because only that determines the types of the fields.
"""

import json
from collections.abc import Mapping
from typing import Any, Protocol

from envd.errors import invalid_argument

JsonObject = dict[str, Any]


class Codec(Protocol):
    """`name` is what the content types end in: application/<name> (unary), application/connect+<name> (streams)."""

    name: str

    def decode(self, procedure: str, payload: bytes) -> JsonObject:
        """The request in `payload`; raises `invalid_argument` when it is none. `procedure` is "<service>/<method>"."""

    def encode(self, procedure: str, message: JsonObject) -> bytes: ...


class JsonCodec:
    name = "json"

    def decode(self, procedure: str, payload: bytes) -> JsonObject:
        try:
            message = json.loads(payload)
        except (ValueError, RecursionError) as error:
            raise invalid_argument(f"message is not JSON: {error}") from None
        if not isinstance(message, dict):
            raise invalid_argument("message is not a JSON object")
        return message

    def encode(self, procedure: str, message: JsonObject) -> bytes:
        return json.dumps(message, separators=(",", ":")).encode()


JSON = JsonCodec()  # errors and ends of streams are JSON in every codec
CODECS: Mapping[str, Codec] = {codec.name: codec for codec in (JSON,)}
