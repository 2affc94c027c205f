"""Which hosts a command means: named on the command line, kept in `hosts.toml`, or the lab when there are none.

Used by `inventory.py`, by `make verify` and by `python -m deploys.hosts`, which checks that each host answers before
anything starts. Reads the environment, `hosts.toml` and the lab's state; changes nothing.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import socket
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from deploys import ROOT
from deploys.loading import load
from deploys.settings import SettingError, Settings

HOSTS_FILE = ROOT / "hosts.toml"
ADDRESS = re.compile(r"(?:(?P<user>[a-z_][\w-]*)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::(?P<port>\d{1,5}))?")
CONNECTION_KEYS = {"address", "port", "key"}


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


def targets(environ: Mapping[str, str], hosts_file: Path = HOSTS_FILE) -> list[Target]:
    """The hosts that the environment or `hosts.toml` names; empty means: the lab.

    Environment: HOST (one or more `[user@]host[:port]`, separated by commas or spaces), SSH_PORT, SSH_KEY, DOMAIN,
    and SET (`key=value` settings, separated by spaces). DOMAIN and SET also override what `hosts.toml` says.
    Raises HostError.
    """
    overrides = _overrides(environ)
    named = re.split(r"[,\s]+", environ.get("HOST", "").strip())
    if named != [""]:
        port, key = environ.get("SSH_PORT", ""), environ.get("SSH_KEY", "")
        return _distinct([_target(text, text, port, key, overrides) for text in named if text])
    if not hosts_file.exists():
        return []
    try:
        content = tomllib.loads(hosts_file.read_text())
    except tomllib.TOMLDecodeError as error:
        raise HostError(f"{hosts_file.name}: {error}") from None
    defaults = _table(hosts_file, "defaults", content.get("defaults", {}))
    found = []
    for name, given in _table(hosts_file, "hosts", content.get("hosts", {})).items():
        entry = _table(hosts_file, f"hosts.{name}", given)
        merged = {**defaults, **entry}
        settings = {key: value for key, value in merged.items() if key not in CONNECTION_KEYS} | overrides
        address = str(merged.get("address", name))
        found.append(_target(name, address, str(merged.get("port", "")), str(merged.get("key", "")), settings))
    if not found:
        raise HostError(
            f'{hosts_file.name} names no host: add a table such as [hosts.sandbox1] with address = "root@203.0.113.7"'
        )
    return found


def _table(file: Path, key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise HostError(f"{file.name}: {key} = {value!r}: make it a table, as in [hosts.sandbox1]")
    return value


def _distinct(found: list[Target]) -> list[Target]:
    """The targets with names of their own: pyinfra would drop one of two hosts that have the same name."""
    places = [(target.address, target.port) for target in found]
    for target in found:
        if places.count((target.address, target.port)) > 1:
            raise HostError(f"host {target.name!r} is named twice (port {target.port}): name each host once")
    names = [target.name for target in found]
    return [
        replace(target, name=f"{target.name}-{target.port}") if names.count(target.name) > 1 else target
        for target in found
    ]


def lab_target(environ: Mapping[str, str]) -> Target:
    """The lab named by LAB (default `lab`), which must be up. Raises HostError."""
    import lab

    name = environ.get("LAB") or "lab"
    try:
        running = lab.find(name)
    except lab.LabError as error:
        raise HostError(
            f"no host is named, and the lab is not up: {error}\n  or name a host: HOST=root@server"
        ) from None
    data = running.pyinfra_data()
    return Target(
        name=name,
        address=data["ssh_hostname"],
        user=data["ssh_user"],
        port=data.get("ssh_port", 22),
        key=data["ssh_key"],
        known_hosts=data["ssh_known_hosts_file"],
        settings=_overrides(environ),
        group="lab",
    )


def chosen(environ: Mapping[str, str]) -> list[Target]:
    """The hosts that are named, or the lab. Raises HostError."""
    return targets(environ) or [lab_target(environ)]


def _overrides(environ: Mapping[str, str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    try:
        pairs = shlex.split(environ.get("SET", ""))
    except ValueError as error:
        raise HostError(f"SET = {environ['SET']!r}: {error}; quote a value that has spaces, as in a shell") from None
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise HostError(f"SET has {pair!r}: write settings as key=value, separated by spaces")
        settings[key] = value
    if environ.get("DOMAIN"):
        settings["domain"] = environ["DOMAIN"]
    return settings


def _target(name: str, text: str, port: str, key: str, settings: dict[str, Any]) -> Target:
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


def unreachable(target: Target, timeout_s: float = 10) -> str:
    """Why the host's SSH port does not answer, or an empty text when it does."""
    try:
        with socket.create_connection((target.address, target.port), timeout=timeout_s):
            return ""
    except OSError as error:
        return str(error)


def main(environ: Mapping[str, str]) -> int:
    """Say what is wrong with the hosts, their settings or the way to them: 2 for wrong input, 1 for no answer."""
    try:
        found = chosen(environ)
    except HostError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    wrong = 0
    for target in found:
        try:
            target.load_settings()
        except SettingError as error:
            wrong = 2
            print(f"error: {target.name}: {error}", file=sys.stderr)
    if wrong:
        return wrong
    for target in found:
        if reason := unreachable(target):
            wrong = 1
            print(
                f"error: {target.name}: no answer at {target.address} port {target.port} ({reason}). "
                f"Check the address, the port (SSH_PORT=...) and the firewall; nothing was changed.",
                file=sys.stderr,
            )
    return wrong


if __name__ == "__main__":
    sys.exit(main(os.environ))
