"""Makes a lab, or brings one back up: engine, image, container, boot. The only place that starts a container."""

import contextlib
import logging
from dataclasses import replace
from pathlib import Path

from lab import build, docker, engine, facts, host, network
from lab.command import fixed, run_arguments
from lab.errors import LabError, NoSuchLab, UsageError
from lab.host import Lab
from lab.settings import DEFAULT_DEBIAN, DEFAULT_NAME, STATE_DIR, checked_name, container_name, debian_suite, root_id
from lab.state import State, locked

log = logging.getLogger("lab")


def up(
    name: str = DEFAULT_NAME,
    debian: str | None = None,
    *,
    publish_https: int | None = None,
    address: str = "",
    share: Path | None = None,
) -> Lab:
    """Return a lab that is up: the one of that name, started when it was stopped, made when there was none.

    `debian` is trixie (13, the default for a new one) or bookworm (12). `publish_https` is a port on 127.0.0.1 of the
    workstation that leads to 443 of a new lab. `address` is an IPv4 address that a new lab has, and keeps; without it,
    it gets one from the engine at each start. `share` is a directory of the workstation that a new lab has at SHARED,
    as all others that were made with it. Raises UsageError, NoEngine, LabError.
    """
    checked_name(name)
    suite = debian_suite(debian or DEFAULT_DEBIAN)
    if publish_https is not None and not 1 <= publish_https <= 65535:
        raise UsageError(f"{publish_https} is not a port", "choose one of 1-65535 that nothing listens on")
    if address:
        network.subnet(address)
    if share is not None and (not share.is_dir() or "," in str(share)):
        raise UsageError(f"{share} cannot be shared", "name a directory that exists, without a comma in its path")
    engine.ensure()
    engine.install_missing({"ssh": "openssh-client"})
    with State(name).lock():
        found = next((lab for lab in host.labs() if lab.name == name), None)
        if found is None:
            _make(name, suite, publish_https, address, share and share.resolve())
        elif debian and found.debian != suite:
            raise LabError(f"lab {name} is Debian {found.debian}, not {suite}", f"run: python3 -m lab down {name}")
        elif address and address != found.fixed_address:
            here = found.fixed_address or "no address of its own"
            raise LabError(f"lab {name} has {here}, not {address}", f"run: python3 -m lab down {name}")
        elif not found.running:
            log.info("starting %s", name)
            docker.docker("start", found.container)
    # A lab that runs may still be booting, or have lost its keys: someone interrupted the one who made it.
    return host.get(name).wait()


def _make(name: str, suite: str, publish_https: int | None, address: str, share: Path | None) -> None:
    image = build.ensure_image(suite)
    if docker.run(["docker", "container", "inspect", container_name(name)], check=False).returncode == 0:
        raise LabError(
            f"container {container_name(name)} exists, but belongs to another working copy",
            "choose another NAME, or set LAB_PREFIX in the environment",
        )
    log.info("starting %s (Debian %s)", name, suite)
    here = facts.gather(docker.info())
    while True:
        try:
            with locked(STATE_DIR):  # or the end of another lab would take the network away again
                docker.docker(
                    *run_arguments(
                        here,
                        name=name,
                        suite=suite,
                        image=image,
                        root=root_id(),
                        publish_https=publish_https,
                        network=_network(name, address),
                        share=share,
                    )
                )
            return
        except LabError as error:
            unknown = facts.unknown_capability(error.problem)
            if unknown in here.missing_capabilities:
                left = tuple(other for other in here.missing_capabilities if other != unknown)
                here = replace(here, missing_capabilities=left)
                continue
            # The port is taken, say. What Docker made before it noticed would never start.
            with contextlib.suppress(NoSuchLab):
                host.down(name)
            raise


def _network(name: str, address: str) -> list[str]:
    return fixed(address, network.ensure(address), State(name).resolver(network.resolv_conf())) if address else []
