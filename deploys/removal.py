"""What `make destroy` takes away. Data stays unless it is asked for: sandboxes (stopped), ledger, secrets, authority.

Left in any case: general Debian packages, security updates, and a Docker engine that still has something else to run.
"""

from __future__ import annotations

from pyinfra import host
from pyinfra.api import deploy

from deploys import ROOT, access, console, egress, facts, fleetimages, hardening, images, swarm, swarmfacts, turns
from deploys.docker import DEBIAN_ENGINE, DOCKER_ENGINE, KEYRING
from deploys.fleet import fence_unit
from deploys.gateway import PROGRAM
from deploys.operations import located, when
from deploys.preflight import settings
from deploys.settings import Settings
from deploys.traefik import CONTAINER

OURS = "docker {kind} ls -q {all} --filter label=sandbox.project={project}"


def unit_names(wanted: Settings, of_fleet: bool) -> list[str]:
    """Our units, in the order in which they are stopped."""
    ours = ("fleet.service", "fleet-certificate.path", "fleet-certificate.service", "fleet-firewall.service")
    fleet = ours if of_fleet else ()
    names = (*fleet, "container-pool.service", "sandboxd.service", "firewall.service", "thaw.service", "build.slice")
    last = [f"{wanted.project}-swarmd.service"] if of_fleet else []
    return [*console.units(wanted), *egress.units(wanted), *(f"{wanted.project}-{name}" for name in names), *last]


def paths(wanted: Settings) -> list[str]:
    """Files and directories that are nothing but ours and hold no data."""
    name = wanted.name
    return [
        "/usr/local/bin/docker-sandbox",
        "/usr/local/bin/docker-sandbox-cli.sh",
        "/usr/share/bash-completion/completions/docker-sandbox",
        f"/usr/local/lib/{name}",
        f"/opt/{name}",
        f"/etc/cron.d/{name}-cleanup",
        f"/etc/cron.d/{name}-logrotate",
        f"/etc/logrotate.d/{name}",
        f"/etc/sysctl.d/60-{name}.conf",
        f"/etc/modules-load.d/{name}.conf",
        f"/etc/systemd/journald.conf.d/60-{name}.conf",
        f"/etc/systemd/system/docker.socket.d/60-{name}.conf",
        f"/etc/systemd/system/haproxy.service.d/60-{name}.conf",
        f"/etc/needrestart/conf.d/{name}.conf",
        f"/etc/apt/apt.conf.d/52unattended-upgrades-{name}",
        "/etc/traefik",
        f"{wanted.etc}/pages",
        f"{wanted.etc}/seccomp",
        f"{wanted.etc}/config.toml",
        f"{wanted.etc}/egress.cfg",
        f"{wanted.etc}/egress.lua",
        f"{wanted.etc}/names.conf",
        f"{wanted.etc}/release",
        f"{wanted.state}/build",
    ]


@deploy("Remove")
def remove(with_data: bool) -> None:
    """Take away what a deploy put there; with `with_data` also what people put into it. Can be run again."""
    wanted = settings()
    turns.take(wanted.name)
    of_fleet = bool(wanted.fleet_role) or swarmfacts.has_engine(wanted)
    for unit in unit_names(wanted, of_fleet):
        when(
            name=f"Stop {unit}",
            condition=f"systemctl cat {unit}",
            commands=[f"systemctl disable --now {unit}", f"rm /etc/systemd/system/{unit}", "systemctl daemon-reload"],
        )
    when(
        name="Stop the gateway",
        condition="systemctl cat haproxy.service",
        commands=[f"rm -f {PROGRAM}", "DEBIAN_FRONTEND=noninteractive apt-get purge -y haproxy"],
    )
    login = egress.user(wanted)
    when(name=f"Remove the user {login}", condition=f"id -u {login}", commands=[f"userdel {login}"])
    when(
        name="Remove Traefik",
        condition=f"docker ps --all --quiet --filter name=^{CONTAINER}$ --filter label=sandbox.spec",
        commands=[f"docker rm --force {CONTAINER}"],
    )
    _sandboxes(wanted, with_data)
    profile = f"/etc/apparmor.d/{wanted.name}"
    when(
        name="Unload the AppArmor profiles",
        condition=f"ls -d {profile}",
        commands=[f"apparmor_parser --remove {profile}; rm -f {profile} {wanted.state}/apparmor-loaded"],
    )
    _files(wanted, with_data)
    if of_fleet:
        _fleet(wanted, with_data)
    if with_data:
        _engine(wanted)


def _sandboxes(wanted: Settings, with_data: bool) -> None:
    """Stop all sandboxes, or remove them; and remove every image of ours that no container uses."""
    containers = OURS.format(kind="container", all="--all", project=wanted.project)
    if with_data:
        when(name="Remove sandboxes", condition=containers, commands=[f"docker rm --force --volumes $({containers})"])
        for kind in ("network", "volume"):
            found = OURS.format(kind=kind, all="", project=wanted.project)
            when(name=f"Remove {kind}s of sandboxes", condition=found, commands=[f"docker {kind} rm $({found})"])
    else:
        running = OURS.format(kind="container", all="", project=wanted.project)
        when(name="Stop sandboxes", condition=running, commands=[f"docker stop $({running})"])
    table = f"inet {wanted.project}-policies"
    when(
        name="Remove the rules of sandboxes",
        condition=f"nft list tables inet | grep -x 'table {table}'",
        commands=[f"nft delete table {table}"],
    )
    when(
        name="Remove the routing rules of sandboxes",
        condition="ip -4 rule show | grep -E '^9[0-3]:'",
        commands=["for place in 90 91 92 93; do while ip -4 rule del pref $place 2>/dev/null; do :; done; done"],
    )
    when(
        name="Remove the address of the egress proxy",
        condition="ip -4 -oneline address show dev lo label lo:egress",
        commands=["ip -4 address flush dev lo label lo:egress"],
    )
    mounts = f"findmnt --raw --noheadings --output TARGET | grep '^{wanted.state}/mounts/'"
    when(name="Unmount disks", condition=mounts, commands=[f"{mounts} | xargs umount --lazy"])
    used = "docker ps --all --format '{{.Image}}'"
    # Of snapshots and of templates that were made here: they are data.
    made = [f"{wanted.project}-template-[^:]+"] if with_data else []
    tags = (
        "docker image ls --format '{{.Repository}}:{{.Tag}}' | "
        f"grep -E '^({'|'.join([*images.names(wanted), *made])}):'"
    )
    only_unused = "awk '/^-/ {used[substr($0, 2)] = 1; next} !used[substr($0, 2)] {print substr($0, 2)}'"
    unused = f"{{ {used} | sed s/^/-/; {tags} | sed s/^/+/; }} | {only_unused}"
    when(name="Remove images", condition=unused, commands=[f"docker image rm $({unused})", "docker builder prune -af"])


def _files(wanted: Settings, with_data: bool) -> None:
    for path in paths(wanted):
        _remove(path)
    for path, then in (
        (located(access.TEMPLATE, wanted), access.RELOAD),
        (located(hardening.AUDIT, wanted), hardening.RULES_AGAIN),
    ):
        when(name=f"Remove {path}", condition=f"ls -d {path}", commands=[f"rm -f {path}", then])
    for user in wanted.skills_users:
        home = host.get_fact(facts.Output, command_line=f"getent passwd {user} | cut -d: -f6")
        for skill in sorted((ROOT / "files/skills").glob("*/SKILL.md")):
            folder = f"{home}/.claude/skills/{skill.parent.name}"
            _remove(folder)
    authorities = f"/usr/local/share/ca-certificates/{wanted.name}"
    when(
        name="Remove the extra certificate authorities",
        condition=f"ls -d {authorities}",
        commands=[f"rm -rf {authorities}", "update-ca-certificates --fresh >/dev/null"],
    )
    if with_data:
        data = f"{wanted.etc} {wanted.state} {wanted.log} /var/log/{wanted.name}-cleanup.log*"
        when(name="Remove data and secrets", condition=f"ls -d {data}", commands=[f"rm -rf {data}"])
        login = console.user(wanted)
        when(name=f"Remove the user {login}", condition=f"id -u {login}", commands=[f"userdel {login}"])
        when(name="Remove the group", condition="getent group sandbox", commands=["groupdel sandbox"])


def _fleet(wanted: Settings, with_data: bool) -> None:
    """The fleet engine has stopped. Its place in the Swarm is data: with it, the host is of the fleet again when it is
    deployed; `make fleet-forget` tells the others that it does not come back.
    """
    for path in ("fleet.toml", "node.toml", "swarmd.json", "fleet.nft", "fleet"):
        _remove(f"{wanted.etc}/{path}")
    rules = f"inet {wanted.project}-fleet"
    found = f"nft list tables inet | grep -x 'table {rules}'"
    when(name="Open the fleet's ports", condition=found, commands=[f"nft delete table {rules}"])
    _remove(fence_unit(wanted))
    for bridge in ("flt0", swarm.BRIDGE):
        when(
            name=f"Remove the bridge {bridge}",
            condition=f"ls -d /sys/class/net/{bridge}",
            commands=[f"ip link del {bridge}"],
        )
    trusted = f"/etc/docker/certs.d/{fleetimages.REGISTRY}"
    _remove(trusted)
    when(
        name="Remove the registry",
        condition=f"ls -d {fleetimages.DROP_IN}",
        commands=fleetimages.removed(),
    )
    found = f"grep -E ' {fleetimages.NAME}$' /etc/hosts"
    when(name="Forget where the registry is", condition=found, commands=[fleetimages.named()])
    if with_data:
        _remove(f"/var/lib/{wanted.project}-swarmd")


def _engine(wanted: Settings) -> None:
    """Remove Docker with its data root, if nothing else is in it."""
    packages = " ".join([*DEBIAN_ENGINE, *DOCKER_ENGINE, "crun", "mmdebstrap"])
    installed = f"dpkg-query -W -f '${{Package}} ' {packages} 2>/dev/null"
    empty = (
        'command -v dockerd && [ -z "$(docker ps --all --quiet; docker volume ls --quiet; docker image ls --quiet)" ]'
        " && echo empty"
    )
    when(
        name="Remove the Docker engine",
        condition=empty,
        commands=[
            # Only those that are there: apt fails for a name that the release does not have.
            f"DEBIAN_FRONTEND=noninteractive apt-get purge -y $({installed})",
            # Either may be a mount point: then it stays, empty.
            "for path in /var/lib/docker /var/lib/containerd; do [ ! -d $path ] || find $path -mindepth 1 -delete; "
            "rmdir $path 2>/dev/null || true; done",
            "rm -rf /etc/docker",
            f"rm -f /etc/apt/sources.list.d/docker.sources {KEYRING}",
        ],
    )


def _remove(path: str) -> None:
    when(name=f"Remove {path}", condition=f"ls -d {path}", commands=[f"rm -rf {path}"])
