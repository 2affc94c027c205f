"""Memory of frozen processes, given back to the host where the kernel can. Touches the files of one cgroup."""

import logging
from pathlib import Path

log = logging.getLogger(__name__)

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
ALL_BYTES = 1 << 40


def reclaim(pid: int, proc: Path = PROC, cgroups: Path = CGROUPS) -> None:
    """Asks the kernel to drop page cache, and to swap out what it may, of the cgroup that `pid` is in.

    Without swap, which sandboxes do not get, that is the page cache. Never fails: it is a favour to the others.
    """
    try:
        lines = (proc / str(pid) / "cgroup").read_text().splitlines()
        for line in lines:
            _, controllers, path = line.split(":", 2)
            if controllers == "":  # cgroup v2
                _write(cgroups / path.lstrip("/") / "memory.reclaim", str(ALL_BYTES))
            elif controllers == "memory":
                _write(cgroups / "memory" / path.lstrip("/") / "memory.force_empty", "0")
    except OSError as error:
        log.debug("no memory was reclaimed: %s", error)


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text)
    except OSError as error:  # the kernel says EAGAIN when it got less than it was asked for
        log.debug("%s: %s", file, error)
