"""Which part of a file a download wants, and in which encoding (RFC 9110, sections 12 and 14). Touches nothing."""

import time
from typing import NamedTuple

from envd.errors import EnvdError

UNIT = "bytes="
LAST_S = 253402300799  # the last second of the year 9999


class Span(NamedTuple):
    """Of a file's bytes, `length` of them from `start` on."""

    start: int
    length: int


def last_modified(mtime_s: float) -> str:
    """The date as HTTP has it, which ends with the year 9999. Files may claim any."""
    date = time.gmtime(min(max(mtime_s, 0), LAST_S))
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", date)


def wanted_span(range_header: str | None, if_range: str | None, size: int, mtime_s: float) -> Span | None:
    """What a Range header asks for; None is all of it. Raises 416 when it asks for what is behind the end.

    All is also what it gets when the file has changed since `if_range`, or when the header is malformed or asks for
    several ranges, as the standard allows. An empty file has no ranges.
    """
    if range_header is None or not range_header.startswith(UNIT) or size == 0:
        return None
    if if_range is not None and if_range != last_modified(mtime_s):
        return None
    first, dash, last = (part.strip() for part in range_header.removeprefix(UNIT).partition("-"))
    if not dash or not all(part == "" or (part.isascii() and part.isdecimal()) for part in (first, last)):
        return None
    if first:
        start, end = _position(first), min(_position(last), size - 1) if last else size - 1
        if last and _position(last) < start:
            return None
    elif last:
        start, end = max(0, size - _position(last)), size - 1
    else:
        return None
    if start > end:
        message = f"range {range_header!r} is not within the {size} bytes of the file"
        raise EnvdError("out_of_range", message, status=416, headers={"content-range": f"bytes */{size}"})
    return Span(start, end - start + 1)


def _position(digits: str) -> int:
    """Python refuses to read thousands of digits; what 20 can say is behind the end of every file already."""
    return int(digits.lstrip("0")[:20] or "0")


def check_encoding(accept_encoding: str | None) -> None:
    """Files are sent as they are; raises 406 when the client forbids that (`identity;q=0`, or `*;q=0`)."""
    weights = {}
    for item in (accept_encoding or "").split(","):
        coding, _, parameter = item.partition(";")
        name, _, value = parameter.partition("=")
        weights[coding.strip().lower()] = value.strip() if name.strip().lower() == "q" else "1"
    weight = weights.get("identity", weights.get("*", "1"))
    if weight.strip("0.") == "":
        message = f"no acceptable encoding in {accept_encoding!r}: files are sent as they are (identity)"
        raise EnvdError("invalid_argument", message, status=406)
