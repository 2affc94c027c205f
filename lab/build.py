"""Makes the image of a lab: bootstraps Debian with mmdebstrap, or, where that cannot be had, with `docker build`.

Writes to the engine, and to a temporary directory that it removes.
"""

import logging
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from lab import docker, engine, image, mirror, registries
from lab.errors import LabError
from lab.settings import STATE_DIR
from lab.state import locked

log = logging.getLogger("lab")


def choose_builder(*, apt: bool, root: bool, mmdebstrap: bool, newuidmap: bool) -> str:
    """Return the builder for this workstation: mmdebstrap wherever it is or can be installed, else `docker build`.

    Without root it needs subordinate user ids (newuidmap, of the package uidmap).
    """
    if (root and (apt or mmdebstrap)) or (mmdebstrap and newuidmap):
        return image.MMDEBSTRAP
    return image.DOCKER_BUILD


def current_spec(suite: str, told: registries.Registries) -> image.ImageSpec:
    """Return what an image of `suite` would be made of, here and now."""
    builder = choose_builder(
        apt=engine.on_debian(),
        root=os.geteuid() == 0,
        mmdebstrap=shutil.which("mmdebstrap") is not None,
        newuidmap=shutil.which("newuidmap") is not None,
    )
    return image.spec(suite, builder, mirror.detect(), told)


def ensure_image(suite: str, *, force: bool = False) -> str:
    """Return the tag of the image for `suite`, after building it when it is missing, or with `force`."""
    told = registries.gather()
    spec = current_spec(suite, told)
    if docker.image_exists(spec.tag) and not force:
        return spec.tag
    with locked(STATE_DIR):
        if docker.image_exists(spec.tag) and not force:
            return spec.tag
        log.info("building %s with %s (15-40 s, once)", spec.tag, spec.builder)
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="lab-build-", dir="/var/tmp") as work:
            if spec.builder == image.MMDEBSTRAP:
                _bootstrap(spec, Path(work), told.build_environment())
            else:
                _docker_build(spec, Path(work), told.environment)
        # Older ones of the same suite. A day: another working copy may be about to start a lab from its own.
        unused = ["--filter", f"label={image.label(suite)}", "--filter", "until=24h"]
        docker.docker("image", "prune", "--all", "--force", *unused)
        log.info("built %s in %.0f s", spec.tag, time.monotonic() - started)
    return spec.tag


def _bootstrap(spec: image.ImageSpec, work: Path, proxies: Mapping[str, str]) -> None:
    if os.geteuid() == 0 and engine.on_debian():
        engine.install_missing({"mmdebstrap": "mmdebstrap"})
        if not image.KEYRING.exists():  # Ubuntu
            engine.apt_install(["debian-archive-keyring"])
    files = work / "files.tar"
    files.write_bytes(spec.files)
    files.chmod(0o644)
    work.chmod(0o755)  # in user-namespace mode mmdebstrap's hooks are another user
    command = spec.mmdebstrap(str(files), image.KEYRING if image.KEYRING.exists() else None)
    if os.geteuid() == 0:
        # mmdebstrap makes all mounts private: it must not do so to the workstation's own.
        command = ["unshare", "--mount", *command]
    # /tmp is noexec on hardened machines, and in containers: dpkg's scripts fail there.
    env = {**os.environ, **proxies, "TMPDIR": "/var/tmp"}
    load = ["docker", "import", "--change", f"LABEL {image.label(spec.suite)}", "-"]
    with (work / "log").open("w+") as errors:
        # A process group of its own: when mmdebstrap is interrupted, it ends its whole group.
        bootstrap = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=env, process_group=0
        )
        try:
            imported = subprocess.run(load, stdin=bootstrap.stdout, capture_output=True, text=True, check=False)
            if bootstrap.stdout is not None:
                bootstrap.stdout.close()
            code = bootstrap.wait()
        except BaseException:
            # Ctrl-C, most likely. mmdebstrap removes its root file system when told to stop, but not while it still
            # has someone to write to.
            if bootstrap.stdout is not None:
                bootstrap.stdout.close()
            os.killpg(bootstrap.pid, signal.SIGINT)
            bootstrap.wait()
            raise
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


def _docker_build(spec: image.ImageSpec, work: Path, environment: Mapping[str, str]) -> None:
    (work / "files.tar").write_bytes(spec.files)
    (work / "Dockerfile").write_text(spec.dockerfile())
    proxies = {name: value for name, value in environment.items() if name.lower().endswith("_proxy")}
    docker.run(image.docker_build(spec, str(work), proxies), env={**os.environ, **proxies})
