"""Which values the settings of a fleet may have, and which not together. Touches nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network

from deploys.settings import MANAGER, WORKER, SettingError, Settings

# A name becomes that of a socket and of a HAProxy backend; an IPv4 address is one, too.
NODE = re.compile(r"[a-z0-9]([a-z0-9.-]{0,40}[a-z0-9])?")
DIRECTORY = re.compile(r"(/[A-Za-z0-9._-]+)+")
# What listens at a host's addresses, or may: SSH, Traefik, the gateway, the API, the two of Swarm (and the one of its
# networks, which nobody uses here), and the registry.
TAKEN_PORTS = (22, 80, 443, 2377, 4789, 5000, 7946, 8081, 8090, 8091)
# Swarm's managers agree by majority: two of two must live, as must two of three.
MANAGERS = (1, 3)
# What is reserved of what a template allows.
SHARES = ("fleet_memory_share", "fleet_cpus_share")
# A sandbox may be made on any host of a fleet, and is reached by its name through any manager.
SAME = (
    "project",
    "domain",
    "default_port",
    "default_template",
    "templates",
    "fleet_port",
    "shared_storage",
    *SHARES,
)


def check(settings: Settings) -> None:
    """Raises SettingError for what no fleet can be, and for what only a fleet has on a host of none."""
    role, address, nodes = settings.fleet_role, settings.fleet_address, settings.fleet_nodes
    if role not in ("", MANAGER, WORKER):
        raise SettingError("fleet_role", role, f"choose one of {MANAGER}, {WORKER}, or '' for a single host")
    port = settings.fleet_port
    if not 1 <= port <= 65535 or port in TAKEN_PORTS:
        raise SettingError("fleet_port", port, "use a TCP port that no other part of a host listens at, such as 8443")
    for key in SHARES:
        if not 0.01 <= (share := getattr(settings, key)) <= 1:
            raise SettingError(
                key, share, "use a number from 0.01 to 1, such as 0.5 for half of what a template allows"
            )
    _check_shared(settings)
    if not role:
        if address:
            remedy = (
                "a single host has none: name the host in [managers.*] or [workers.*], or with MANAGERS= or WORKERS="
            )
            raise SettingError("fleet_address", address, remedy)
        if nodes:
            raise SettingError("fleet_nodes", sorted(nodes), "a single host has none: leave it out")
        return
    _check_nodes(settings)
    own = nodes.get(settings.fleet_node)
    if own is None or own.role != role:
        raise SettingError("fleet_address", address, f"is that of no {role} among {', '.join(nodes)}")


def _check_shared(settings: Settings) -> None:
    shared, command, after_s = settings.shared_storage, settings.fence_command, settings.fence_after_s
    if shared and not settings.fleet_role:
        raise SettingError("shared_storage", shared, "only the hosts of a fleet share storage: leave it out")
    if shared and not DIRECTORY.fullmatch(shared):
        raise SettingError("shared_storage", shared, "use the absolute path of a directory, such as '/srv/volumes'")
    if command and not DIRECTORY.fullmatch(command):
        raise SettingError("fence_command", command, "use the absolute path of a program, without arguments")
    if command and not shared:
        raise SettingError("fence_command", command, "without shared_storage nothing follows from it: set that, too")
    if not 5 <= after_s <= 86400:
        raise SettingError("fence_after_s", after_s, "use 5 to 86400 seconds")


def disagreements(members: Mapping[str, Settings]) -> list[str]:
    """What the hosts of a fleet, by name, must have the same, and do not: one line each."""
    lines = []
    for key in SAME:
        first, *others = members.items() or [("", None)]
        for name, settings in others:
            here, there = getattr(first[1], key), getattr(settings, key)
            if here != there:
                shown = "" if key == "templates" else f": {here!r} and {there!r}"
                lines.append(
                    f"{key} is not the same on {first[0]} and {name}{shown}. All hosts of a fleet need the same"
                )
    return lines


def _check_nodes(settings: Settings) -> None:
    if len(settings.fleet_managers) not in MANAGERS:
        names = [node.name for node in settings.fleet_managers]
        raise SettingError("fleet_nodes", names, "a fleet has 1 or 3 managers: with 2, the loss of either stops both")
    addresses = [node.address for node in settings.fleet_nodes.values()]
    for name, node in settings.fleet_nodes.items():
        if not NODE.fullmatch(name):
            remedy = "name a host of a fleet with lower-case letters, digits, dots and dashes, at most 42"
            raise SettingError("fleet_nodes", name, remedy)
        where = f"fleet_nodes[{name!r}]"
        if node.role not in (MANAGER, WORKER):
            raise SettingError(where, node.role, f"choose one of {MANAGER}, {WORKER}")
        try:
            address = IPv4Address(node.address)
        except ValueError:
            remedy = "is no IPv4 address: give the one that the other hosts reach it at, as fleet_address in hosts.toml"
            raise SettingError(where, node.address, remedy) from None
        if address.is_loopback or address.is_multicast or address.is_unspecified:
            raise SettingError(where, node.address, "no other host reaches that: give the host's own address")
        if addresses.count(node.address) > 1:
            raise SettingError(where, node.address, "two hosts of the fleet have it: each needs its own")
        for key, network in zip(("docker_network_pool", "docker_bridge"), settings.sandbox_sources, strict=True):
            if address in IPv4Network(network):
                raise SettingError(where, node.address, f"is in {key} {network}, which is of sandboxes: move that")
