"""Frames of Docker's log, and the lines in them."""

import struct
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3

from sandboxd import dockerlog
from sandboxd.dockerlog import DockerFrames, NoFrames, lines
from sandboxd.errors import EngineDown

T1, T2 = "2027-01-15T08:00:00.000000001Z", "2027-01-15T08:00:00.000000002Z"


def test_lines_with_their_times() -> None:
    frames = [f"{T1} first\n".encode(), f"{T2} second with  spaces\r\n".encode(), f"{T2} \n".encode()]
    assert list(lines(frames)) == [(T1, "first"), (T2, "second with  spaces"), (T2, "")]


def test_a_long_line_comes_in_pieces() -> None:
    frames = [f"{T1} {'a' * 16384}".encode(), f"{T2} end\n".encode(), f"{T2} next\n".encode()]
    assert list(lines(frames)) == [(T1, "a" * 16384 + "end"), (T2, "next")]


def test_a_last_line_without_end() -> None:
    assert list(lines([f"{T1} no end".encode()])) == [(T1, "no end")]


def test_a_line_that_never_ends_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dockerlog, "MAX_LINE_BYTES", 8)
    assert [text for _, text in lines([f"{T1} aaaa".encode()] * 5)] == ["aaaaaaaa", "aaaaaaaa", "aaaa"]


def test_bytes_that_are_no_text() -> None:
    assert list(lines([T1.encode() + b" \xff\n"])) == [(T1, "\ufffd")]


class Stream:
    """docker-py's stream: yields, then fails; closing it may fail, too."""

    def __init__(self, failure: Exception, closing: Exception | None = None) -> None:
        self.failure, self.closing, self.closed = failure, closing, False

    def __iter__(self) -> Iterator[bytes]:
        yield b"frame"
        raise self.failure

    def close(self) -> None:
        self.closed = True
        if self.closing:
            raise self.closing


BREAKS = [
    OSError("reset"),
    struct.error("short"),
    ValueError("closed file"),
    urllib3.exceptions.ProtocolError("broken"),
]


@pytest.mark.parametrize("error", BREAKS)
def test_a_connection_that_breaks(error: Exception) -> None:
    frames = iter(DockerFrames(Stream(error)))
    assert next(frames) == b"frame"
    with pytest.raises(EngineDown, match="has hung up"):
        next(frames)


@pytest.mark.parametrize("error", BREAKS)
@pytest.mark.parametrize("closing", [None, OSError("not connected"), AttributeError("fp")])
def test_a_connection_that_we_closed_just_ends(error: Exception, closing: Any) -> None:
    stream = Stream(error, closing)
    frames = DockerFrames(stream)
    reading = iter(frames)
    next(reading)
    frames.close()
    assert list(reading) == [] and stream.closed


def test_no_container_no_frames() -> None:
    assert list(NoFrames()) == []
