"""Everything that would make a deploy fail half-way, asked before the first change."""

import os

from pyinfra import host
from pyinfra.api.exceptions import DeployError

from deploys import acme, facts
from deploys.loading import load
from deploys.settings import Settings

SUITES = {"bookworm": "12", "trixie": "13"}
MIN_FREE_MB = 8 * 1024
MIN_MEMORY_MB = 2 * 1024


def summary() -> facts.HostSummary:
    """The host in one look, seen by the user who logs in: a user without sudo must be told so, and not fail at it."""
    return host.get_fact(facts.Summary, _sudo=False)


def settings() -> Settings:
    """The settings of the host at hand, checked."""
    return load(host.data.dict()).on(summary().suite)  # type: ignore[no-untyped-call]


def problems(seen: facts.HostSummary, wanted: Settings) -> list[str]:
    """What stands against a deploy, one line each, with what to do."""
    found = []
    if seen.uid != 0 and not seen.sudo:
        user = host.data.get("ssh_user")
        found.append(f"ssh_user = {user!r}: is not root and may not sudo without a password; allow that, or use root@")
    if (seen.os, seen.suite in SUITES) != ("debian", True):
        found.append(f"operating system = '{seen.os} {seen.suite}': needs Debian 12 (bookworm) or 13 (trixie)")
    if (wanted.base_suite, seen.suite) == ("trixie", "bookworm"):
        found.append(
            "base_suite = 'trixie': tar and other programs of Debian 13 make system calls that the engine of Debian 12 "
            "refuses; leave the setting empty, or upgrade the host"
        )
    if not seen.systemd:
        found.append("init system: systemd is not running on the host, and all services are its units")
    if seen.free_mb < MIN_FREE_MB:
        found.append(
            f"free space below /var/lib = {seen.free_mb} MB: images and sandboxes need at least {MIN_FREE_MB} MB"
        )
    if seen.memory_mb < MIN_MEMORY_MB:
        found.append(f"memory = {seen.memory_mb} MB: needs at least {MIN_MEMORY_MB} MB")
    for port, program in sorted((seen.busy_ports or {}).items()):
        if program != "traefik":
            found.append(f"port {port}: {program} listens there, and Traefik needs it; stop {program} or move it")
    if seen.machine not in ("x86_64", "aarch64"):
        found.append(f"machine = '{seen.machine}': images are made for x86_64 and aarch64")
    return found


def absent(wanted: Settings) -> list[str]:
    """The users that settings name and the host does not have, one line each, with what to do."""
    named = [(key, user) for key in ("sandbox_users", "skills_users") for user in getattr(wanted, key)]
    accounts = host.get_fact(facts.Accounts, logins=tuple(user for _, user in named))
    remedy = "there is no such user on the host; create it, or take it out of the setting"
    return [f"{key} = {user!r}: {remedy}" for key, user in named if user not in accounts]


def check() -> None:
    """Stop before the first change when the settings or the host will not do. Raises DeployError."""
    wanted = settings()
    if wanted.tls_mode == "acme":
        acme.credentials(wanted, os.environ)
    found = problems(summary(), wanted) + absent(wanted)
    if found:
        raise DeployError(f"{host.name} cannot become a sandbox host:\n" + "\n".join(f"  - {line}" for line in found))
