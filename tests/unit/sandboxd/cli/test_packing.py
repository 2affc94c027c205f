"""A directory as the body of a request, as GNU tar and tarfile read it."""

import io
import os
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandboxd.cli import packing
from sandboxd.cli.exits import CliError
from sandboxd.cli.http1 import Connection
from sandboxd.cli.packing import header_of, send_directory, send_file, walk
from sandboxd.cli.progress import Progress
from sandboxd.cli.streams import Refused

QUIET = Progress("uploaded")


class Wire:
    """A connection whose other end is read after all was sent; it holds some 200 KB."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.connection = Connection(ours, "host")

    def close(self) -> None:
        self.connection.close()
        self.theirs.close()

    def received(self) -> bytes:
        self.connection.socket.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: self.theirs.recv(65536), b""))


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.close()


def unchunked(data: bytes) -> bytes:
    content = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        piece, data = data[: int(size, 16)], data[int(size, 16) :]
        assert data.startswith(b"\r\n")
        data = data[2:]
        if not piece:
            assert not data
            return content
        content += piece


def test_the_stream_is_a_whole_archive(wire: Wire, here: Path) -> None:
    (here / "d").mkdir()
    (here / "d/file").write_bytes(b"x" * 1000)
    (here / "d/exact").write_bytes(b"y" * 1024)
    (here / "empty").touch()
    (here / "link").symlink_to("d/file")
    os.utime(here / "empty", (1_500_000_000, 1_500_000_000))
    send_directory(wire.connection, str(here), ".", QUIET)
    content = unchunked(wire.received())
    assert content.endswith(bytes(1024)) and len(content) % 512 == 0
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert archive.getnames() == [".", "./d", "./d/exact", "./d/file", "./empty", "./link"]
        assert {member.uid for member in archive} == {0} and {member.uname for member in archive} == {""}
        found = archive.extractfile("./d/file")
        assert found is not None and found.read() == b"x" * 1000
        assert archive.getmember("./link").linkname == "d/file"
        assert archive.getmember("./empty").mtime == 1_500_000_000


def test_a_directory_comes_before_what_is_in_it(here: Path) -> None:
    (here / "b/c").mkdir(parents=True)
    (here / "a").touch()
    (here / "loop").symlink_to(".")
    assert [name for _, name in walk(str(here), ".")] == [".", "./a", "./b", "./b/c", "./loop"]


def test_modes_are_kept_and_sockets_are_left_out(here: Path) -> None:
    (here / "run").touch()
    (here / "run").chmod(0o4751)
    member = header_of(str(here / "run"), "run", (here / "run").lstat())
    assert member is not None and member.mode == 0o4751
    os.mkfifo(here / "pipe")
    assert header_of(str(here / "pipe"), "pipe", (here / "pipe").lstat()) is None


def test_a_file_that_shrinks_is_an_error(wire: Wire, here: Path) -> None:
    (here / "f").write_bytes(bytes(100))
    with (here / "f").open("rb") as file, pytest.raises(CliError, match=r"became shorter .*200 bytes, then 100"):
        send_file(wire.connection, file, 200, QUIET)


def test_a_file_that_grows_is_sent_as_long_as_it_was(wire: Wire, here: Path) -> None:
    (here / "f").write_bytes(b"x" * 300)
    with (here / "f").open("rb") as file:
        send_file(wire.connection, file, 200, QUIET)
    assert wire.received() == b"x" * 200


def test_it_stops_when_the_other_side_has_answered(wire: Wire, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "SLICE_BYTES", 1000)
    (here / "f").write_bytes(bytes(50_000))
    wire.theirs.sendall(b"HTTP/1.1 507 No\r\n\r\n")
    with (here / "f").open("rb") as file, pytest.raises(Refused):
        send_file(wire.connection, file, 50_000, QUIET)
    assert len(wire.received()) == 1000
