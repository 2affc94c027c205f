"""What makes a host one of a fleet: the fleet engine, a second Docker in Swarm mode, and its place in the Swarm.

Nothing of it is on a single host.
"""

from __future__ import annotations

import shlex

from pyinfra import host
from pyinfra.api import deploy
from pyinfra.api.exceptions import DeployError
from pyinfra.operations import files

from deploys import ROOT, fleetgateway, swarm, swarmfacts
from deploys.fleetengine import RECIPE, engine_options, lease_image, socket
from deploys.operations import packages, place, unit, when
from deploys.preflight import settings
from deploys.sandboxd import GROUP
from deploys.settings import MANAGER, WORKER, Settings
from deploys.traefik import API

FENCE_S = 120  # for a fence command to make sure that a host is off


def check() -> None:
    """Stop before the first change when the Swarm has hosts that nobody named, or knows one by another name, or a host
    of a fleet was named as a single one. Raises DeployError, OperationError.
    """
    wanted = settings()
    if not wanted.fleet_role and swarmfacts.has_engine(wanted):
        raise DeployError(
            f"{host.name} is one of a fleet, and was named as a single host. Name all hosts of the fleet, with "
            "MANAGERS= and WORKERS= or in [managers.*] and [workers.*] of hosts.toml. If it is to be a single host "
            "from now on: `docker-sandbox node drain` and `make fleet-forget` take it out of its fleet, and "
            "`make destroy HOST=...` removes what it has of that; then deploy it (docs/fleet.md)"
        )
    if not is_first(wanted):
        return
    if found := swarmfacts.renamed(wanted):
        raise DeployError("hosts have other names in the inventory:\n" + "\n".join(f"  - {line}" for line in found))
    if found := swarmfacts.strangers(wanted):
        raise DeployError("hosts are missing in the inventory:\n" + "\n".join(f"  - {line}" for line in found))


def is_first(wanted: Settings) -> bool:
    """Whether the host makes what there is once in a fleet."""
    return bool(wanted.fleet_role) and wanted.builds_images


@deploy("Fleet firewall")
def firewall() -> None:
    """The ports at which the hosts are there for each other, closed to others: before any is asked at one."""
    wanted = settings()
    if not wanted.fleet_role:
        return
    place("etc/project-sandbox/fleet.nft", wanted, ports=fleetgateway.ports(wanted))
    place("etc/systemd/system/project-fleet-firewall.service", wanted)
    unit(
        name="Close the fleet's ports to others",
        unit=f"{wanted.project}-fleet-firewall.service",
        files=[f"{wanted.etc}/fleet.nft"],
    )


@deploy("Fleet")
def engine() -> None:
    """The fleet engine with the image of a lease, and this host in the Swarm of the others."""
    wanted = settings()
    if not wanted.fleet_role:
        return
    packages("the fleet engine", ["catatonit"])
    place("etc/project-sandbox/swarmd.json", wanted, swarmd=engine_options(wanted, wanted.fleet_node))
    place("etc/systemd/system/project-swarmd.service", wanted)
    service = f"{wanted.project}-swarmd.service"
    unit(name="Run the fleet engine", unit=service, files=[f"{wanted.etc}/swarmd.json"])
    recipe, tag = f"{wanted.lib}/lease-image", lease_image(wanted, wanted.base_suite)
    files.put(name=f"Write {recipe}", src=str(ROOT / RECIPE), dest=recipe, user="root", group="root", mode="755")
    when(
        name=f"Make {tag}",
        condition=f"docker --host unix://{socket(wanted)} image inspect {shlex.quote(tag)} >/dev/null || echo missing",
        commands=[f"{recipe} {socket(wanted)} {shlex.quote(tag)}"],
    )
    when(
        name=f"Make {swarm.BRIDGE}",
        condition=swarm.bridge_missing(wanted),
        commands=[swarm.bridge_made(wanted)],
    )
    if is_first(wanted):
        swarm.begin(name="Begin the Swarm", wanted=wanted)
    # One after the other: managers that come at once are in each other's way.
    swarm.join(name="Join the Swarm", wanted=wanted, _serial=True)
    if wanted.fleet_role == MANAGER:  # the first one may be a worker of the Swarm still: one that manages it does so
        swarm.assign_roles(name="Give the hosts their roles", wanted=wanted)
    if is_first(wanted):
        swarm.tune(name="Tune the Swarm", wanted=wanted)
        when(
            name="Remove the Swarm's own network",
            condition=swarm.ingress_there(wanted),
            commands=[swarm.ingress_removed(wanted)],
        )


@deploy("Fleet certificate")
def certificate() -> None:
    """The Swarm's certificate of this host where the gateway reads it, now and whenever the Swarm renews it."""
    wanted = settings()
    if not wanted.fleet_role:
        return
    directory, program = fleetgateway.directory(wanted), f"{wanted.lib}/fleet-certificate"
    files.directory(name=f"Make {directory}", path=directory, user="root", group="root", mode="700")
    place(
        "usr/local/lib/project-sandbox/fleet-certificate",
        wanted,
        mode="755",
        directory=directory,
        first=is_first(wanted),
    )
    unit_name = f"{wanted.project}-fleet-certificate"
    place("etc/systemd/system/project-fleet-certificate.service", wanted, program=program, directory=directory)
    place("etc/systemd/system/project-fleet-certificate.path", wanted)
    unit(name="Watch over the certificate", unit=f"{unit_name}.path")
    when(name="Take over the certificate", condition=f"{program} --check", commands=[program])


@deploy("Former manager")
def no_service() -> None:
    """A worker that was a manager has its fleet service no more: sandboxd takes the place of that."""
    wanted = settings()
    if wanted.fleet_role != WORKER:
        return
    name = f"{wanted.project}-fleet.service"
    left = " ".join(
        (
            f"/etc/systemd/system/{name}",
            fence_unit(wanted),
            f"{wanted.etc}/fleet.toml",
            f"{wanted.etc}/node.toml",
            f"{wanted.lib}/docker-sandbox-node",
            f"{wanted.lib}/fence",
        )
    )
    when(
        name="Stop the fleet service",
        condition=f"ls {left}",
        commands=[f"systemctl disable --now {name} || true", f"rm -f {left}", "systemctl daemon-reload"],
    )


def fence_unit(wanted: Settings) -> str:
    """In which `fence_command` runs: what the fleet service runs itself has its walls around it."""
    return f"/etc/systemd/system/{wanted.project}-fence@.service"


@deploy("Fleet service")
def service() -> None:
    """What answers for the whole fleet, on its managers."""
    wanted = settings()
    if wanted.fleet_role != MANAGER:
        return
    fence = f"{wanted.lib}/fence"
    if wanted.fence_command:
        place("usr/local/lib/project-sandbox/fence", wanted, mode="755")
        place("etc/systemd/system/project-fence@.service", wanted, timeout_s=FENCE_S)
        loaded = f"systemctl show '{wanted.project}-fence@*.service'"
        stale = f"{loaded} --property NeedDaemonReload --value | grep -x yes"
        when(name="Read the unit of the fence command", condition=stale, commands=["systemctl daemon-reload"])
    else:
        left = f"{fence} {fence_unit(wanted)}"
        removed = [f"rm -f {left}", "systemctl daemon-reload"]
        when(name="Remove the unit of the fence command", condition=f"ls {left}", commands=removed)
    place(
        "etc/project-sandbox/fleet.toml",
        wanted,
        listen=API,
        socket_group=GROUP,
        engine=socket(wanted),
        lease_image=lease_image(wanted, wanted.base_suite),
        nodes_map=fleetgateway.nodes_map(wanted),
        peer_socket=lambda name: fleetgateway.peer_socket(wanted, name),
        fence=fence,
        fence_s=FENCE_S + 10,  # that its unit has ended is told later
    )
    link = f"{wanted.opt}/venv"
    place("etc/systemd/system/project-fleet.service", wanted, python=f"{link}/bin/python")
    unit(
        name="Run the fleet service",
        unit=f"{wanted.project}-fleet.service",
        files=[f"{wanted.etc}/fleet.toml", f"{link}/pyvenv.cfg"],
    )
