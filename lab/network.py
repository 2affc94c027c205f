"""Networks of labs that keep their addresses through restarts. Made on demand, gone with the last lab.

The engine's own bridge gives the next free address at each start: labs that know each other by address need more.
"""

import logging
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from lab import docker
from lab.errors import LabError, UsageError
from lab.settings import LABEL_NETWORK, PREFIX

log = logging.getLogger("lab")

BRIDGE = "bridge"
"""The engine's own network, which is always there."""
RESOLVERS = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
PUBLIC_RESOLVERS = "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"
"""What the engine takes, too, where the workstation names nobody but itself."""


def subnet(address: str) -> IPv4Network:
    """Return the /24 of `address`; raise UsageError for what cannot be a lab's address in it."""
    try:
        given = IPv4Address(address)
    except ValueError:
        raise UsageError(f"{address!r} is not an IPv4 address", "use a private one, such as 10.231.0.11") from None
    network = IPv4Network(f"{given}/24", strict=False)
    # The first host address is the workstation's.
    if not given.is_private or given.is_loopback or given in (network[0], network[1], network[-1]):
        raise UsageError(f"a lab cannot have the address {address}", "use one from .2 to .254 of a private /24")
    return network


def name(address: str) -> str:
    """Return the name of the network that a lab with `address` is in: all working copies share it."""
    return f"{PREFIX}-{subnet(address).network_address}"


def ensure(address: str) -> str:
    """Return the name of the network for `address`, after making it where it is missing. Raises LabError."""
    network = name(address)
    if _exists(network):
        return network
    log.info("making the network %s", network)
    arguments = ["--driver=bridge", f"--subnet={subnet(address)}", f"--label={LABEL_NETWORK}"]
    made = docker.run(["docker", "network", "create", *arguments, network], check=False)
    # Another working copy may have been faster.
    if made.returncode != 0 and not _exists(network):
        raise LabError(
            f"network {network} cannot be made:\n{docker.tail(made.stderr)}", "choose addresses of another /24"
        )
    return network


def drop(network: str) -> None:
    """Remove a network of ours that no lab, running or stopped, is in any more; leave every other one."""
    ours = docker.docker("network", "ls", "--quiet", f"--filter=label={LABEL_NETWORK}", f"--filter=name=^{network}$")
    if ours and not docker.docker("ps", "--all", "--quiet", f"--filter=network={network}"):
        docker.docker("network", "rm", network)


def resolv_conf(files: tuple[Path, ...] = RESOLVERS) -> str:
    """Return the resolv.conf of a lab: the workstation's.

    In a network that was made the engine puts itself there as 127.0.0.11, where containers inside of the lab would not
    find it.
    """
    for file in files:
        text = file.read_text() if file.exists() else ""
        servers = [words[1] for line in text.splitlines() if (words := line.split())[:1] == ["nameserver"]]
        if servers and not any(server.startswith("127.") or server == "::1" for server in servers):
            return text
    return PUBLIC_RESOLVERS


def _exists(network: str) -> bool:
    return docker.run(["docker", "network", "inspect", network], check=False).returncode == 0
