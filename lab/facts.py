"""What the engine's machine allows: cgroup version and capabilities. Reads /proc and `docker info`, changes nothing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.errors import LabError

# fmt: off
CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)
# fmt: on
"""By bit number, as in linux/capability.h."""


@dataclass(frozen=True)
class HostFacts:
    """What decides how a lab is started."""

    cgroup_version: int
    missing_capabilities: tuple[str, ...] = ()
    """What the engine cannot give, e.g. SYS_RESOURCE. Empty on an ordinary machine."""
    kernel_modules: bool = False
    """Whether /lib/modules is there to be shown to the lab, for modprobe."""


def unknown_capability(complaint: str) -> str:
    """Return the capability that the engine says it has never heard of, or "". Debian 12's knows none after AUDIT_READ.

    What it does not know, it does not give either: such a one need not be dropped.
    """
    match = re.search(r'unknown capability: "?CAP_(\w+)', complaint)
    return match[1] if match else ""


def missing_capabilities(process_status: str, last_capability: int) -> tuple[str, ...]:
    """Return the names that the bounding set in a /proc/PID/status lacks, in the order of their numbers."""
    bounding = 0
    for line in process_status.splitlines():
        if line.startswith("CapBnd:"):
            bounding = int(line.split()[1], 16)
    return tuple(name for bit, name in enumerate(CAPABILITIES) if bit <= last_capability and not bounding >> bit & 1)


def gather(info: Mapping[str, Any], proc: Path = Path("/proc"), pidfile: Path = Path("/run/docker.pid")) -> HostFacts:
    """Look at the engine's own process where it runs on this machine, else at this process.

    `info` is what `docker info` says. Raises LabError for a rootless engine, which cannot run a whole host.
    """
    if any("name=rootless" in option for option in info.get("SecurityOptions") or ()):
        raise LabError(
            "this Docker engine is rootless: a lab in it could neither mount nor set limits",
            "use the system's engine: unset DOCKER_HOST, or run: docker context use default",
        )
    return HostFacts(
        cgroup_version=int(info.get("CgroupVersion") or 1),
        missing_capabilities=_missing(proc, pidfile),
        kernel_modules=Path("/lib/modules").is_dir(),
    )


def _missing(proc: Path, pidfile: Path) -> tuple[str, ...]:
    try:
        last = int((proc / "sys/kernel/cap_last_cap").read_text())
    except OSError:  # no Linux: the engine runs in a virtual machine of its own, with all capabilities
        return ()
    try:
        status = (proc / pidfile.read_text().strip() / "status").read_text()
    except OSError:
        status = (proc / "self/status").read_text()
    return missing_capabilities(status, last)
