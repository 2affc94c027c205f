import os
import socket
import tempfile
from pathlib import Path

import pytest

from envd.entries import describe, read_metadata, replace_metadata


def test_links_show_their_target(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir(0o750)
    (tmp_path / "link").symlink_to("dir")
    entry = describe(str(tmp_path / "link"))
    assert entry["type"] == "FILE_TYPE_DIRECTORY" and entry["mode"] == 0o750
    assert entry["permissions"] == "Lrwxrwxrwx" and entry["size"] == str(len("dir"))
    assert entry["symlinkTarget"] == str((tmp_path / "dir").resolve()) and entry["isSymlink"] is True


def test_dangling_links_loops_and_sockets_have_no_type(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "s"))
    for name in ("dangling", "loop", "s"):
        assert describe(str(tmp_path / name))["type"] == "FILE_TYPE_UNSPECIFIED"


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff"
    os.close(os.open(path, os.O_CREAT))
    assert os.fsencode(describe(os.fsdecode(path))["name"]) == b"\xff"
    assert describe("/")["name"] == "/"


def test_unknown_owners_are_numbers(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.touch()
    if os.geteuid() == 0:
        os.chown(file, 54_321, 54_320)
        assert (describe(str(file))["owner"], describe(str(file))["group"]) == ("54321", "54320")
    else:
        assert describe(str(file))["owner"] == file.owner()


def test_metadata_are_replaced_as_a_whole(tmp_path: Path) -> None:
    with (tmp_path / "a").open("w") as file:
        replace_metadata(file.fileno(), {"one": "1", "two": "ü"})
        supported = bool(read_metadata(file.fileno()))  # not on every file system; then both do nothing
        assert read_metadata(file.fileno()) == ({"one": "1", "two": "ü"} if supported else {})
        replace_metadata(file.fileno(), {"three": "3"})
        assert read_metadata(file.fileno()) == ({"three": "3"} if supported else {})


@pytest.mark.parametrize(
    ("mtime_s", "shown"),
    [
        (2**40, "9999-12-31T23:59:59.999999999Z"),
        (-(2**40), "0001-01-01T00:00:00Z"),
        (-62_135_596_799, "0001-01-01T00:00:01Z"),
    ],
)
def test_times_that_no_calendar_has(mtime_s: int, shown: str) -> None:
    """Anybody can give a file such a time; not every file system keeps it, but that of /dev/shm does."""
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        os.utime(file.name, (mtime_s, mtime_s))
        assert describe(file.name)["modifiedTime"] == shown
