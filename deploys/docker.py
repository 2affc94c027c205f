"""The Docker engine: configured before it is installed, so that it starts once and rightly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyinfra.api import deploy
from pyinfra.operations import apt, files

from deploys.operations import packages, place, unit, when
from deploys.preflight import settings, summary
from deploys.settings import Settings

KEYRING = "/etc/apt/keyrings/docker.asc"
# What both sources need beside the engine: crun, newuidmap for userns-remap, and iptables.
COMMON = ["crun", "iptables", "uidmap"]
# Debian's packages that Docker's own conflict with.
DEBIAN_ENGINE = ["containerd", "docker-buildx", "docker-cli", "docker.io", "runc"]
DOCKER_ENGINE = ["docker-ce", "docker-ce-cli", "containerd.io", "docker-buildx-plugin"]
ENGINES = {
    ("debian", "bookworm"): ["docker.io"],
    ("debian", "trixie"): ["docker.io", "docker-cli", "docker-buildx"],
    ("docker", "bookworm"): DOCKER_ENGINE,
    ("docker", "trixie"): DOCKER_ENGINE,
}


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
    if wanted.docker_runtime != "runc":
        options["runtimes"] = {wanted.docker_runtime: {"path": f"/usr/bin/{wanted.docker_runtime}"}}
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
    packages("Docker", ENGINES[wanted.docker_source, suite] + COMMON)
    unit(name="Run the engine", unit="docker.service", files=["/etc/docker/daemon.json"])


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
