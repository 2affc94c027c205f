"""The directory of one backup or restore."""

import fcntl
import os
from pathlib import Path

import pytest

from sandboxd.backup.workspace import workspace
from sandboxd.errors import HostError


def test_two_at_a_time_are_refused_and_a_killed_one_is_cleared_away(tmp_path: Path) -> None:
    work = tmp_path / "restore.new"
    (work / "volumes").mkdir(parents=True)
    (work / "volumes/data.img").write_text("left over")
    (work / "link").symlink_to(tmp_path)
    fd = os.open(work, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with pytest.raises(HostError, match="another restore"), workspace(work, "another restore"):
        raise AssertionError("it was let in")
    assert (work / "volumes/data.img").exists(), "it is the other's"
    os.close(fd)
    with workspace(work, "another restore") as cleared:
        assert list(cleared.iterdir()) == []
    assert not work.exists() and tmp_path.exists()


def test_it_goes_whatever_happens(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), workspace(tmp_path / "one", "") as work:
        (work / "image").touch()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
