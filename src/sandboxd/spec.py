"""Values only: the names, labels and payloads that make a sandbox. Docker is not touched here.

Payloads are those of Docker's Engine API (`POST /networks/create`, `POST /containers/create`), as API 1.41
(Docker 20.10) to the newest read them.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sandboxd.config import Template

WALLS_LABEL = "sandbox.walls"
SLOT_MOUNT = "/run/sandbox"
CODE_MOUNT = "/code"
LOG_FILE_MB = 10
CPU_PERIOD_US = 100_000
NOFILE = 65536
MEMLOCK_BYTES = 8 * 1024 * 1024  # what systemd gives a service; locked memory counts as the sandbox's in any case
OOM_SCORE_ADJ = 500  # when the host itself runs out of memory, sandboxes go before its daemons

# Everything is dropped, then the least that sudo, apt-get, dpkg and the agent need is given back. Each line was taken
# out and tried: `WORK` in tests/host/test_containers.py has the work that fails without, and tests/host/test_gvisor.py
# that of NET_BIND_SERVICE. Under userns-remap these hold over the sandbox's own uids only.
CAPABILITIES = (
    "CHOWN",  # useradd, groupadd, dpkg and the agent give files to their owners
    "DAC_OVERRIDE",  # root inside reads and writes what is others': homes, npm's directory, the lists of apt's _apt
    "FOWNER",  # chmod and utimes on files of others: dpkg, tar, install
    "FSETID",  # keeps set-gid bits when dpkg unpacks (/var/mail, /var/local)
    "KILL",  # the agent and sudo's root signal the user's processes
    "SETGID",  # sudo, su, apt's _apt user, the agent: groups of the user
    "SETUID",  # the same: uid of the user
    "SETPCAP",  # services that give up rights for good, such as by setpriv, shrink their bounding set
    # In gVisor nobody listens below port 1024 without; elsewhere Docker opens those ports to all by a sysctl. And a
    # program that a build of a template has given it, as a file capability, does not start without.
    "NET_BIND_SERVICE",
    "SYS_CHROOT",  # package scripts and privilege separation (sshd, postfix) chroot
)
# Left out on purpose: NET_RAW (spoofing), MKNOD (devices), SETFCAP (file capabilities; package scripts fall back).
# AUDIT_WRITE: under userns-remap it is worth nothing, and nobody misses it. Without that a sandbox would write into the
# host's audit log by it; the price is a complaint of sudo's, which goes on all the same.

SYSCTLS = {
    # ping without raw sockets: for all groups that a user namespace of 65536 ids has.
    "net.ipv4.ping_group_range": "0 65535",
    "net.ipv4.conf.all.route_localnet": "1",  # lets the DNAT rule of `netns` hand packets to 127.0.0.1
    "net.ipv6.conf.all.disable_ipv6": "1",
}

# Docker's own list, and what else tells of the host: hardware, modules, traces, timers. What is not there is passed
# over. Some of it root inside could not read anyway; the mask holds without userns-remap, too.
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/kmsg",
    "/proc/latency_stats",
    "/proc/modules",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/vmallocinfo",
    "/sys/devices/virtual/dmi",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/bpf",
    "/sys/kernel/debug",
    "/sys/kernel/security",
    "/sys/kernel/tracing",
    "/sys/module",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")  # Docker's own


def network_name(project: str, slot: str) -> str:
    return f"{project}-net-{slot}"


def volume_name(project: str, slot: str) -> str:
    """The Docker volume that was the /code of sandboxes before there were disks."""
    return f"{project}-code-{slot}"


def pool_name(project: str, key: str) -> str:
    """Name of a container that nobody has claimed; `key` is the slot until the id is known, then the id."""
    return f"{project}-pool-{key}"


def claimed_name(project: str, claimed_at: float) -> str:
    """Name of a sandbox in use: UTC to the millisecond, so that names sort by claim."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(claimed_at))
    return f"{claimed_prefix(project)}{stamp}-{int(claimed_at * 1000) % 1000:03d}"


def claimed_prefix(project: str) -> str:
    """How the names of containers in use begin, and no others."""
    return f"{project}-qa-"


def bridge_name(slot: str) -> str:
    """Name of the bridge interface on the host: 15 characters, the kernel's limit; firewall rules match `sb-+`."""
    return f"sb-{slot}"


def build_cgroup(project: str) -> str:
    """The cgroup of the slice `<project>-build`, which the deploy makes with its limits; see systemd.slice(5)."""
    words = f"{project}-build".split("-")
    return "".join(f"/{'-'.join(words[:number])}.slice" for number in range(1, len(words) + 1))


def labels(project: str, slot: str, template: str) -> dict[str, str]:
    return {"sandbox.project": project, "sandbox.slot": slot, "sandbox.template": template}


def row_labels(
    origin: str, memory_mb: int, cpus: float, volume: str, mounts: Sequence[Mapping[str, str]], owner: str
) -> dict[str, str]:
    """What the row of a sandbox is made from again when the ledger is lost; only what never changes can be a label."""
    found = {
        "sandbox.origin": origin,
        "sandbox.memory_mb": f"{memory_mb}",
        "sandbox.cpus": f"{cpus:g}",
        "sandbox.volume": volume,
        "sandbox.mounts": json.dumps(list(mounts)) if mounts else "",
        "sandbox.owner": owner,
    }
    return {key: value for key, value in found.items() if value}


def shared_labels(generation: int, sandbox_id: str) -> dict[str, str]:
    """Of one whose volume is on shared storage: the number by which it was taken; its id, if that is not Docker's."""
    found = {"sandbox.generation": f"{generation}" if generation else "", "sandbox.id": sandbox_id}
    return {key: value for key, value in found.items() if value}


def network_payload(project: str, slot: str, template: str) -> dict[str, Any]:
    return {
        "Name": network_name(project, slot),
        "Driver": "bridge",
        "CheckDuplicate": True,
        "EnableIPv6": False,
        "Options": {"com.docker.network.bridge.name": bridge_name(slot)},
        "Labels": labels(project, slot, template),
    }


def container_payload(
    project: str,
    slot: str,
    template: Template,
    slot_dir: Path,
    disk: Path,
    nofile: int,
    memlock: int = MEMLOCK_BYTES,
    seccomp_json: str = "",
    layer_limit: bool = False,
    name_servers: Sequence[str] = (),
    found_servers: Sequence[str] = (),
    volumes: Sequence[tuple[Path, str]] = (),
) -> dict[str, Any]:
    """The container of a sandbox, `disk` mounted at /code, and volumes (directory of the host, path inside).

    `nofile` and `memlock` are what the host allows of open files and locked bytes, at most NOFILE and MEMLOCK_BYTES;
    `seccomp_json` the text of the template's profile. `layer_limit` has the engine keep the template's limit of its
    layer, which not every engine can; the watchdog keeps it in any case. `name_servers` are asked in place of the
    host's; `found_servers` are the host's, which the engine reads once: whoever was made with others is outdated.
    No restart policy: after a reboot `reconcile` starts the container, because rules and route must be there.
    No `no-new-privileges`: sudo inside is wanted, and root inside is nobody outside.
    """
    own = labels(project, slot, template.name)
    security = [f"seccomp={seccomp_json}"] if seccomp_json else []
    security += [f"apparmor={template.apparmor}"] if template.apparmor else []
    memory_bytes = template.memory_mb * 1024 * 1024
    host: dict[str, Any] = {
        "NetworkMode": network_name(project, slot),
        "RestartPolicy": {"Name": "no"},
        "Init": True,
        "Memory": memory_bytes,
        "MemorySwap": memory_bytes,  # equal to Memory: no swap
        "OomScoreAdj": OOM_SCORE_ADJ,
        # Not NanoCpus, which the engine refuses above the host's own number: a limit may be more than there is.
        "CpuPeriod": CPU_PERIOD_US,
        "CpuQuota": int(template.cpus * CPU_PERIOD_US),
        "PidsLimit": template.pids,
        "CapDrop": ["ALL"],
        "CapAdd": list(CAPABILITIES),
        "SecurityOpt": security,
        "MaskedPaths": list(MASKED_PATHS),
        "ReadonlyPaths": list(READONLY_PATHS),
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "Sysctls": dict(SYSCTLS),
        "Ulimits": [
            {"Name": "nofile", "Soft": nofile, "Hard": nofile},
            {"Name": "memlock", "Soft": memlock, "Hard": memlock},
            {"Name": "core", "Soft": 0, "Hard": 0},
        ],
        # Not compressed: a flood would make the engine's processor time that of all, and saves 10 MB at most.
        "LogConfig": {
            "Type": "local",
            "Config": {"max-size": f"{LOG_FILE_MB}m", "max-file": "2", "compress": "false"},
        },
        "Mounts": [
            {"Type": "bind", "Source": str(disk), "Target": CODE_MOUNT},
            {"Type": "bind", "Source": str(slot_dir), "Target": SLOT_MOUNT, "ReadOnly": True},
            *({"Type": "bind", "Source": str(source), "Target": target} for source, target in volumes),
        ],
    }
    if name_servers:
        host["Dns"] = list(name_servers)
    if layer_limit:
        host["StorageOpt"] = {"size": f"{template.layer_mb}m"}
    if template.runtime:
        host["Runtime"] = template.runtime
    return {
        "Image": template.image,
        "Hostname": "sandbox",
        "Labels": {**own, "sandbox.image": template.image, WALLS_LABEL: walls(host, found_servers)},
        "HostConfig": host,
    }


def walls(host: dict[str, Any], found_servers: Sequence[str]) -> str:
    """12 hex digits for the limits and walls in the payload of a container, and the host's name servers; the same for
    all of a template."""
    told = {key: value for key, value in host.items() if key not in ("NetworkMode", "Mounts", "Dns", "StorageOpt")}
    told["name servers"] = list(found_servers)
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]
