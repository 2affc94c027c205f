"""Disks: files, mounts and their removal over doubles; file systems made and grown by the real tools."""

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from sandboxd import diskcommands, disks
from sandboxd.disks import MIB, Disks, Usage
from sandboxd.errors import Conflict, HostError
from tests.unit.sandboxd.fake_engine import refusal
from tests.unit.sandboxd.fake_host import FakeMounts

SLOT, OTHER = "0123456789ab", "ba9876543210"
UID = 165536
FILE_TOOLS = ("mkfs.ext4", "resize2fs", "sh", "cp")
IN_HOST = "nsenter --target 1 --mount --"


class Tools(FakeMounts):
    """What works on a file is done by the real tools, what needs a kernel's loop devices by the double."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.answers: dict[str, list[str]] = {}  # what a command prints, once each

    def run(self, command: list[str]) -> str:
        done = super().run(command)
        words = command[command.index("--") + 1 :] if "--" in command else command
        if command[0] in FILE_TOOLS:
            return diskcommands.run(command)
        answers = self.answers.get(words[0], [])
        return answers.pop(0) if answers else done

    def said(self, word: str) -> list[str]:
        """The commands that have that word, as text."""
        return [" ".join(command) for command in self.commands if word in command]


@pytest.fixture(autouse=True)
def tools_of_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Debian has them, which is not in everybody's path."""
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:/usr/sbin:/sbin")


@pytest.fixture
def tools(directory: Path) -> Tools:
    return Tools(directory / "root")


@pytest.fixture
def state(directory: Path) -> Path:
    made = directory / "state"
    made.mkdir()
    return made


@pytest.fixture
def made(state: Path, tools: Tools) -> Disks:
    return Disks(state, tools.run, tools.root)


def header(file: Path) -> dict[str, str]:
    """What the file system says of itself."""
    done = subprocess.run(["dumpe2fs", "-h", str(file)], capture_output=True, text=True, check=True)
    return {key: value.strip() for key, _, value in (line.partition(":") for line in done.stdout.splitlines())}


def size_of_file_system(file: Path) -> int:
    found = header(file)
    return int(found["Block count"]) * int(found["Block size"])


def test_a_new_disk_is_sparse_the_users_and_mounted(made: Disks, tools: Tools, state: Path) -> None:
    made.create(SLOT, "", 64, UID)
    file = state / f"disks/{SLOT}.img"
    found = file.stat()
    assert found.st_size == 64 * MIB and found.st_blocks * 512 < 40 * MIB and found.st_mode & 0o777 == 0o600
    assert size_of_file_system(file) == 64 * MIB and header(file)["Reserved block count"] == "0"
    owner = subprocess.run(["debugfs", "-R", "stat /", str(file)], capture_output=True, text=True, check=True).stdout
    assert f"User: {UID + 1000} " in owner.replace("  ", " ")
    assert tools.mounted() == [SLOT] and made.path(SLOT) == state / f"mounts/{SLOT}"
    assert [path.name for path in (state / "disks").iterdir()] == [file.name]


def test_a_disk_is_mounted_once(made: Disks, tools: Tools) -> None:
    made.create(SLOT, "", 64, UID)
    made.mount(SLOT, "")
    assert tools.mounted() == [SLOT]
    tools.reboot()
    made.mount(SLOT, "")
    assert tools.mounted() == [SLOT] and made.mounted()[made.path(SLOT)].startswith("/dev/loop")


def test_a_state_directory_that_is_a_link_is_known_by_the_kernels_name(directory: Path, tools: Tools) -> None:
    (directory / "large").mkdir()
    (directory / "link").symlink_to("large")
    made = Disks(directory / "link", tools.run, tools.root)
    made.create(SLOT, "", 64, UID)
    assert made.mounted().keys() == {directory.resolve() / "large/mounts" / SLOT}
    made.mount(SLOT, "")
    assert tools.mounted() == [SLOT]


def test_a_disk_whose_file_is_gone_is_not_mounted(made: Disks, tools: Tools, state: Path) -> None:
    made.create(SLOT, "", 64, UID)
    tools.reboot()
    (state / f"disks/{SLOT}.img").unlink()
    with pytest.raises(HostError, match=rf"{SLOT}.img: the disk of slot {SLOT} is gone"):
        made.mount(SLOT, "")
    assert tools.mounted() == []


def test_remove_takes_file_and_mount_and_what_was_half_made(made: Disks, tools: Tools, state: Path) -> None:
    made.create(SLOT, "", 64, UID)
    made.create(OTHER, "", 64, UID)
    (state / f"disks/{SLOT}.new").touch()
    for _ in range(2):
        made.remove(SLOT)
        assert tools.mounted() == [OTHER] and made.slots().keys() == {OTHER}
        assert [path.name for path in (state / "mounts").iterdir()] == [OTHER]


def test_a_make_that_fails_leaves_nothing_that_would_be_taken_for_a_disk(
    made: Disks, tools: Tools, state: Path
) -> None:
    tools.fail["mkfs.ext4"] = HostError("no space left on device")
    with pytest.raises(HostError, match="no space"):
        made.create(SLOT, "data", 64, UID)
    assert made.size_mb("data") is None and tools.mounted() == []
    made.create(SLOT, "data", 64, UID)
    assert made.size_mb("data") == 64 and tools.mounted() == [SLOT]


def test_a_volume_keeps_its_files_and_its_size(made: Disks, tools: Tools, state: Path) -> None:
    made.create(SLOT, "data", 64, UID)
    made.remove(SLOT)
    assert made.slots() == {} and made.size_mb("data") == 64
    before = (state / "volumes/data.img").stat()
    made.create(OTHER, "data", 128, UID, known=True)
    assert (state / "volumes/data.img").stat().st_ino == before.st_ino and made.size_mb("data") == 64
    assert tools.mounted() == [OTHER]
    made.remove(OTHER)
    made.remove_volume("data")
    made.remove_volume("data")
    assert made.size_mb("data") is None


def test_a_known_volume_whose_file_is_gone_is_not_replaced_by_an_empty_one(made: Disks, state: Path) -> None:
    with pytest.raises(Conflict, match=r"volumes/data.img: .* docker-sandbox volume rm data"):
        made.create(SLOT, "data", 64, UID, known=True)
    assert made.size_mb("data") is None


def test_only_names_of_ours_are_slots(made: Disks, state: Path) -> None:
    """A copy beside a disk must not have that disk removed."""
    made.create(SLOT, "", 64, UID)
    for name in (f"{SLOT}.img.bak", f"{SLOT}.img~", "notes.txt", f"x{OTHER}.img"):
        (state / "disks" / name).touch()
    (state / "disks" / f"{OTHER}.new").touch()
    (state / "mounts" / "keep").mkdir()
    assert made.slots().keys() == {SLOT, OTHER}


def test_a_sandbox_cannot_say_when_its_disk_was_touched(made: Disks) -> None:
    """The time of the mount point is that of its /code."""
    made.create(SLOT, "", 64, UID)
    for path in (made.path(SLOT), made.file(SLOT, "")):
        os.utime(path, (4e9, 4e9))
    assert made.slots()[SLOT] < time.time() + 60


def test_a_disk_that_vanishes_while_it_is_looked_for_is_no_error(made: Disks, monkeypatch: pytest.MonkeyPatch) -> None:
    made.create(SLOT, "", 64, UID)
    made.create(OTHER, "", 64, UID)
    lstat = Path.lstat

    def vanishing(path: Path) -> os.stat_result:
        if path.stem == SLOT:
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", vanishing)
    assert made.slots().keys() == {OTHER}


def test_a_stopped_disk_grows_unmounted_and_with_its_file_system(made: Disks, tools: Tools, state: Path) -> None:
    made.create(SLOT, "", 64, UID)
    tools.answers["losetup"] = ["/dev/loop1: in use", ""]  # for a moment, by a container that ends
    made.grow(SLOT, "", 96, in_use=False)
    file = state / f"disks/{SLOT}.img"
    assert tools.mounted() == [] and size_of_file_system(file) == file.stat().st_size == 96 * MIB
    order = [command[command.index("--") + 1 if "--" in command else 0] for command in tools.commands]
    assert order == ["mkfs.ext4", "mount", "umount", "losetup", "losetup", "sh", "resize2fs"]


def test_a_disk_that_something_still_uses_is_not_checked(
    made: Disks, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    """e2fsck on a file that is mounted in another namespace would destroy it."""
    monkeypatch.setattr(disks, "DETACHED_S", 0.0)
    made.create(SLOT, "", 64, UID)
    tools.answers["losetup"] = [f"/dev/loop7: ({SLOT}.img)"] * 3
    with pytest.raises(HostError, match=r"still in use by a loop device \(/dev/loop7"):
        made.grow(SLOT, "", 96, in_use=False)
    assert tools.said("sh") == [] and tools.said("resize2fs") == []


def test_a_disk_in_use_grows_through_its_device(made: Disks, tools: Tools) -> None:
    made.create(SLOT, "data", 64, UID)
    device = made.mounted()[made.path(SLOT)]
    made.grow(SLOT, "data", 96, in_use=True)
    assert tools.said("losetup") == [f"{IN_HOST} losetup --set-capacity {device}"]
    assert tools.said("resize2fs") == [f"{IN_HOST} resize2fs {device} 96M"]
    assert made.size_mb("data") == 96 and tools.mounted() == [SLOT]


def test_a_kernel_that_refuses_is_explained_and_the_next_size_counts(made: Disks, tools: Tools, state: Path) -> None:
    """The file is larger already then; a smaller growth must not fill it."""
    made.create(SLOT, "", 64, UID)
    tools.fail["resize2fs"] = HostError("resize2fs: Permission denied to resize filesystem")
    with pytest.raises(Conflict, match="docker-sandbox stop"):
        made.grow(SLOT, "", 128, in_use=True)
    tools.fail["resize2fs"] = HostError("resize2fs: something else")
    with pytest.raises(HostError, match="something else"):
        made.grow(SLOT, "", 128, in_use=True)
    file = state / f"disks/{SLOT}.img"
    assert size_of_file_system(file) == 64 * MIB
    made.grow(SLOT, "", 96, in_use=False)
    assert size_of_file_system(file) == 96 * MIB
    made.grow(SLOT, "", 128, in_use=False)
    assert size_of_file_system(file) == 128 * MIB


def test_growing_what_is_not_there_is_explained(made: Disks, tools: Tools, state: Path) -> None:
    made.create(SLOT, "", 64, UID)
    tools.reboot()
    with pytest.raises(HostError, match="is not mounted"):
        made.grow(SLOT, "", 96, in_use=True)
    file = state / f"disks/{SLOT}.img"
    assert file.stat().st_size == 64 * MIB
    file.unlink()
    with pytest.raises(HostError, match="is gone"):
        made.grow(SLOT, "", 96, in_use=False)


def test_a_sandboxs_own_lost_and_found_is_not_thrown_away(made: Disks, tools: Tools, state: Path) -> None:
    """e2fsck wants a directory there, and would remove the user's file."""
    made.create(SLOT, "", 64, UID)
    file = state / f"disks/{SLOT}.img"
    for request in ("rmdir lost+found", "symlink lost+found /etc"):
        subprocess.run(["debugfs", "-w", "-R", request, str(file)], capture_output=True, check=True)
    with pytest.raises(Conflict, match="/code/lost\\+found"):
        made.grow(SLOT, "", 96, in_use=False)
    assert size_of_file_system(file) == 64 * MIB


def test_a_copy_is_as_sparse_as_the_disk(made: Disks, tools: Tools, directory: Path) -> None:
    made.create(SLOT, "", 64, UID)
    target = directory / "copies/one.img"
    made.copy(SLOT, "", target)
    assert tools.said("sync") == [f"{IN_HOST} sync --file-system {made.path(SLOT)}"]
    assert size_of_file_system(target) == 64 * MIB and target.stat().st_blocks * 512 < 40 * MIB
    assert not any("fsfreeze" in command for command in tools.commands), "one that dies then would leave it frozen"


def test_usage_is_what_df_says_where_it_is_mounted(made: Disks, tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    assert made.usage(SLOT) is None
    made.create(SLOT, "", 64, UID)
    asked: list[Path] = []

    def statvfs(path: Path) -> Any:
        asked.append(path)
        return os.statvfs_result((4096, 4096, 1000, 750, 750, 0, 0, 0, 0, 255))

    monkeypatch.setattr(os, "statvfs", statvfs)
    assert made.usage(SLOT) == Usage(250 * 4096, 1000 * 4096)
    assert asked == [tools.root / made.path(SLOT).relative_to("/")]


@pytest.mark.parametrize("kind", ["link", "full", "file"])
def test_what_a_sandbox_puts_into_its_disk_is_not_followed(
    made: Disks, tools: Tools, directory: Path, kind: str
) -> None:
    """The mount looks for one name in it, lost+found."""
    seen = tools.root / made.path(SLOT).relative_to("/")
    (directory / "outside").mkdir()
    seen.mkdir(parents=True)
    found = seen / "lost+found"
    if kind == "link":
        found.symlink_to(directory / "outside")
    elif kind == "full":
        (found / "mine").mkdir(parents=True)
    else:
        found.write_text("mine")
    made.create(SLOT, "", 64, UID)
    made.remove(SLOT)
    assert (directory / "outside").is_dir() and os.path.lexists(found)


def test_an_empty_lost_and_found_goes(made: Disks, tools: Tools) -> None:
    found = tools.root / made.path(SLOT).relative_to("/") / "lost+found"
    found.mkdir(parents=True)
    made.create(SLOT, "", 64, UID)
    assert not found.exists()


def test_a_host_that_refuses_is_an_error_of_the_host(made: Disks, tools: Tools, state: Path) -> None:
    tools.fail["mount"] = refusal()
    with pytest.raises(type(refusal())):
        made.create(SLOT, "", 64, UID)
    (state / "disks" / f"{OTHER}.img").mkdir()
    with pytest.raises(HostError, match=f"{OTHER}.img: Is a directory"):
        made.remove(OTHER)


def test_usage_of_a_disk_that_is_being_removed_is_none(made: Disks) -> None:
    """The double mounts without making a directory in the host's tree: as after the unmount, before we have looked."""
    made.create(SLOT, "", 64, UID)
    assert made.usage(SLOT) is None
