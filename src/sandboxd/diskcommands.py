"""The commands that make, mount, check and grow a disk, as values, and `run`, which performs one; what is mounted.

Mounts are made in the host's own mount namespace: systemd gives the daemon one of its own, and nobody else would see
what is mounted there.
"""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from sandboxd.errors import HostError

Runner = Callable[[list[str]], str]
TIMEOUT_S = 900  # as long as a client waits; the end of a resize2fs half-way would cost the files
IN_HOST = ("nsenter", "--target", "1", "--mount", "--")
JOURNAL_MB = 16  # the default of 64 MB would be written at once: ten times the space of an empty disk


def mkfs_command(file: Path, owner: int) -> list[str]:
    """ext4 with everything for its owner (no reserved blocks), a small journal, nothing written that need not be."""
    options = f"assume_storage_prezeroed=1,root_owner={owner}:{owner}"
    return ["mkfs.ext4", "-q", "-F", "-m", "0", "-J", f"size={JOURNAL_MB}", "-E", options, str(file)]


def mount_command(file: Path, directory: Path) -> list[str]:
    """`discard` gives the space of deleted files back to the host at once."""
    return [*IN_HOST, "mount", "-o", "loop,discard,nosuid,nodev", str(file), str(directory)]


def unmount_command(directory: Path) -> list[str]:
    """Lazily, since a container that is being removed may hold it a moment longer; the loop device goes with it."""
    return [*IN_HOST, "umount", "--lazy", str(directory)]


def check_command(file: Path) -> list[str]:
    """resize2fs wants it; exit code 1 says that something was corrected, such as our missing lost+found."""
    return ["sh", "-c", 'e2fsck -f -p "$0" >&2 || [ $? -eq 1 ]', str(file)]


def resize_command(target: Path | str, size_mb: int) -> list[str]:
    """To that size, and not to the file's, which an earlier attempt may have made larger than the ledger says."""
    return ["resize2fs", str(target), f"{size_mb}M"]


def run(command: list[str]) -> str:
    """Runs a command and returns its output. Raises HostError with what it said when it fails."""
    environment = os.environ | {"LC_ALL": "C"}  # what it says is compared
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, env=environment)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"{' '.join(command)}: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise HostError(f"{' '.join(command)}: {said}")
    return done.stdout


def parse_mounts(mountinfo: str, below: Path) -> dict[Path, str]:
    """directory -> device of all mounts whose parent directory is `below`, from proc(5)'s mountinfo."""
    found = {}
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        directory = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), left.split(" ")[4]))
        if directory.parent == below:
            found[directory] = right.split(" ")[1]
    return found
