"""multipart/form-data as a stream: bytes go in, events come out. Touches nothing.

The file name is a full path for E2B's clients. Ready-made parsers reduce it to its last part, hence this one.
"""

import re
from dataclasses import dataclass

from envd.errors import EnvdError, invalid_argument

MAX_PART_HEAD_BYTES = 16 * 1024

# name="..." or name=token. Browsers put raw UTF-8 between the quotes and escape as %22, %0D and %0A only (HTML
# standard); Python's httpx doubles a backslash, too. As in Go, a backslash escapes the separators of MIME and no more:
# in a name like C:\dir it stands for itself.
_PARAMETER = re.compile(r';\s*([A-Za-z*]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;"\s]*))')
_BACKSLASHED = re.compile(r'\\([()<>@,;:\\"/\[\]?=])')


@dataclass(frozen=True)
class Part:
    """The beginning of a part."""

    name: str | None
    filename: str | None


@dataclass(frozen=True)
class Data:
    """A piece of the current part's content."""

    content: bytes


@dataclass(frozen=True)
class PartEnd:
    """The current part is complete."""


Event = Part | Data | PartEnd


def boundary_of(content_type: str) -> bytes:
    """The boundary in a Content-Type header; raises `invalid_argument` without one."""
    for name, quoted, plain in _PARAMETER.findall(content_type):
        if name.lower() == "boundary" and (quoted or plain):
            return str(quoted or plain).encode("latin-1")
    raise invalid_argument(f"content type {content_type!r} has no boundary")


class MultipartParser:
    """Feed it the body; `close` tells whether the body was whole. It holds no more than a boundary or a part's head."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._buffer = bytearray(b"\r\n")  # so that the first boundary looks like the others
        self._state = "preamble"  # -> "boundary" -> "head" -> "content" -> "boundary" ... -> "done"

    def feed(self, data: bytes) -> list[Event]:
        self._buffer += data
        events: list[Event] = []
        while self._step(events):
            pass
        return events

    def close(self) -> None:
        if self._state != "done":
            raise invalid_argument("the multipart body ends before its closing boundary")

    def _step(self, events: list[Event]) -> bool:
        """Take one step; False when more bytes are needed for the next."""
        match self._state:
            case "preamble" | "content":
                return self._until_delimiter(events)
            case "boundary":
                return self._after_boundary()
            case "head":
                return self._part_head(events)
            case _:  # what follows the closing boundary means nothing
                self._buffer.clear()
                return False

    def _until_delimiter(self, events: list[Event]) -> bool:
        found = self._buffer.find(self._delimiter)
        # Without a delimiter all but the bytes that may be the beginning of one are content.
        end = found if found >= 0 else max(0, len(self._buffer) - len(self._delimiter) + 1)
        if self._state == "content" and end:
            events.append(Data(bytes(self._buffer[:end])))
        if found < 0:
            del self._buffer[:end]
            return False
        if self._state == "content":
            events.append(PartEnd())
        del self._buffer[: found + len(self._delimiter)]
        self._state = "boundary"
        return True

    def _after_boundary(self) -> bool:
        if self._buffer.startswith(b"--"):
            self._state = "done"
            return True
        line_end = self._buffer.find(b"\r\n")
        if line_end < 0:
            self._limit()
            return False
        if self._buffer[:line_end].strip(b" \t"):
            raise invalid_argument("malformed multipart body: unexpected bytes after a boundary")
        del self._buffer[:line_end]  # the line break stays: a part without headers is then an empty line at once
        self._state = "head"
        return True

    def _part_head(self, events: list[Event]) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            self._limit()
            return False
        events.append(_part(bytes(self._buffer[:end])))
        del self._buffer[: end + 4]
        self._state = "content"
        return True

    def _limit(self) -> None:
        if len(self._buffer) > MAX_PART_HEAD_BYTES:
            raise EnvdError("invalid_argument", f"the head of a part is larger than {MAX_PART_HEAD_BYTES} bytes")


def _part(head: bytes) -> Part:
    for line in head.decode("utf-8", "surrogateescape").split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-disposition":
            parameters = {
                key.lower(): _BACKSLASHED.sub(r"\1", quoted) or plain
                for key, quoted, plain in _PARAMETER.findall(value)
            }
            return Part(_unescape(parameters.get("name")), _unescape(parameters.get("filename")))
    return Part(None, None)


def _unescape(value: str | None) -> str | None:
    if value is None:
        return None
    return value.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")
