"""Values only: the names, labels and payloads that make a sandbox. Docker is not touched here.

Payloads are those of Docker's Engine API (`POST /networks/create`, `POST /containers/create`), as API 1.41
(Docker 20.10) to the newest read them.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sandboxd.config import Template

SLOT_MOUNT = "/run/sandbox"
CODE_MOUNT = "/code"
LOG_FILE_MB = 10
CPU_PERIOD_US = 100_000
NOFILE = 65536
OOM_SCORE_ADJ = 500  # when the host itself runs out of memory, sandboxes go before its daemons

# Everything is dropped, then the least that sudo, apt-get, dpkg and the agent need is given back. Each line was taken
# out and tried. Under userns-remap these hold over the sandbox's own uids only.
CAPABILITIES = (
    "CHOWN",  # dpkg and the agent give files to their owners
    "DAC_OVERRIDE",  # root inside reads and writes the user's files
    "FOWNER",  # chmod and utimes on files of others: dpkg, tar
    "FSETID",  # keeps set-gid bits when dpkg unpacks (/var/mail, /var/local)
    "KILL",  # the agent, root, signals the user's processes
    "SETGID",  # sudo, apt's _apt user, the agent: groups of the user
    "SETUID",  # the same: uid of the user
    "SETPCAP",  # the agent and sudo may shrink the bounding set of what they start
    "NET_BIND_SERVICE",  # a server on port 80 inside; where the engine cannot set ip_unprivileged_port_start
    "SYS_CHROOT",  # package scripts and privilege separation (sshd, postfix) chroot
    "AUDIT_WRITE",  # sudo's PAM session reports to audit and fails without
)
# Left out on purpose: NET_RAW (spoofing), MKNOD (devices), SETFCAP (file capabilities; package scripts fall back).

SYSCTLS = {
    "net.ipv4.conf.all.route_localnet": "1",  # lets the DNAT rule of `netns` hand packets to 127.0.0.1
    "net.ipv6.conf.all.disable_ipv6": "1",
}


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
    return f"{project}-qa-{stamp}-{int(claimed_at * 1000) % 1000:03d}"


def bridge_name(slot: str) -> str:
    """Name of the bridge interface on the host: 15 characters, the kernel's limit; firewall rules match `sb-+`."""
    return f"sb-{slot}"


def build_cgroup(project: str) -> str:
    """The cgroup of the slice `<project>-build`, which the deploy makes with its limits; see systemd.slice(5)."""
    words = f"{project}-build".split("-")
    return "".join(f"/{'-'.join(words[:number])}.slice" for number in range(1, len(words) + 1))


def labels(project: str, slot: str, template: str) -> dict[str, str]:
    return {"sandbox.project": project, "sandbox.slot": slot, "sandbox.template": template}


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
    seccomp_json: str = "",
    layer_limit: bool = False,
    name_servers: Sequence[str] = (),
    volumes: Sequence[tuple[Path, str]] = (),
) -> dict[str, Any]:
    """The container of a sandbox, `disk` mounted at /code, and volumes (directory of the host, path inside).

    `nofile` is the limit of open files that the host allows, at most NOFILE; `seccomp_json` the text of the
    template's profile. `layer_limit` has the engine keep the template's limit of its layer, which not every engine can;
    the watchdog keeps it in any case. `name_servers` are asked in place of the host's. No restart policy: after a
    reboot `reconcile` starts the container, because rules and route must be there. No `no-new-privileges`: sudo inside
    is wanted, and root inside is nobody outside.
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
        "Sysctls": dict(SYSCTLS),
        "Ulimits": [
            {"Name": "nofile", "Soft": nofile, "Hard": nofile},
            {"Name": "core", "Soft": 0, "Hard": 0},
        ],
        "LogConfig": {"Type": "local", "Config": {"max-size": f"{LOG_FILE_MB}m", "max-file": "2"}},
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
        "Labels": {**own, "sandbox.image": template.image},
        "HostConfig": host,
    }
