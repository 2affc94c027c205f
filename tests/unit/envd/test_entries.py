import os
import socket
from pathlib import Path

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
