"""What the deploys ask a host, one command each. Reads only."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import Any

from pyinfra.api import FactBase


@dataclass(frozen=True)
class HostSummary:
    """What the preflight looks at; `free_mb` below /var/lib, `memory_mb` in all, `busy_ports` by process name.

    `uplinks` are the interfaces with a default route of IPv4.
    """

    uid: int = 0
    sudo: bool = True
    os: str = ""
    suite: str = ""
    machine: str = ""
    systemd: bool = False
    free_mb: int = 0
    memory_mb: int = 0
    busy_ports: dict[int, str] | None = None
    uplinks: tuple[str, ...] = ()
    apparmor: bool = False


class Summary(FactBase[HostSummary]):
    """The host in one look. Ports 80 and 443 are listed with the program that listens there, ours excepted."""

    default = HostSummary

    def command(self) -> str:
        return (
            "echo uid $(id -u); sudo -n true 2>/dev/null && echo sudo yes; . /etc/os-release; echo os $ID; "
            "echo suite $VERSION_CODENAME; echo machine $(uname -m); test -d /run/systemd/system && echo systemd yes; "
            "echo free_mb $(df -Pm /var/lib | awk 'NR == 2 {print $4}'); "
            "echo memory_mb $(awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo); "
            "ip -4 route show default 2>/dev/null | sed -n 's/.* dev \\([^ ]*\\).*/uplink \\1/p' | sort -u; "
            "grep -qx Y /sys/module/apparmor/parameters/enabled 2>/dev/null && echo apparmor yes; "
            "as_root=$(sudo -n true 2>/dev/null && echo sudo -n); "
            "$as_root ss -Hltnp 2>/dev/null | awk '$4 ~ /:(80|443)$/ {print \"port\", $4, $6}'"
        )

    def process(self, output: list[str]) -> HostSummary:
        values: dict[str, str] = {}
        busy: dict[int, str] = {}
        uplinks: list[str] = []
        for line in output:
            key, _, value = line.partition(" ")
            if key == "port":
                address, _, program = value.partition(" ")
                busy[int(address.rpartition(":")[2])] = program.split('"')[1] if '"' in program else "?"
            elif key == "uplink":
                uplinks.append(value)
            else:
                values[key] = value
        return HostSummary(
            uid=int(values.get("uid", 0)),
            sudo=values.get("sudo") == "yes",
            os=values.get("os", ""),
            suite=values.get("suite", ""),
            machine=values.get("machine", ""),
            systemd=values.get("systemd") == "yes",
            free_mb=int(values.get("free_mb") or 0),
            memory_mb=int(values.get("memory_mb") or 0),
            busy_ports=busy,
            uplinks=tuple(uplinks),
            apparmor=values.get("apparmor") == "yes",
        )


@dataclass(frozen=True)
class Account:
    """A login of the host: the name of its group, and its home."""

    group: str
    home: str


class Accounts(FactBase[dict[str, Account]]):
    """Those of the named logins that the host has, by name."""

    default = dict

    def command(self, logins: tuple[str, ...]) -> str:
        told = 'entry=$(getent passwd "$login") && echo "$login:$(id -gn "$login"):$(echo "$entry" | cut -d: -f6)"'
        return f"for login in {shlex.join(logins)}; do {told}; done; true"

    def process(self, output: list[str]) -> dict[str, Account]:
        rows = [line.split(":") for line in output]
        return {login: Account(group, home) for login, group, home in rows}


class ImageTags(FactBase[set[str]]):
    """All `name:tag` of the host's Docker images; empty where Docker is not installed yet."""

    default = set

    def command(self) -> str:
        return "docker image ls --format '{{.Repository}}:{{.Tag}}' 2>/dev/null || true"

    def process(self, output: list[str]) -> set[str]:
        return set(output)


class Container(FactBase[dict[str, Any]]):
    """A container's `docker inspect`, or {} when there is none."""

    default = dict

    def command(self, container: str) -> str:
        return f"docker container inspect {shlex.quote(container)} 2>/dev/null || true"

    def process(self, output: list[str]) -> dict[str, Any]:
        found = json.loads("\n".join(output) or "[]")
        return dict(found[0]) if found else {}


@dataclass(frozen=True)
class UnitState:
    """State of a unit as systemd gives it; `stale_file` is a file of its configuration that is newer than its start."""

    active: str = "inactive"
    enabled: str = ""
    needs_reload: bool = False
    stale_file: str = ""


class Unit(FactBase[UnitState]):
    """A unit's state, and whether one of the given files changed after the unit started."""

    default = UnitState

    def command(self, unit: str, files: tuple[str, ...] = ()) -> str:
        listed = " ".join(shlex.quote(path) for path in files)
        # The uptime first: what a busy host lets pass before it tells the time makes the start later, and no file newer
        # than it.
        return (
            f"systemctl show {shlex.quote(unit)} -p ActiveState -p UnitFileState -p NeedDaemonReload "
            "-p ActiveEnterTimestampMonotonic; "
            "read -r uptime rest </proc/uptime; echo Uptime=$uptime; echo Now=$(date +%s.%N); "
            f"stat -L -c 'File=%.9Y %n' {listed} 2>/dev/null; true"
        )

    def process(self, output: list[str]) -> UnitState:
        values: dict[str, str] = {}
        changed: dict[str, float] = {}
        for line in output:
            key, _, value = line.partition("=")
            if key == "File":
                mtime, _, path = value.partition(" ")
                changed[path] = float(mtime)
            else:
                values[key] = value
        started = float(values.get("Now", 0)) - float(values.get("Uptime", 0))
        started += int(values.get("ActiveEnterTimestampMonotonic") or 0) / 1e6
        # /proc/uptime has a resolution of 10 ms.
        stale = [path for path, mtime in changed.items() if mtime > started + 0.02]
        return UnitState(
            active=values.get("ActiveState", "inactive"),
            enabled=values.get("UnitFileState", ""),
            needs_reload=values.get("NeedDaemonReload") == "yes",
            stale_file=stale[0] if stale and values.get("ActiveState") == "active" else "",
        )


class Output(FactBase[str]):
    """The output of a read-only shell command, trimmed; empty when it fails."""

    default = str

    def command(self, command_line: str) -> str:
        return f"{{ {command_line}; }} 2>/dev/null || true"

    def process(self, output: list[str]) -> str:
        return "\n".join(output).strip()
