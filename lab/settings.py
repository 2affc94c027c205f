"""Names, labels and numbers of the lab, in one place. Pure: reads nothing but the environment variable LAB_PREFIX."""

import hashlib
import os
import re
from pathlib import Path

from lab.errors import UsageError

PREFIX = os.environ.get("LAB_PREFIX", "sandbox-lab")
"""Starts the name of every container and of the image, so that `docker ps` tells whose they are."""

ROOT = Path(__file__).resolve().parent.parent
"""The working copy. Two of them on one machine have labs of their own."""

STATE_DIR = ROOT / ".lab"
ROOTFS_DIR = Path(__file__).resolve().parent / "rootfs"
CA_DIRS = (
    Path("/usr/local/share/ca-certificates"),  # Debian
    Path("/etc/pki/ca-trust/source/anchors"),  # Fedora
    Path("/etc/ca-certificates/trust-source/anchors"),  # Arch
)
"""Where the administrator of a workstation puts private certificate authorities."""

SHARED = "/srv/shared"
"""Where a lab has the directory that it shares with others, as servers have storage that several of them mount."""

LABEL_NAME = "sandbox.lab"
LABEL_ROOT = "sandbox.lab.root"
LABEL_DEBIAN = "sandbox.lab.debian"
LABEL_IMAGE = "sandbox.lab.image"
LABEL_NETWORK = "sandbox.lab.network"

DEFAULT_NAME = "lab"
DEFAULT_DEBIAN = "trixie"
DEFAULT_HTTPS_PORT = 8443
SUITES = {"13": "trixie", "12": "bookworm"}

BOOT_TIMEOUT_S = 90
"""A boot takes 1-6 s on two idle cores; with the services of a deploy, and other labs booting, several times that."""

PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "udev",
    "e2fsprogs",
    "kmod",
    "openssh-server",
    "ca-certificates",
    "curl",
    "sudo",
    "cron",
    "logrotate",
    "iproute2",
    "iputils-ping",
    "netbase",
    "nftables",
    "procps",
    "less",
)
"""About what Debian's installer leaves on a server. What the deploy needs beyond this, the deploy has to install."""


def debian_suite(word: str) -> str:
    """Return the code name for `trixie`, `13`, `bookworm` or `12`; raise UsageError for anything else."""
    suite = SUITES.get(word, word)
    if suite not in SUITES.values():
        raise UsageError(f"no lab for Debian {word!r}", f"choose one of: {', '.join([*SUITES.values(), *SUITES])}")
    return suite


def checked_name(name: str) -> str:
    """Return `name` if it can be a host name; raise UsageError otherwise."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", name):
        raise UsageError(f"{name!r} is not a lab name", "use 1-32 of a-z, 0-9 and -, not starting or ending with -")
    return name


def container_name(name: str) -> str:
    """Return the name of the container of lab `name`."""
    return f"{PREFIX}-{name}"


def root_id(root: Path = ROOT) -> str:
    """Return 12 hexadecimal digits that stand for the working copy in labels and short paths."""
    return hashlib.sha256(str(root).encode()).hexdigest()[:12]
