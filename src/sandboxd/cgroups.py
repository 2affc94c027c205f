"""What a container uses of processor, memory and processes, and its limits: read from the kernel's cgroup files.

Both versions, and a host that mounts some controllers as v1 and the rest as v2. Docker's own API answers the same in
one to two seconds a container, since it waits for a second sample; these files take a fraction of a millisecond.
Reads /proc and /sys/fs/cgroup, and nothing else.
Formats: cgroup-v1/{cpuacct,memory,pids}.rst and cgroup-v2.rst of the kernel's documentation, cgroups(7).
"""

import errno
from dataclasses import dataclass
from pathlib import Path

UNIFIED = ""  # the name of the v2 hierarchy among the controllers
NO_LIMIT = 1 << 60  # v1 writes "no limit of memory" as the largest number of whole pages


class Gone(Exception):
    """The process, or its cgroup, is no more; or the process id belongs to somebody else by now."""


@dataclass(frozen=True)
class Mount:
    """Where a hierarchy is mounted, and which of its cgroups is seen there."""

    point: str
    root: str


@dataclass(frozen=True)
class Usage:
    """Counters since the container's start, and present values. A limit is None when there is none.

    `memory_bytes` is without the part of the page cache that the kernel drops first, as `docker stats` counts.
    """

    cpu_ns: int
    cpu_limit: float | None  # processors
    memory_bytes: int
    memory_limit_bytes: int | None
    pids: int
    pids_limit: int | None
    oom_kills: int


class Cgroups:
    """The mounted hierarchies. `root` is the file system's root; tests put a directory of their own there."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self.mounts = parse_mounts((root / "proc/self/mountinfo").read_text())

    def controllers(self) -> dict[str, str]:
        """Controller -> "v1" or "v2", for all that limit something here."""
        found = dict.fromkeys((name for name in self.mounts if name != UNIFIED), "v1")
        if UNIFIED in self.mounts:
            listed = self._path(self.mounts[UNIFIED].point) / "cgroup.controllers"
            unified = listed.read_text().split() if listed.exists() else []
            found = dict.fromkeys(unified, "v2") | found
        return found

    def usage(self, pid: int, container: str) -> Usage:
        """Of the container with that id, of which `pid` is a process. Raises Gone, and OSError when /sys is broken."""
        try:
            own = parse_own((self._root / f"proc/{pid}/cgroup").read_text())
            cpu, memory, pids = (self.directory(name, own, container) for name in ("cpu", "memory", "pids"))
            cpu_ns = self._cpu_ns(cpu, own, container)
            return Usage(cpu_ns, _cpu_limit(cpu), *_memory(memory), *_pids(pids), _oom_kills(memory))
        except (FileNotFoundError, ProcessLookupError) as error:
            raise Gone(f"process {pid} of container {container} is gone: {error}") from error
        except OSError as error:
            if error.errno == errno.ENODEV:  # removed while its file was open
                raise Gone(f"the cgroup of container {container} is gone") from error
            raise

    def directory(self, controller: str, own: dict[str, str], container: str) -> Path:
        """The container's directory for one controller; `own` is from parse_own. Raises Gone."""
        hierarchy = controller if controller in self.mounts and controller in own else UNIFIED
        if hierarchy not in self.mounts or hierarchy not in own:
            raise FileNotFoundError(f"no cgroup hierarchy has the controller {controller}")
        mount = self.mounts[hierarchy]
        inside = of_container(own[hierarchy], container)
        if mount.root != "/" and inside.startswith(f"{mount.root}/"):
            inside = inside.removeprefix(mount.root)
        return self._path(mount.point) / inside.lstrip("/")

    def _cpu_ns(self, cpu: Path, own: dict[str, str], container: str) -> int:
        if (cpu / "cpu.max").exists():
            return int(_keyed(cpu / "cpu.stat")["usage_usec"]) * 1000
        return _number(self.directory("cpuacct", own, container) / "cpuacct.usage")

    def _path(self, absolute: str) -> Path:
        return self._root / absolute.lstrip("/")


def parse_mounts(mountinfo: str) -> dict[str, Mount]:
    """Controller -> mount, from /proc/PID/mountinfo. A v1 hierarchy may have several controllers ("cpu,cpuacct")."""
    found: dict[str, Mount] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2":
            found.setdefault(UNIFIED, Mount(point, root))
        elif kind == "cgroup":
            # Among the options of the file system are the names of its controllers; others, such as "rw", harm nothing.
            for name in options.split(","):
                if name != "rw" and "=" not in name:
                    found.setdefault(name, Mount(point, root))
    return found


def parse_own(text: str) -> dict[str, str]:
    """Controller -> path, from /proc/PID/cgroup: lines such as `4:cpu,cpuacct:/docker/ID` and `0::/docker/ID`."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        found |= dict.fromkeys(controllers.split(","), path)
    return found


def of_container(path: str, container: str) -> str:
    """A cgroup path up to the component that names the container, such as /docker/ID or /system.slice/docker-ID.scope.

    What follows was made inside. Raises Gone when no component names it: the process is somebody else's.
    """
    parts = path.split("/")
    for number, part in enumerate(parts):
        if container in part:
            return "/".join(parts[: number + 1])
    raise Gone(f"{path} is not a cgroup of container {container}")


def _cpu_limit(cpu: Path) -> float | None:
    v2 = cpu / "cpu.max"
    if v2.exists():
        quota, period = v2.read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    micros = _number(cpu / "cpu.cfs_quota_us")
    return None if micros < 0 else micros / _number(cpu / "cpu.cfs_period_us")


def _memory(memory: Path) -> tuple[int, int | None]:
    """Bytes in use, and the limit."""
    if (memory / "memory.current").exists():
        used, cache = _number(memory / "memory.current"), int(_keyed(memory / "memory.stat")["inactive_file"])
        limit = _limit(memory / "memory.max")
    else:
        used = _number(memory / "memory.usage_in_bytes")
        cache = int(_keyed(memory / "memory.stat")["total_inactive_file"])
        limit = _limit(memory / "memory.limit_in_bytes")
    return max(0, used - cache), limit


def _pids(pids: Path) -> tuple[int, int | None]:
    return _number(pids / "pids.current"), _limit(pids / "pids.max")


def _oom_kills(memory: Path) -> int:
    events = memory / "memory.events"
    return int(_keyed(events if events.exists() else memory / "memory.oom_control").get("oom_kill", 0))


def _number(file: Path) -> int:
    return int(file.read_text())


def _limit(file: Path) -> int | None:
    text = file.read_text().strip()
    return None if text == "max" or int(text) >= NO_LIMIT else int(text)


def _keyed(file: Path) -> dict[str, str]:
    """A file of `name value` lines."""
    return dict(line.split(" ", 1) for line in file.read_text().splitlines())
