"""Which hosts a command means: named on the command line, kept in `hosts.toml`, or the lab when there are none.

Used by `inventory.py`, by `make verify` and by `python -m deploys.hosts`, which checks that each host answers before
anything starts. Reads the environment, `hosts.toml` and the lab's state; changes nothing.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from deploys import ROOT, fleetrules
from deploys.settings import MANAGER, WORKER, SettingError, Settings
from deploys.target import HostError as HostError
from deploys.target import Target as Target
from deploys.target import distinct, parsed

HOSTS_FILE = ROOT / "hosts.toml"
CONNECTION_KEYS = {"address", "port", "key"}
# What names hosts, on the command line and in `hosts.toml`, and the role in the fleet that they get by it.
ROLES = {("HOST", "hosts"): "", ("MANAGERS", "managers"): MANAGER, ("WORKERS", "workers"): WORKER}
LAB = "lab:"


def targets(environ: Mapping[str, str], hosts_file: Path = HOSTS_FILE) -> list[Target]:
    """The hosts that the environment or `hosts.toml` names; empty means: the lab.

    Environment: HOST (one or more `[user@]host[:port]`, or `lab:NAME` for a lab that is up, separated by commas or
    spaces), in the same form MANAGERS and WORKERS of a fleet, SSH_PORT, SSH_KEY, DOMAIN, and SET (`key=value`
    settings, separated by spaces). DOMAIN and SET also override what `hosts.toml` says. Raises HostError.
    """
    overrides = _overrides(environ)
    found = []
    for (variable, _), role in ROLES.items():
        for text in re.split(r"[,\s]+", environ.get(variable, "").strip()):
            if text:
                found.append(_named(text, environ, overrides | _role(role)))
    if found:
        return with_fleet(distinct(found))
    if not hosts_file.exists():
        return []
    try:
        content = tomllib.loads(hosts_file.read_text())
    except tomllib.TOMLDecodeError as error:
        raise HostError(f"{hosts_file.name}: {error}") from None
    defaults = _table(hosts_file, "defaults", content.get("defaults", {}))
    for (_, table), role in ROLES.items():
        for name, given in _table(hosts_file, table, content.get(table, {})).items():
            entry = _table(hosts_file, f"{table}.{name}", given)
            merged = {**defaults, **entry}
            settings = {key: value for key, value in merged.items() if key not in CONNECTION_KEYS} | overrides
            address = str(merged.get("address", name))
            port, key = str(merged.get("port", "")), str(merged.get("key", ""))
            if name in [target.name for target in found]:
                raise HostError(f"{hosts_file.name} names {name!r} twice: as a single host, a manager or a worker")
            found.append(parsed(name, address, port, key, settings | _role(role)))
    if not found:
        raise HostError(
            f'{hosts_file.name} names no host: add a table such as [hosts.sandbox1] with address = "root@203.0.113.7"'
        )
    return with_fleet(found)


def with_fleet(found: Sequence[Target]) -> list[Target]:
    """The targets, of which those with a role know all of the fleet, managers first, and their own address in it."""
    members = [target for target in found if target.settings.get("fleet_role")]
    members.sort(key=lambda target: target.settings["fleet_role"] != MANAGER)
    nodes = {
        target.name: {
            "role": target.settings["fleet_role"],
            "address": str(target.settings.get("fleet_address") or target.address),
        }
        for target in members
    }

    def informed(target: Target) -> Target:
        known = {"fleet_nodes": nodes, "fleet_address": nodes[target.name]["address"]}
        return replace(target, settings=target.settings | known)

    return [informed(target) if target in members else target for target in found]


def _role(role: str) -> dict[str, Any]:
    return {"fleet_role": role} if role else {}


def _named(text: str, environ: Mapping[str, str], settings: dict[str, Any]) -> Target:
    if text.startswith(LAB) and not text.removeprefix(LAB).isdigit():
        return _lab(text.removeprefix(LAB), settings, f"host {text!r}")
    return parsed(text, text, environ.get("SSH_PORT", ""), environ.get("SSH_KEY", ""), settings)


def _table(file: Path, key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise HostError(f"{file.name}: {key} = {value!r}: make it a table, as in [hosts.sandbox1]")
    return value


def lab_target(environ: Mapping[str, str]) -> Target:
    """The lab named by LAB (default `lab`), which must be up. Raises HostError."""
    return _lab(environ.get("LAB") or "lab", _overrides(environ), "no host is named")


def _lab(name: str, settings: dict[str, Any], why: str) -> Target:
    import lab

    try:
        running = lab.find(name)
    except lab.LabError as error:
        raise HostError(f"{why}, and the lab is not up: {error}\n  or name a host: HOST=root@server") from None
    data = running.pyinfra_data()
    return Target(
        name=name,
        address=data["ssh_hostname"],
        user=data["ssh_user"],
        port=data.get("ssh_port", 22),
        key=data["ssh_key"],
        known_hosts=data["ssh_known_hosts_file"],
        settings=settings,
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
    members: dict[str, Settings] = {}
    for target in found:
        try:
            settings = target.load_settings()
            if settings.fleet_role:
                members[target.name] = settings
        except SettingError as error:
            wrong = 2
            print(f"error: {target.name}: {error}", file=sys.stderr)
    for disagreement in fleetrules.disagreements(members):
        wrong = 2
        print(f"error: {disagreement}", file=sys.stderr)
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
