"""The kernel's events, as they come."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from envd.inotify import IN_CREATE, IN_IGNORED, IN_ISDIR, READ_BYTES, Inotify, RawEvent, parse


@pytest.fixture
def inotify() -> Iterator[Inotify]:
    made = Inotify()
    yield made
    made.pipe.close()


def read(inotify: Inotify) -> list[RawEvent]:
    return list(parse(os.read(inotify.pipe.fileno(), READ_BYTES)))


def test_what_happens_in_a_directory_is_told(inotify: Inotify, tmp_path: Path) -> None:
    wd = inotify.add(str(tmp_path), IN_CREATE)
    assert inotify.add(f"{tmp_path}/.", IN_CREATE) == wd
    (tmp_path / "ü").touch()
    os.mkdir(os.fsencode(tmp_path) + b"/\xff")
    assert read(inotify) == [
        RawEvent(wd, IN_CREATE, 0, "ü"),
        RawEvent(wd, IN_CREATE | IN_ISDIR, 0, os.fsdecode(b"\xff")),
    ]
    inotify.remove(wd)
    inotify.remove(wd)  # fine
    assert read(inotify) == [RawEvent(wd, IN_IGNORED, 0, "")]
    with pytest.raises(BlockingIOError):
        read(inotify)


def test_errors_name_the_path(inotify: Inotify, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name, code in (("none", errno.ENOENT), ("file", errno.ENOTDIR)):
        with pytest.raises(OSError) as raised:
            inotify.add(f"{tmp_path}/{name}", IN_CREATE)
        assert (raised.value.errno, raised.value.filename) == (code, f"{tmp_path}/{name}")
