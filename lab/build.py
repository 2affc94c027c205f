"""Makes the image of a lab: bootstraps Debian with mmdebstrap, or, where that cannot be had, with `docker build`.

Writes to the engine, and to a temporary directory that it removes.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from lab import docker, engine, image, mirror
from lab.errors import LabError
from lab.settings import STATE_DIR

log = logging.getLogger("lab")


def choose_builder(*, apt: bool, root: bool, mmdebstrap: bool, newuidmap: bool) -> str:
    """Return the builder for this workstation: mmdebstrap wherever it is or can be installed, else `docker build`.

    Without root it needs subordinate user ids (newuidmap, of the package uidmap).
    """
    if (root and (apt or mmdebstrap)) or (mmdebstrap and newuidmap):
        return image.MMDEBSTRAP
    return image.DOCKER_BUILD


def current_spec(suite: str) -> image.ImageSpec:
    """Return what an image of `suite` would be made of, here and now."""
    builder = choose_builder(
        apt=engine.on_debian(),
        root=os.geteuid() == 0,
        mmdebstrap=shutil.which("mmdebstrap") is not None,
        newuidmap=shutil.which("newuidmap") is not None,
    )
    return image.spec(suite, builder, mirror.detect())


def ensure_image(suite: str, *, force: bool = False) -> str:
    """Return the tag of the image for `suite`, after building it when it is missing, or with `force`."""
    spec = current_spec(suite)
    if docker.image_exists(spec.tag) and not force:
        return spec.tag
    with _only_one():
        if docker.image_exists(spec.tag) and not force:
            return spec.tag
        log.info("building %s with %s (15-40 s, once)", spec.tag, spec.builder)
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="lab-build-", dir="/var/tmp") as work:
            if spec.builder == image.MMDEBSTRAP:
                _bootstrap(spec, Path(work))
            else:
                _docker_build(spec, Path(work))
        log.info("built %s in %.0f s", spec.tag, time.monotonic() - started)
    return spec.tag


@contextlib.contextmanager
def _only_one() -> Iterator[None]:
    """Let two builds of the same working copy wait for each other."""
    STATE_DIR.mkdir(mode=0o700, exist_ok=True)
    with (STATE_DIR / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _bootstrap(spec: image.ImageSpec, work: Path) -> None:
    if os.geteuid() == 0 and engine.on_debian():
        engine.install_missing({"mmdebstrap": "mmdebstrap"})
        if not image.KEYRING.exists():  # Ubuntu
            engine.apt_install(["debian-archive-keyring"])
    files = work / "files.tar"
    files.write_bytes(spec.files)
    files.chmod(0o644)
    work.chmod(0o755)  # in user-namespace mode mmdebstrap's hooks are another user
    command = spec.mmdebstrap(str(files), image.KEYRING if image.KEYRING.exists() else None)
    # /tmp is noexec on hardened machines, and in containers: dpkg's scripts fail there.
    env = {**os.environ, "TMPDIR": "/var/tmp"}
    with (work / "log").open("w+") as errors:
        bootstrap = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=env)
        imported = subprocess.run(
            ["docker", "import", "-"], stdin=bootstrap.stdout, capture_output=True, text=True, check=False
        )
        if bootstrap.stdout is not None:
            bootstrap.stdout.close()
        code = bootstrap.wait()
        errors.seek(0)
        said = docker.tail(errors.read())
    image_id = imported.stdout.strip()
    if code != 0:
        # `docker import` is content with whatever arrived before its input ended.
        if image_id:
            docker.docker("image", "rm", image_id, check=False)
        raise LabError(f"mmdebstrap {spec.suite} failed with exit code {code}:\n{said}")
    if imported.returncode != 0:
        raise LabError(f"docker import failed:\n{docker.tail(imported.stderr)}")
    docker.docker("tag", image_id, spec.tag)


def _docker_build(spec: image.ImageSpec, work: Path) -> None:
    (work / "files.tar").write_bytes(spec.files)
    (work / "Dockerfile").write_text(spec.dockerfile())
    docker.run(image.docker_build(spec.tag, str(work)))
