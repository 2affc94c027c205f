"""Which mount a disk has; what cannot be frozen says so. That one stands still: tests/host/test_backup."""

import os
from pathlib import Path

import pytest

from sandboxd.backup.freezing import Mounted, Unmounted, frozen, mounted_at

MOUNTINFO = """\
1 0 8:1 / / rw shared:1 - ext4 /dev/sda1 rw
9 1 7:3 / /state/mounts/other rw shared:2 - ext4 /dev/loop3 rw
10 1 7:4 / /state/mounts/a\\040b rw shared:2 - ext4 /dev/loop4 rw
"""


def test_the_mount_of_a_disk_is_that_of_its_loop_device(directory: Path) -> None:
    mountinfo, blocks = directory / "mountinfo", directory / "dev"
    mountinfo.write_text(MOUNTINFO)
    file = directory / "data.img"
    for device, backing in (("7:3", directory / "another.img"), ("7:4", file)):
        (blocks / device / "loop").mkdir(parents=True)
        (blocks / device / "loop/backing_file").write_text(f"{backing}\n")
    assert mounted_at(file, mountinfo, blocks) == Mounted(Path("/state/mounts/a b"), os.makedev(7, 4))
    assert mounted_at(directory / "none.img", mountinfo, blocks) is None
    link = directory / "link"
    link.symlink_to(directory)
    assert mounted_at(link / "data.img", mountinfo, blocks) == Mounted(Path("/state/mounts/a b"), os.makedev(7, 4))


def test_what_cannot_be_frozen_says_so() -> None:
    """Of the kernel's own file systems nobody can be: the freeze is tried, and refused."""
    mounted = Mounted(Path("/proc"), os.stat("/proc").st_dev)
    with pytest.raises(OSError, match="cannot be frozen"), frozen(mounted):
        raise AssertionError("it was not frozen")


@pytest.mark.parametrize("name", ["", "none"])
def test_what_was_unmounted_meanwhile_is_not_frozen(directory: Path, name: str) -> None:
    """Else it would be the host's own file system, on which its mount point is, that stands still."""
    with pytest.raises(Unmounted), frozen(Mounted(directory / name, device=0)):
        raise AssertionError("it was frozen")
