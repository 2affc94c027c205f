"""One host as the workstation knows it: how to reach it by SSH, and the settings that it overrides."""

from __future__ import annotations

import re
import runpy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from deploys import ROOT
from deploys.loading import load
from deploys.settings import Settings

ADDRESS = re.compile(r"(?:(?P<user>[a-z_][\w-]*)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::(?P<port>\d{1,5}))?")


class HostError(Exception):
    """The hosts were named in a way that cannot be used; the message says which value and what to do."""


@dataclass(frozen=True)
class Target:
    """One host: how to reach it by SSH, and the settings that it overrides."""

    name: str
    address: str
    user: str = "root"
    port: int = 22
    key: str = ""
    known_hosts: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    group: str = "servers"

    def pyinfra_data(self) -> dict[str, Any]:
        """The host's data in pyinfra's inventory."""
        data: dict[str, Any] = {"ssh_hostname": self.address, "ssh_user": self.user, "ssh_port": self.port}
        if self.key:
            data["ssh_key"] = self.key
        if self.known_hosts:
            data |= {"ssh_known_hosts_file": self.known_hosts, "ssh_strict_host_key_checking": "yes"}
        if self.user != "root":
            data["_sudo"] = True
        return data | self.settings

    def load_settings(self) -> Settings:
        """The settings that a deploy uses for this host. Raises SettingError."""
        data: dict[str, Any] = {}
        for group in ("all", self.group):
            file = ROOT / "group_data" / f"{group}.py"
            found = runpy.run_path(str(file)) if file.exists() else {}
            shown = found.get("__all__", [name for name in found if not name.startswith("_")])
            data |= {name: found[name] for name in shown if not isinstance(found[name], type(runpy))}
        return load(data | self.pyinfra_data())

    def ssh_config(self, control_path: str) -> str:
        """The host's block of an OpenSSH configuration; one connection is shared through `control_path`."""
        lines = [f"HostName {self.address}", f"User {self.user}", f"Port {self.port}"]
        if self.key:
            lines.append(f"IdentityFile {self.key}")
        if self.known_hosts:
            lines += [f"UserKnownHostsFile {self.known_hosts}", "StrictHostKeyChecking yes"]
        else:
            lines.append("StrictHostKeyChecking accept-new")
        lines += ["BatchMode yes", "ControlMaster auto", "ControlPersist 60", f"ControlPath {control_path}"]
        return f"Host {self.name}\n" + "".join(f"  {line}\n" for line in lines)


def parsed(name: str, text: str, port: str, key: str, settings: dict[str, Any]) -> Target:
    """The host that `text` names as `[user@]host[:port]`; `port` and `key` are what holds where it says none.

    Raises HostError.
    """
    match = ADDRESS.fullmatch(text)
    if not match:
        raise HostError(f"host {text!r}: write it as [user@]host[:port], such as root@203.0.113.7 (IPv6 in brackets)")
    number = match["port"] or port or "22"
    if not number.isdigit() or not 1 <= int(number) <= 65535:
        raise HostError(f"host {text!r}: port {number} is not between 1 and 65535")
    if key and not Path(key).expanduser().is_file():
        raise HostError(f"host {text!r}: there is no SSH key {key}")
    host = match["host"].strip("[]")
    short = host if name == text else name
    return Target(
        short, host, match["user"] or "root", int(number), str(Path(key).expanduser()) if key else "", "", settings
    )


def distinct(found: Sequence[Target]) -> list[Target]:
    """The targets with names of their own: pyinfra would drop one of two hosts that have the same name.

    Raises HostError for a host that is named twice.
    """
    places = [(target.address, target.port) for target in found]
    for target in found:
        if places.count((target.address, target.port)) > 1:
            raise HostError(f"host {target.name!r} is named twice (port {target.port}): name each host once")
    names = [target.name for target in found]
    return [
        replace(target, name=f"{target.name}-{target.port}") if names.count(target.name) > 1 else target
        for target in found
    ]
