"""The Docker engine: configured before it is installed, so that it starts once and rightly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyinfra.api import deploy
from pyinfra.operations import apt, files

from deploys.operations import located, packages, place, unit, when
from deploys.preflight import settings, summary
from deploys.settings import RUNSC, Settings

KEYRING = "/etc/apt/keyrings/docker.asc"
SOCKET = "/run/docker.sock"
SOCKET_DROP_IN = "etc/systemd/system/docker.socket.d/60-project-sandbox.conf"
# What both sources need beside the engine: crun, newuidmap for userns-remap, and iptables.
COMMON = ["crun", "iptables", "uidmap"]
# Debian's packages that Docker's own conflict with.
DEBIAN_ENGINE = ["containerd", "docker-buildx", "docker-cli", "docker.io", "runc"]
DOCKER_ENGINE = ["docker-ce", "docker-ce-cli", "containerd.io", "docker-buildx-plugin"]
# The network of the container's own namespace, and not gVisor's: name servers, rules of restricted sandboxes and the
# way to servers on 127.0.0.1 are in that namespace. Files are written where the engine looks for them: for snapshots.
RUNSC_ARGUMENTS = ["--network=host", "--overlay2=none"]
ENGINES = {
    ("debian", "bookworm"): ["docker.io"],
    ("debian", "trixie"): ["docker.io", "docker-cli", "docker-buildx"],
    ("docker", "bookworm"): DOCKER_ENGINE,
    ("docker", "trixie"): DOCKER_ENGINE,
}


def gvisor(wanted: Settings) -> bool:
    """Whether some template asks for it."""
    return any(template.runtime == RUNSC for template in wanted.templates.values())


def daemon_options(wanted: Settings) -> dict[str, Any]:
    """The engine's configuration, as `/etc/docker/daemon.json` holds it."""
    options: dict[str, Any] = {
        "bip": wanted.docker_bridge,
        "builder": {"gc": {"enabled": True, "defaultKeepStorage": wanted.docker_build_cache}},
        "default-address-pools": [{"base": wanted.docker_network_pool, "size": wanted.docker_network_prefix}],
        "default-cgroupns-mode": "private",
        "default-runtime": wanted.docker_runtime,
        # The containerd image store knows neither userns-remap nor a size limit of the container layer.
        "features": {"buildkit": True, "containerd-snapshotter": False},
        "icc": False,
        "live-restore": True,
        "log-driver": "local",
        "log-opts": {"max-size": wanted.docker_log_max_size, "max-file": str(wanted.docker_log_max_files)},
        "userland-proxy": False,
    }
    runtimes: dict[str, Any] = {}
    if wanted.docker_runtime != "runc":
        runtimes[wanted.docker_runtime] = {"path": f"/usr/bin/{wanted.docker_runtime}"}
    if gvisor(wanted):
        runtimes[RUNSC] = {"path": f"/usr/bin/{RUNSC}", "runtimeArgs": RUNSC_ARGUMENTS}
    if runtimes:
        options["runtimes"] = runtimes
    if wanted.docker_userns_remap:
        options["userns-remap"] = "default"
    return options


@deploy("Docker")
def engine() -> None:
    """The engine from Debian, or from Docker's own repository, with the configuration above."""
    wanted = settings()
    suite = summary().suite
    place("etc/docker/daemon.json", wanted, daemon=daemon_options(wanted))
    if wanted.docker_source == "docker":
        _repository(wanted, suite)
    if not wanted.docker_group:
        place(SOCKET_DROP_IN, wanted)
    packages("Docker", ENGINES[wanted.docker_source, suite] + COMMON + ([RUNSC] if gvisor(wanted) else []))
    _socket(wanted)
    unit(name="Run the engine", unit="docker.service", files=["/etc/docker/daemon.json"])


def _socket(wanted: Settings) -> None:
    """Who may use the engine. systemd gives the socket its mode when it makes it; this one is there already."""
    drop_in = located(SOCKET_DROP_IN, wanted)
    again = "systemctl daemon-reload"
    if wanted.docker_group:
        commands = [f"rm {drop_in}", again, f"chgrp docker {SOCKET}", f"chmod 660 {SOCKET}"]
        when(name="Give the socket to the group docker", condition=f"ls {drop_in}", commands=commands)
        return
    when(
        name="Keep the socket to root",
        condition=f'[ "$(stat -c "%U:%G %a" {SOCKET})" = "root:root 600" ] || echo open; '
        "systemctl show docker.socket --property NeedDaemonReload --value | grep yes",
        commands=[again, f"chown root:root {SOCKET}", f"chmod 600 {SOCKET}"],
    )


def _repository(wanted: Settings, suite: str) -> None:
    if wanted.docker_apt_key:
        key = str(Path(wanted.docker_apt_key).expanduser())
        files.put(name="Trust Docker's key", src=key, dest=KEYRING, user="root", group="root", mode="644")
    else:
        files.download(name="Fetch Docker's key", src=f"{wanted.docker_apt_uri}/gpg", dest=KEYRING, mode="644")
    source = place("etc/apt/sources.list.d/docker.sources", wanted, suite=suite, keyring=KEYRING)
    apt.update(name="Refresh package lists for Docker's repository", _if=source.did_change)
    when(
        name="Make room for Docker's packages",
        condition="dpkg-query -W -f '${db:Status-Status} ${Package}\\n' "
        + " ".join(DEBIAN_ENGINE)
        + " | grep '^installed'",
        commands=[f"DEBIAN_FRONTEND=noninteractive apt-get remove -y {' '.join(DEBIAN_ENGINE)}"],
    )
