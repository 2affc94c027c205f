"""The fleet engine of a host, as values: its configuration, and the image of a lease.

It is a second Docker beside the one that has the sandboxes, so all that is a machine's own has another name here.
"""

from __future__ import annotations

from typing import Any

from deploys import ROOT
from deploys.images import digest
from deploys.settings import Settings

NODE_LABEL = "sandbox.node"  # by which `fleet.leasespec` knows the name that the inventory gives to a host
RECIPE = "files/images/lease/build"


def socket(wanted: Settings) -> str:
    return f"/run/{wanted.project}-swarmd.sock"


def engine_options(wanted: Settings, node: str) -> dict[str, Any]:
    """The configuration of the fleet engine on the host that the fleet calls `node`, as `swarmd.json` holds it."""
    own = f"{wanted.project}-swarmd"
    options: dict[str, Any] = {
        "bridge": "flt0",
        "containerd": "/run/containerd/containerd.sock",
        "containerd-namespace": own,
        "containerd-plugins-namespace": f"{own}-plugins",
        "data-root": f"/var/lib/{own}",
        # Not default-address-pools: with it Docker removes docker0, the other engine's, whenever this one starts again.
        "default-runtime": wanted.docker_runtime,
        "exec-root": f"/run/{own}",
        "group": "root",
        "hosts": [f"unix://{socket(wanted)}"],
        # Nothing of this engine has a network, and the packet rules are those of the other one and ours.
        "ip-forward": False,
        "ip-masq": False,
        "iptables": False,
        "labels": [f"{NODE_LABEL}={node}"],
        "log-driver": "none",
        "log-level": "warn",  # else each lease that begins or ends is some lines
        "pidfile": f"/run/{own}.pid",
        "userland-proxy": False,
    }
    if wanted.docker_runtime != "runc":
        options["runtimes"] = {wanted.docker_runtime: {"path": f"/usr/bin/{wanted.docker_runtime}"}}
    return options


def lease_image(wanted: Settings, suite: str) -> str:
    """The tag: the hash of the recipe. The program is Debian's, so it says of which release."""
    return f"{wanted.project}-lease:{suite}-{digest({}, (ROOT / RECIPE).read_text())}"
