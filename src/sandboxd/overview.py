"""How full the host is, and what runs on it: figures for people who look after it. Reads, and keeps nothing.

The limits are those of `capacity`, which refuses by them; here they stand beside what there is.
"""

from dataclasses import dataclass
from pathlib import Path

from sandboxd.doctor.effects import Effects
from sandboxd.errors import HostError, SandboxdError
from sandboxd.health import Health
from sandboxd.sandboxes import Sandboxes

MIB = 1024 * 1024


@dataclass(frozen=True)
class Space:
    """The file system of a path of the host."""

    path: str
    size_mb: int
    free_mb: int


@dataclass(frozen=True)
class Overview:
    """Sizes in MiB; `present` counts sandboxes by state. `max_sandboxes` 0 is no limit; a reserve is never given away.

    `engine` is empty, and Docker's file system not there, while Docker does not answer. `troubles` is what keeps the
    daemon from its work now.
    """

    present: dict[str, int]
    max_sandboxes: int
    memory_mb: int
    memory_available_mb: int
    memory_reserve_mb: int
    disks: list[Space]
    disk_reserve_mb: int
    processors: int
    load: float
    uptime_s: float
    engine: str
    release: str
    kernel: str
    troubles: dict[str, str]


def overview(sandboxes: Sandboxes, health: Health, effects: Effects) -> Overview:
    """Raises HostError when /proc or a file system cannot be read."""
    config, engine = sandboxes.config, ""
    paths = [config.state_dir]
    try:
        engine = sandboxes.engine.describe().version
        paths.append(sandboxes.engine.data_root())
    except SandboxdError:
        pass  # its own trouble is among those of `health`
    try:
        memory = meminfo(effects.text("/proc/meminfo"))
        return Overview(
            present=dict(sandboxes.ledger.count("creating", "warm", "running", "paused", "stopped")),
            max_sandboxes=config.max_sandboxes,
            memory_mb=memory["MemTotal"],
            memory_available_mb=memory["MemAvailable"],
            memory_reserve_mb=config.memory_reserve_mb,
            disks=spaces(paths, effects),
            disk_reserve_mb=config.disk_reserve_mb,
            processors=effects.text("/proc/cpuinfo").count("processor\t:"),
            load=float(effects.text("/proc/loadavg").split()[0]),
            uptime_s=float(effects.text("/proc/uptime").split()[0]),
            engine=engine,
            release=release(config.secrets_dir.parent, effects),
            kernel=effects.text("/proc/sys/kernel/osrelease").strip(),
            troubles=health.troubles(),
        )
    except (OSError, KeyError, ValueError, IndexError) as error:
        raise HostError(f"the figures of the host cannot be read: {error!r}.") from error


def meminfo(text: str) -> dict[str, int]:
    """Name -> MiB, from /proc/meminfo; see proc(5)."""
    lines = (line.partition(":") for line in text.splitlines())
    return {name: int(value.split()[0]) // 1024 for name, _, value in lines if value.endswith("kB")}


def spaces(paths: list[Path], effects: Effects) -> list[Space]:
    """Of each file system once, under the first of its paths."""
    found: dict[int, Space] = {}
    for path in paths:
        space = effects.space(str(path))
        size_mb, free_mb = (blocks * space.f_frsize // MIB for blocks in (space.f_blocks, space.f_bavail))
        found.setdefault(space.f_fsid, Space(str(path), size_mb, free_mb))
    return list(found.values())


def release(etc: Path, effects: Effects) -> str:
    """The revision of the project that the last complete deploy had, "" before the first one is complete."""
    try:
        return effects.text(str(etc / "release")).strip().removeprefix("revision=")
    except OSError:
        return ""
