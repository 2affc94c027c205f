"""The directory that a sandbox sees at /run/sandbox."""

import json
import os
from pathlib import Path

import pytest

from sandboxd.errors import HostError
from sandboxd.slotdir import SlotDirs, agent_text
from sandboxd.tokens import agent_token


def test_what_the_agent_reads() -> None:
    assert json.loads(agent_text("id", "base", {"A": "1"}, "example.com", b"key")) == {
        "sandboxID": "id",
        "templateID": "base",
        "accessToken": agent_token(b"key", "id"),
        "envs": {"__VITE_ADDITIONAL_SERVER_ALLOWED_HOSTS": ".example.com", "A": "1"},
        "user": "user",
        "workdir": "/code",
    }


@pytest.fixture
def dirs(tmp_path: Path) -> SlotDirs:
    made = SlotDirs(tmp_path)
    made.create("slot", os.getuid())
    return made


def test_only_its_owner_reads_it(dirs: SlotDirs, tmp_path: Path) -> None:
    dirs.write("slot", "{}")
    assert (tmp_path / "sandboxes").stat().st_mode & 0o777 == 0o711
    assert dirs.path("slot").stat().st_mode & 0o777 == 0o500
    assert (dirs.path("slot") / "agent.json").stat().st_mode & 0o777 == 0o400


def test_a_replacement_is_another_file_and_leaves_nothing(dirs: SlotDirs) -> None:
    """The agent sees the old content or the new, and notices by the inode."""
    dirs.write("slot", "old")
    before = (dirs.path("slot") / "agent.json").stat().st_ino
    (dirs.path("slot") / ".agent.json.new").write_text("left by a crash")
    dirs.write("slot", "new")
    assert dirs.read("slot") == "new" and (dirs.path("slot") / "agent.json").stat().st_ino != before
    assert [path.name for path in dirs.path("slot").iterdir()] == ["agent.json"]


def test_remove_is_repeatable(dirs: SlotDirs) -> None:
    dirs.remove("slot")
    dirs.remove("slot")
    assert dirs.read("slot") == ""


def test_a_slot_is_never_made_twice(dirs: SlotDirs) -> None:
    """It would hand one sandbox the directory of another."""
    with pytest.raises(HostError, match=r"sandboxes/slot: File exists"):
        dirs.create("slot", os.getuid())


def test_what_the_disk_refuses_is_named(dirs: SlotDirs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HostError, match=r"sandboxes/other: No such file"):
        dirs.write("other", "{}")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sandboxd.slotdir.os.replace", full)
    with pytest.raises(HostError, match=rf"{tmp_path}/sandboxes/slot: No space left on device.*df -h") as error:
        dirs.write("slot", "{}")
    assert (error.value.status, bool(error.value.retry_after_s)) == (503, True)


def test_a_file_that_is_no_text_reads_as_something_else_than_it_should(dirs: SlotDirs) -> None:
    dirs.write("slot", "{}")
    file = dirs.path("slot") / "agent.json"
    file.chmod(0o600)
    file.write_bytes(b"\xff{}")
    assert dirs.read("slot") == "\ufffd{}"


def test_directory_and_file_belong_to_the_root_of_the_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, tuple[int, int]] = {}

    def chown(path: Path, uid: int, gid: int) -> None:
        given[Path(path).name] = (uid, gid)

    monkeypatch.setattr("sandboxd.slotdir.os.chown", chown)
    dirs = SlotDirs(tmp_path)
    dirs.create("slot", 165536)
    dirs.write("slot", "{}")
    # The double gave nothing away, so the directory is still ours, and the file follows the directory.
    assert given == {"slot": (165536, 165536), ".agent.json.new": (os.getuid(), os.getgid())}
