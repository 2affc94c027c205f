"""Files that other hosts change, too. What NFS keeps of them is seen by tests/nfs."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxd import nfsfiles


def test_read_and_size_of_a_file_that_is_there_or_not(tmp_path: Path) -> None:
    file = tmp_path / "file"
    assert nfsfiles.read(file) == "" and nfsfiles.size(file) is None
    nfsfiles.replace(file, "text")
    assert nfsfiles.read(file) == "text" and nfsfiles.size(file) == 4
    assert file.stat().st_mode & 0o777 == 0o600 and list(tmp_path.iterdir()) == [file]


@pytest.fixture
def opens(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The flags with which files, and not directories, are opened."""
    seen, plain = [], os.open

    def open_(path: Path, flags: int, mode: int = 0o777) -> int:
        if not flags & os.O_DIRECTORY:
            seen.append(flags)
        return plain(path, flags, mode)

    monkeypatch.setattr(os, "open", open_)
    return seen


WAYS: dict[str, Callable[[Path], object]] = {
    "read": nfsfiles.read,
    "size": nfsfiles.size,
    "replace": lambda file: nfsfiles.replace(file, "more"),
    "open": lambda file: os.close(nfsfiles.open_own(file, os.O_RDWR | os.O_CREAT)),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_file_is_opened_so_that_it_could_be_delegated(tmp_path: Path, opens: list[int], way: str) -> None:
    (tmp_path / "file").write_text("text")
    WAYS[way](tmp_path / "file")
    assert opens and all(flags & os.O_DIRECT for flags in opens)


def test_what_is_opened_need_not_be_read_and_written_in_blocks(tmp_path: Path) -> None:
    handle = nfsfiles.open_own(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    assert not fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_DIRECT
    assert os.write(handle, b"odd") == 3 and os.pread(handle, 10, 1) == b"dd"
    os.close(handle)


def test_a_file_system_without_direct_io_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the file is there by the time that it refuses."""
    plain = os.open

    def refuse(path: Path, flags: int, mode: int = 0o777) -> int:
        handle = plain(path, flags & ~os.O_DIRECT, mode)
        if flags & os.O_DIRECT:
            os.close(handle)
            raise OSError(errno.EINVAL, "Invalid argument")
        return handle

    monkeypatch.setattr(os, "open", refuse)
    nfsfiles.replace(tmp_path / "file", "text")
    assert nfsfiles.read(tmp_path / "file") == "text" and nfsfiles.size(tmp_path / "file") == 4
    assert list(tmp_path.iterdir()) == [tmp_path / "file"] and nfsfiles.read(tmp_path / "none") == ""


def test_to_ask_for_what_is_no_directory_is_fine(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file", tmp_path / "none"):
        nfsfiles.ask_anew(path)


def test_a_lock_is_got_or_not(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with file.open("w") as first, file.open("r+") as second:
        assert nfsfiles.lock(first, 0) and not nfsfiles.lock(second, 0.05)
        first.close()
        assert nfsfiles.lock(second, 0)


def test_a_file_is_still_that_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, kept = tmp_path / "lock", tmp_path / "kept"
    with file.open("w") as opened:
        assert nfsfiles.is_still(opened, file)
        file.rename(kept)
        assert not nfsfiles.is_still(opened, file), "it is gone"
        file.touch()
        assert not nfsfiles.is_still(opened, file), "another one"
        assert nfsfiles.is_still(opened, kept)

        def gone(handle: int) -> None:
            raise OSError(errno.ESTALE, "Stale file handle")

        monkeypatch.setattr(os, "fstat", gone)
        assert not nfsfiles.is_still(opened, kept), "the server knows it no more"
