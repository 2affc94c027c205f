"""What /proc tells of a sandbox through one of its processes: bytes over its network, and the disk at /code.

Reads /proc. Never follows a path that the sandbox could have put a link into.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from sandboxd.spec import CODE_MOUNT


@dataclass(frozen=True)
class Network:
    """Bytes since the container's start, over all its interfaces but loopback."""

    received_bytes: int
    sent_bytes: int


@dataclass(frozen=True)
class Disk:
    used_bytes: int
    size_bytes: int


def network(pid: int, root: Path = Path("/")) -> Network | None:
    """Of the network namespace of that process; None when it is gone."""
    try:
        return parse_network((root / f"proc/{pid}/net/dev").read_text())
    except OSError:
        return None


def parse_network(text: str) -> Network:
    """Two head lines, then for each interface a name and 16 counters: bytes are the first received, and the first sent.

    See proc_pid_net(5).
    """
    received = sent = 0
    for line in text.splitlines()[2:]:
        name, _, counters = line.partition(":")
        if name.strip() != "lo":
            values = counters.split()
            received, sent = received + int(values[0]), sent + int(values[8])
    return Network(received, sent)


def disk(pid: int, shared: Path, root: Path = Path("/")) -> Disk | None:
    """The file system at the sandbox's /code, if it is the sandbox's own or has a quota; else None.

    `shared` is the directory in which the engine keeps the files of all: where the same file system with the same size
    is found, what `statvfs` says is not about this sandbox. To count its files would mean to walk them.
    """
    try:
        # /code is a mount, which nobody inside can replace; O_NOFOLLOW all the same.
        opened = os.open(f"{root}/proc/{pid}/root{CODE_MOUNT}", os.O_PATH | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        own, all_files = os.fstatvfs(opened), os.statvfs(shared)
        same = os.fstat(opened).st_dev == os.stat(shared).st_dev and own.f_blocks == all_files.f_blocks
    except OSError:
        return None
    finally:
        os.close(opened)
    if same:
        return None
    return Disk((own.f_blocks - own.f_bfree) * own.f_frsize, own.f_blocks * own.f_frsize)
