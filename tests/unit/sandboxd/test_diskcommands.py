"""The commands for disks as values, and what is said when one fails."""

from pathlib import Path

import pytest

from sandboxd import diskcommands
from sandboxd.errors import HostError

IN_HOST = "nsenter --target 1 --mount --"


def test_the_commands() -> None:
    file, directory = Path("/s/disks/a.img"), Path("/s/mounts/a")
    assert diskcommands.mkfs_command(file, 101000) == [
        *("mkfs.ext4", "-q", "-F", "-m", "0", "-J", "size=16"),
        *("-E", "assume_storage_prezeroed=1,root_owner=101000:101000", "/s/disks/a.img"),
    ]
    assert " ".join(diskcommands.mount_command(file, directory)) == (
        f"{IN_HOST} mount -o loop,discard,nosuid,nodev /s/disks/a.img /s/mounts/a"
    )
    assert " ".join(diskcommands.unmount_command(directory)) == f"{IN_HOST} umount --lazy /s/mounts/a"
    assert diskcommands.resize_command("/dev/loop3", 20480) == ["resize2fs", "/dev/loop3", "20480M"]


def test_what_a_command_says_comes_with_its_failure() -> None:
    assert diskcommands.run(["echo", "hello"]) == "hello\n"
    with pytest.raises(HostError, match=r"^sh -c echo no >&2; exit 3: no$"):
        diskcommands.run(["sh", "-c", "echo no >&2; exit 3"])
    with pytest.raises(HostError, match="exit code 3"):
        diskcommands.run(["sh", "-c", "exit 3"])
    with pytest.raises(HostError, match="no-such-program"):
        diskcommands.run(["no-such-program"])
    assert diskcommands.run(["sh", "-c", "echo $LC_ALL"]) == "C\n", "what they say is compared"


def test_mounts_are_read_as_the_kernel_writes_them() -> None:
    below = Path("/s p/mounts")
    text = (
        "21 1 7:3 / /s\\040p/mounts/a rw,nosuid shared:9 - ext4 /dev/loop3 rw,discard\n"
        "22 1 7:4 / /s\\040p/mounts/b rw - ext4 /dev/loop4 rw\n"
        "23 1 8:1 / /s\\040p/mounts rw shared:1 - ext4 /dev/sda1 rw\n"
        "24 1 7:5 / /s\\040p/mounts/b/deeper rw shared:2 master:3 - ext4 /dev/loop5 rw\n"
    )
    assert diskcommands.parse_mounts(text, below) == {below / "a": "/dev/loop3", below / "b": "/dev/loop4"}
