"""Everything that would make a deploy fail half-way, asked before the first change."""

import os

from pyinfra import host
from pyinfra.api.exceptions import DeployError

from deploys import acme, facts, turns
from deploys.loading import load
from deploys.settings import RUNSC, Settings

SUITES = {"bookworm": "12", "trixie": "13"}
REVERSE_PATH = "net.ipv4.conf.all.rp_filter"
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
    inside = [name for name, template in wanted.templates.items() if template.runtime == RUNSC]
    if inside and seen.suite == "bookworm":
        found.append(
            f"templates[{inside[0]!r}]['runtime'] = {RUNSC!r}: gVisor of Debian 12 is of 2022, and was not tried; "
            "leave it out, or upgrade the host to Debian 13"
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
    if len(seen.uplinks) > 1 and wanted.sysctls.get(REVERSE_PATH) == 1:
        found.append(
            f"sysctls[{REVERSE_PATH!r}] = 1: this host has default routes through {' and '.join(seen.uplinks)}, and "
            "what comes in by one and is answered by the other would be dropped, perhaps your own session; use 2"
        )
    if seen.machine not in ("x86_64", "aarch64"):
        found.append(f"machine = '{seen.machine}': images are made for x86_64 and aarch64")
    return found


def absent(wanted: Settings) -> list[str]:
    """The users that settings name and the host does not have, one line each, with what to do."""
    named = [(key, user) for key in ("sandbox_users", "skills_users") for user in getattr(wanted, key)]
    accounts = host.get_fact(facts.Accounts, logins=tuple(user for _, user in named))
    remedy = "there is no such user on the host; create it, or take it out of the setting"
    return [f"{key} = {user!r}: {remedy}" for key, user in named if user not in accounts]


def clashes(wanted: Settings) -> list[str]:
    """Whether the address of the egress proxy is somebody's already, one line for what says so."""
    address = wanted.egress_address
    taken = f"ip -4 -oneline address show to {address} | grep -v lo:egress"
    # 0.0.0.0/1 and 128.0.0.0/1 are how VPNs write "default".
    routed = f"ip -4 route show match {address} | grep -vE '^(default|0.0.0.0/1|128.0.0.0/1) '"
    seen = host.get_fact(facts.Output, command_line=f"{{ {taken}; {routed}; }}")
    remedy = "the host reaches somebody there already; choose an address that nobody has"
    return [f"egress_address = {address!r}: {' '.join(line.split())}: {remedy}" for line in seen.splitlines()[:1]]


def check() -> None:
    """Stop before the first change when the settings or the host will not do. Raises DeployError."""
    wanted = settings()
    if wanted.tls_mode == "acme":
        acme.credentials(wanted, os.environ)
    found = problems(summary(), wanted) + absent(wanted) + clashes(wanted)
    if found:
        raise DeployError(f"{host.name} cannot become a sandbox host:\n" + "\n".join(f"  - {line}" for line in found))
    turns.take(wanted.name)
