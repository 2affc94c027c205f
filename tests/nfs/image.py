"""What the virtual machine boots from: a small Debian with its own kernel and NFS, made once and kept in .lab."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from lab import docker, engine, image, mirror, registries
from lab.errors import LabError
from lab.settings import STATE_DIR
from lab.state import locked

FIRST = "/sbin/first"
"""What the kernel starts: it unpacks the project and hands over to it, so that the project is no part of the disk."""

FIRST_SCRIPT = """#!/bin/sh
for kind in proc sysfs; do mountpoint -q "/${kind%fs}" || mount -t "$kind" "$kind" "/${kind%fs}"; done
mountpoint -q /dev || mount -t devtmpfs dev /dev
mountpoint -q /run || mount -t tmpfs run /run
mkdir /run/project && tar -x -C /run/project -f /dev/vdc && exec sh /run/project/tests/nfs/inside/boot
echo "the project could not be unpacked"
echo o >/proc/sysrq-trigger
sleep 60
"""

PACKAGES = (
    "linux-image-cloud-amd64",
    "initramfs-tools",
    "zstd",
    "kmod",
    "mount",
    "e2fsprogs",
    "iproute2",
    "nfs-common",
    "nfs-kernel-server",
    "openssl",
    "procps",
    "python3",
)
SIZE_MB = 2048  # sparse


@dataclass(frozen=True)
class Image:
    """The files of one image."""

    directory: Path

    @property
    def kernel(self) -> Path:
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.directory / "initrd"

    @property
    def disk(self) -> Path:
        return self.directory / "disk.img"


def bootstrap(suite: str, sources: list[str], tar: Path) -> list[str]:
    """The command that writes the root file system as a tar."""
    return [
        "mmdebstrap",
        "--variant=minbase",
        "--format=tar",
        f"--include={','.join(PACKAGES)}",
        "--dpkgopt=force-unsafe-io",
        *([f"--keyring={image.KEYRING}"] if image.KEYRING.exists() else []),
        suite,
        str(tar),
        *sources,
    ]


def ensure(suite: str) -> Image:
    """The image of that Debian release, made if there is none of this recipe. Raises LabError."""
    if platform.machine() != "x86_64":
        raise LabError(f"the virtual machine is one of x86_64, and this is {platform.machine()}", "use another machine")
    sources = mirror.detect().sources(suite)
    recipe = json.dumps([bootstrap(suite, sources, Path("tar")), FIRST_SCRIPT, SIZE_MB])
    made = Image(STATE_DIR / f"nfs-{suite}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}")
    with locked(STATE_DIR):
        if not made.directory.exists():
            _make(suite, sources, made)
    return made


def _make(suite: str, sources: list[str], target: Image) -> None:
    engine.install_missing({"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs"})
    with tempfile.TemporaryDirectory(prefix="nfs-build-", dir="/var/tmp") as temporary:
        work = Path(temporary)
        work.chmod(0o755)
        tree, tar = work / "tree", work / "tar"
        command = bootstrap(suite, sources, tar)
        if os.geteuid() == 0:
            command = ["unshare", "--mount", *command]  # it makes all mounts private, and must not do so to ours
        docker.run(command, env={**os.environ, **registries.gather().build_environment(), "TMPDIR": "/var/tmp"})
        tree.mkdir()
        docker.run(["tar", "-x", "-f", str(tar), "-C", str(tree), "--exclude=./dev/*"])
        first = tree / FIRST.lstrip("/")
        first.write_text(FIRST_SCRIPT)
        first.chmod(0o755)
        half = Image(work / "image")
        half.directory.mkdir()
        for name, file in (("vmlinuz", half.kernel), ("initrd.img", half.initrd)):
            (found,) = (tree / "boot").glob(f"{name}-*")
            shutil.copyfile(found, file)
        docker.run(["mke2fs", "-q", "-t", "ext4", "-d", str(tree), str(half.disk), f"{SIZE_MB}M"])
        for old in STATE_DIR.glob(f"nfs-{suite}-*"):
            shutil.rmtree(old)
        # In one step: what is there is whole. `cp` keeps the holes of a sparse file.
        aside = target.directory.with_suffix(".new")
        shutil.rmtree(aside, ignore_errors=True)
        docker.run(["cp", "-r", "--sparse=always", str(half.directory), str(aside)])
        aside.rename(target.directory)
