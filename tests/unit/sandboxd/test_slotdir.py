"""The directory that a sandbox sees at /run/sandbox."""

import hashlib
import hmac
import json
import os
from pathlib import Path

import pytest

from sandboxd.slotdir import SlotDirs, access_token, agent_text


def test_the_token_is_derived_from_key_and_id() -> None:
    assert access_token(b"key", "id") == hmac.new(b"key", b"id", hashlib.sha256).hexdigest()
    assert access_token(b"key", "id") != access_token(b"key", "ie") != access_token(b"kez", "ie")


def test_what_the_agent_reads() -> None:
    assert json.loads(agent_text("id", "base", {"A": "1"}, b"key")) == {
        "sandboxID": "id",
        "templateID": "base",
        "accessToken": access_token(b"key", "id"),
        "envs": {"A": "1"},
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
