"""The framing of Connect's streams: flags (1 byte), length (4 bytes, big endian), payload. Touches nothing."""

import struct

from envd.errors import EnvdError, invalid_argument
from envd.web import MAX_MESSAGE_BYTES

FLAG_COMPRESSED, FLAG_END = 0x01, 0x02
ENVELOPE_HEAD = struct.Struct(">BI")


def envelope(payload: bytes, flags: int = 0) -> bytes:
    return ENVELOPE_HEAD.pack(flags, len(payload)) + payload


class EnvelopeReader:
    """Cuts a byte stream into the payloads of its messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that are complete with `data`; the end-of-stream envelope of a client carries none."""
        self._buffer += data
        payloads = []
        while len(self._buffer) >= ENVELOPE_HEAD.size:
            flags, length = ENVELOPE_HEAD.unpack_from(self._buffer)
            if flags & FLAG_COMPRESSED:
                raise EnvdError("unimplemented", "compressed messages are not supported")
            if length > MAX_MESSAGE_BYTES:
                raise EnvdError("resource_exhausted", f"message is larger than {MAX_MESSAGE_BYTES} bytes")
            end = ENVELOPE_HEAD.size + length
            if len(self._buffer) < end:
                break
            if not flags & FLAG_END:
                payloads.append(bytes(self._buffer[ENVELOPE_HEAD.size : end]))
            del self._buffer[:end]
        return payloads

    def close(self) -> None:
        """Raise `invalid_argument` when the stream stops inside an envelope."""
        if self._buffer:
            raise invalid_argument("the stream ends inside a message")
