"""What a container engine says of itself and of its networks, as values. Touches nothing.

Fields are those of Docker's `GET /info`, `GET /version` and `GET /networks`, as API 1.41 to the newest give them.
"""

import ipaddress
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# Where the engine takes networks from when it is told nothing: libnetwork's own list.
DEFAULT_POOLS = tuple(
    (ipaddress.ip_network(base), size)
    for base, size in [*((f"172.{number}.0.0/16", 16) for number in range(17, 32)), ("192.168.0.0/16", 20)]
)


@dataclass(frozen=True)
class Description:
    """`pools` are networks, and the prefix length into which each is cut; `limits` names what it can limit."""

    version: str
    api_version: str
    root_dir: str
    runtime: str
    userns_uid: int
    live_restore: bool
    apparmor: bool
    pools: tuple[tuple[Network, int], ...]
    limits: frozenset[str]

    def networks(self) -> int:
        """How many networks its address pools have room for."""
        return sum(1 << max(0, size - base.prefixlen) for base, size in self.pools)

    def taken(self, subnets: list[str]) -> int:
        """How many of those the given subnets occupy."""
        taken = 0
        for subnet in subnets:
            one = ipaddress.ip_network(subnet, strict=False)
            for base, size in self.pools:
                if base.version == one.version and int(base[0]) <= int(one[0]) and int(one[-1]) <= int(base[-1]):
                    taken += 1 << max(0, size - one.prefixlen)
        return taken


def parse(info: dict[str, Any], version: dict[str, Any]) -> Description:
    security = info.get("SecurityOptions") or []
    pools = [(ipaddress.ip_network(pool["Base"]), int(pool["Size"])) for pool in info.get("DefaultAddressPools") or []]
    limits = {"memory": "MemoryLimit", "swap": "SwapLimit", "cpu": "CpuCfsQuota", "pids": "PidsLimit"}
    return Description(
        version=str(version["Version"]),
        api_version=str(version.get("ApiVersion", "")),
        root_dir=info.get("DockerRootDir", ""),
        runtime=info.get("DefaultRuntime", ""),
        userns_uid=base_uid(info),
        live_restore=bool(info.get("LiveRestoreEnabled")),
        apparmor=any("name=apparmor" in option for option in security),
        pools=tuple(pools) or DEFAULT_POOLS,
        limits=frozenset(name for name, field in limits.items() if info.get(field)),
    )


def base_uid(info: dict[str, Any]) -> int:
    """From the engine's effective root directory, `/var/lib/docker/100000.100000` under userns-remap."""
    remapped = any("name=userns" in option for option in info.get("SecurityOptions") or [])
    match = re.search(r"/(\d+)\.\d+$", info.get("DockerRootDir", ""))
    return int(match.group(1)) if remapped and match else 0


def limits_layers(info: dict[str, Any], mountinfo: str) -> bool:
    """Whether the storage driver can give a container's layer a limit of its own (`--storage-opt size=`).

    btrfs and zfs can; overlay2 can above XFS that is mounted with project quotas: see proc(5) for `mountinfo`.
    """
    driver = info.get("Driver", "")
    if driver != "overlay2":
        return driver in ("btrfs", "zfs")
    root = PurePosixPath(info.get("DockerRootDir", "/"))
    file_system, options = "", ""
    for line in mountinfo.splitlines():  # of nested mounts the later one is on top
        left, _, right = line.partition(" - ")
        if root.is_relative_to(left.split(" ")[4]):
            file_system, _, options = right.split(" ", 2)
    return file_system == "xfs" and "prjquota" in options.split(",")


def subnets(networks: list[dict[str, Any]]) -> list[str]:
    """Of `GET /networks`, all that have one."""
    configs = [config for one in networks for config in (one.get("IPAM") or {}).get("Config") or []]
    return [config["Subnet"] for config in configs if config.get("Subnet")]
