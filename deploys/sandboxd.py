"""sandboxd and its client `docker-sandbox`: the code in a locked environment, its configuration, secret and unit."""

from __future__ import annotations

from dataclasses import replace

from pyinfra.api import deploy
from pyinfra.operations import files, server

from deploys import ROOT, confinement, fleetgateway, shared
from deploys.environments import Program, environment
from deploys.images import Tags, digest
from deploys.operations import place, unit, when
from deploys.preflight import settings
from deploys.settings import MANAGER, Settings
from deploys.traefik import GATEWAY

GROUP = "sandbox"
UNITS = "/etc/systemd/system"
PROGRAM = Program("sandboxd", "requirements/sandboxd.txt", "sandboxd.api")
BROWSER_SCRIPTS = sorted((ROOT / "files/browser-test").glob("*.py"))


def program(wanted: Settings) -> Program:
    """On a manager, the fleet service is in the same environment."""
    return replace(PROGRAM, beside=("fleet",)) if wanted.fleet_role == MANAGER else PROGRAM


def command(wanted: Settings) -> str:
    """The command that asks this host alone: on a manager, docker-sandbox asks the whole fleet."""
    return f"{wanted.lib}/docker-sandbox-node" if wanted.fleet_role == MANAGER else "docker-sandbox"


def socket(wanted: Settings) -> str:
    """Where sandboxd is asked by that command."""
    return fleetgateway.trusted_socket(wanted) if wanted.fleet_role == MANAGER else f"/run/{wanted.name}/sandboxd.sock"


def browser_template(wanted: Settings) -> str:
    """The name of the first template that has a browser, "" when there is none."""
    return next((name for name, template in wanted.templates.items() if template.context == "playwright"), "")


@deploy("sandboxd")
def daemon() -> None:
    """The firewall, the daemon that owns Docker and the ledger, and the command that talks to it."""
    wanted = settings()
    tags = Tags(wanted)
    server.group(name=f"Make group {GROUP}", group=GROUP, system=True)
    for user in wanted.sandbox_users:
        when(
            name=f"Let {user} use docker-sandbox",
            condition=f"id -nG {user} | tr ' ' '\\n' | grep -qx {GROUP} || echo no",
            commands=[f"usermod --append --groups {GROUP} {user}"],
        )

    if wanted.shared_storage:
        shared.mark(wanted.shared_storage)
    secrets = f"{wanted.etc}/secrets"
    when(
        name="Make the token key",
        condition=f"[ -s {secrets}/token_key ] || echo missing",
        commands=[f"umask 077 && openssl rand -hex 32 >{secrets}/token_key"],
    )
    files.file(name="Close the token key", path=f"{secrets}/token_key", user="root", group="root", mode="600")
    when(
        name="Make the secret of the metrics",
        condition=f"[ -s {secrets}/metrics_token ] || echo missing",
        commands=[f"umask 077 && openssl rand -hex 32 >{secrets}/metrics_token"],
    )
    files.file(
        name="Close the secret of the metrics", path=f"{secrets}/metrics_token", user="root", group="root", mode="600"
    )
    release, daemon = f"{wanted.lib}/sandboxd-release", f"{wanted.project}-sandboxd.service"
    place("usr/local/lib/project-sandbox/sandboxd-release", wanted, mode="755", units=UNITS, socket=socket(wanted))
    when(  # before the first change; later its unit does so
        name="Note what runs now",
        condition=f"[ -d {wanted.opt}/good ] || ! systemctl is-active --quiet {daemon} || echo unknown",
        commands=[f"{release} keep"],
    )
    files.directory(name=f"Make {wanted.log}", path=wanted.log, user="root", group="adm", mode="750")
    place(
        "etc/project-sandbox/config.toml",
        wanted,
        browser_template=browser_template(wanted),
        browser_scripts=f"{wanted.lib}/browser-test",
        templates={
            name: (
                tags.template(template),
                template,
                confinement.seccomp_path(wanted, template),
                confinement.apparmor_name(wanted, template),
            )
            for name, template in wanted.templates.items()
        },
        gateway=GATEWAY,
        api=fleetgateway.keys_address(wanted),
        fleet=fleetgateway.gateway(wanted),
        managers=[f"{node.name} ({node.address})" for node in wanted.fleet_managers],
        socket_group=GROUP,
        # Each sandbox has a network of its own: where those end, a clear answer is better than Docker's refusal.
        max_sandboxes=min(wanted.max_sandboxes or wanted.networks, wanted.networks),
    )
    # Files of their own, and not a part of the package: people copy them, and `browser-test` uploads them.
    for script in BROWSER_SCRIPTS:
        dest = f"{wanted.lib}/browser-test/{script.name}"
        files.put(name=f"Write {dest}", src=str(script), dest=dest, user="root", group="root", mode="644")
    link = f"{wanted.opt}/venv"
    installed, spared = program(wanted), f"{wanted.opt}/good/venv"
    version = digest(installed.files())
    environment(name="Install sandboxd", link=link, version=version, program=installed, spared=spared)
    place("usr/local/bin/docker-sandbox", wanted, mode="755", python=f"{link}/bin/python")
    if wanted.fleet_role == MANAGER:
        place("etc/project-sandbox/node.toml", wanted, socket=socket(wanted), gateway=GATEWAY, command=command(wanted))
        place("usr/local/lib/project-sandbox/docker-sandbox-node", wanted, mode="755", python=f"{link}/bin/python")
    files.link(name="Link docker-sandbox-cli.sh", path="/usr/local/bin/docker-sandbox-cli.sh", target="docker-sandbox")
    place("usr/share/bash-completion/completions/docker-sandbox", wanted)
    place("etc/systemd/system/project-build.slice", wanted)
    unit(name="Limit builds of templates", unit=f"{wanted.project}-build.slice")
    place("etc/systemd/system/project-thaw.service", wanted)
    unit(name="Thaw at shutdown", unit=f"{wanted.project}-thaw.service")
    place("etc/systemd/system/project-firewall.service", wanted, python=f"{link}/bin/python")
    unit(
        name="Raise the firewall",
        unit=f"{wanted.project}-firewall.service",
        files=[f"{wanted.etc}/config.toml", f"{link}/pyvenv.cfg"],
    )
    place("etc/systemd/system/project-sandboxd.service", wanted, python=f"{link}/bin/python", release=release)
    unit(
        name="Run sandboxd",
        unit=daemon,
        start=f"{release} activate",
        # pyvenv.cfg is as old as the environment; the files of the archive have no time, and python3 is Debian's.
        files=[f"{wanted.etc}/config.toml", f"{link}/pyvenv.cfg"],
    )


@deploy("sandboxd")
def routes() -> None:
    """The gateway has the routes of the ledger, whatever became of its map while sandboxd did not run."""
    wanted = settings()
    asked = command(wanted)
    when(
        name="Bring the routes in step with the ledger",
        condition=f"{asked} routes status --quiet || echo drift",
        commands=[f"{asked} routes sync"],
    )
