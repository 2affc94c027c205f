"""Files that other hosts change, too. What NFS keeps of them is seen by tests/nfs."""

import errno
import os
from pathlib import Path

import pytest

from sandboxd import nfsfiles


def test_read_and_size_of_a_file_that_is_there_or_not(tmp_path: Path) -> None:
    file = tmp_path / "file"
    assert nfsfiles.read(file) == "" and nfsfiles.size(file) is None
    nfsfiles.replace(file, "text")
    assert nfsfiles.read(file) == "text" and nfsfiles.size(file) == 4
    assert file.stat().st_mode & 0o777 == 0o600 and list(tmp_path.iterdir()) == [file]


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
