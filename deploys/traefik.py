"""Traefik, the edge: ports 80 and 443, the wildcard certificate, one router for all sandboxes and one for the API."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Mapping

from pyinfra.api import deploy
from pyinfra.operations import files

from deploys import ROOT, acme
from deploys.certificates import authorities
from deploys.images import Tags
from deploys.operations import container, place, secret, when
from deploys.preflight import settings
from deploys.settings import Settings

CONTAINER = "traefik"
GATEWAY = "127.0.0.1:8081"
API = "127.0.0.1:8090"


def tls_of_router(wanted: Settings) -> str:
    """The `tls` value of our routers, in YAML's flow style."""
    if wanted.tls_mode == "acme":
        return f'{{certResolver: acme, domains: [{{main: "*.{wanted.domain}"}}]}}'
    return "{}"


def run_options(wanted: Settings, secrets: list[str]) -> list[str]:
    """`docker run` options. Root of the host's user namespace, since ports below 1024 are bound on the host, but with
    no other capability; secrets come as files, so that `docker inspect` shows none.
    """
    options = [
        "--network",
        "host",
        "--userns",
        "host",
        "--restart",
        "unless-stopped",
        "--read-only",
        "--runtime",
        "runc",
    ]
    # What it logs is one line for each request: said here, so that a change of the setting reaches it.
    options += ["--log-driver", "local", "--log-opt", f"max-size={wanted.docker_log_max_size}"]
    options += ["--log-opt", f"max-file={wanted.docker_log_max_files}"]
    options += ["--cap-drop", "ALL", "--cap-add", "NET_BIND_SERVICE", "--security-opt", "no-new-privileges"]
    # Go's collector runs less often: a quarter of the time per request, for some tens of megabytes.
    options += [
        "--env",
        "GOGC=400",
        "--volume",
        "/etc/traefik:/etc/traefik:ro",
        "--volume",
        f"{wanted.state}/acme:/acme",
    ]
    if wanted.tls_mode == "acme":
        # Its orders trust whom the host trusts, and so the authorities of the settings.
        options += ["--volume", "/etc/ssl/certs:/etc/ssl/certs:ro"]
    for name, value in acme.environment(secrets).items():
        options += ["--env", f"{name}={value}"]
    return options


def place_credentials(wanted: Settings) -> dict[str, str]:
    """Write what the DNS provider needs, each into a file of its own, drop those of before, and return them."""
    secrets = acme.credentials(wanted, os.environ) if wanted.tls_mode == "acme" else {}
    if secrets:
        files.directory(name=f"Make {acme.SECRETS}", path=acme.SECRETS, user="root", group="root", mode="700")
    for name, value in secrets.items():
        secret(name=f"Write secret {name}", dest=f"{acme.SECRETS}/{name}", content=value)
    others = " ".join(["find", acme.SECRETS, "-type f", *(f"! -name {shlex.quote(name)}" for name in secrets)])
    when(name="Drop secrets that are no longer wanted", condition=others, commands=[f"{others} -delete"])
    return secrets


@deploy("Traefik")
def edge() -> None:
    """Traefik in a container on the host's network: a static file, a watched directory, and no Docker socket."""
    wanted = settings()
    directory = "/etc/traefik/dynamic"
    files.directory(name=f"Make {directory}", path=directory, user="root", group="root", mode="755")
    files.directory(name="Make the ACME store", path=f"{wanted.state}/acme", user="root", group="root", mode="700")
    place("etc/traefik/traefik.yml", wanted, acme_directory=acme.directory(wanted), acme_store=acme.store(wanted))
    place("etc/traefik/dynamic/sandboxes.yml", wanted, tls=tls_of_router(wanted), gateway=GATEWAY)
    place("etc/traefik/dynamic/tls.yml", wanted)
    when(
        name="Show Traefik the new certificate",
        condition=f"find /etc/traefik/certs -name wildcard.pem -newer {directory}/tls.yml",
        commands=[f"touch {directory}/tls.yml"],
    )
    secrets = place_credentials(wanted)
    container(
        name="Run Traefik",
        container=CONTAINER,
        image=Tags(wanted).traefik,
        options=run_options(wanted, list(secrets)),
        arguments=["--configFile=/etc/traefik/traefik.yml"],
        version=static_version(wanted, secrets),
    )


def static_version(wanted: Settings, secrets: Mapping[str, str]) -> str:
    """A digest of what Traefik reads only at its start, the credentials included."""
    template = (ROOT / "templates/etc/traefik/traefik.yml.j2").read_text()
    parts = [template, wanted.tls_mode, wanted.acme_email, acme.directory(wanted), wanted.acme_dns_provider]
    if wanted.tls_mode == "acme":
        parts += [acme.store(wanted), *wanted.acme_resolvers, *authorities(wanted).values()]
    parts += [f"{name}={value}" for name, value in sorted(secrets.items())]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]
