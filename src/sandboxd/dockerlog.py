"""The log of a container as Docker sends it: a stream of frames that another thread may end; and lines made of them."""

import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from http.client import HTTPException
from typing import Any, Protocol

from docker.errors import DockerException
from urllib3.exceptions import HTTPError

from sandboxd.errors import EngineDown

MAX_LINE_BYTES = 256 * 1024  # of a line that has no end; Docker itself cuts lines into pieces of 16 KB


class Frames(Protocol):
    """Pieces of a log, each with its time in front. `close` ends a wait for the next one, from any thread."""

    def __iter__(self) -> Iterator[bytes]: ...
    def close(self) -> None: ...


class DockerFrames:
    """`stream` is docker-py's CancellableStream. Raises EngineDown when the connection breaks in the middle."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._closed = stream, False

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._stream
        except (OSError, ValueError, struct.error, DockerException, HTTPError, HTTPException) as error:
            # Each layer below has a word of its own for a connection that is closed while it reads.
            if not self._closed:
                raise EngineDown(f"Docker has hung up: {error}.") from error

    def close(self) -> None:
        self._closed = True
        with suppress(OSError, AttributeError):  # docker-py looks for a socket, which is gone when all was read
            self._stream.close()


class NoFrames:
    """The log of a container that is not there."""

    def __iter__(self) -> Iterator[bytes]:
        return iter(())

    def close(self) -> None:
        pass


def lines(frames: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """(time, text) of each line; the time is RFC 3339 with nine digits of a second, so that times compare as text.

    A line longer than 16 KB comes in several frames, each with a time in front; all but the last have no line end.
    """
    started, pieces, count_bytes = "", list[bytes](), 0
    for frame in frames:
        stamp, _, text = frame.partition(b" ")
        started = started or stamp.decode(errors="replace")
        pieces.append(text)
        count_bytes += len(text)
        if text.endswith(b"\n") or count_bytes >= MAX_LINE_BYTES:
            yield started, _joined(pieces)
            started, pieces, count_bytes = "", [], 0
    if pieces:
        yield started, _joined(pieces)


def _joined(pieces: list[bytes]) -> str:
    return b"".join(pieces).decode(errors="replace").removesuffix("\n").removesuffix("\r")
