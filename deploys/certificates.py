"""Certificates in both directions: whom the host trusts, and what Traefik serves for `*.<domain>`."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path

from pyinfra.api import deploy
from pyinfra.operations import files

from deploys.operations import place, secret, shown_when, when
from deploys.preflight import settings
from deploys.settings import SettingError, Settings

SERVED = "/etc/traefik/certs"
PEM = re.compile(r"-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE-----\n")


def authorities(wanted: Settings) -> dict[str, str]:
    """The extra certificate authorities as `file name on the host -> PEM text`. Raises SettingError."""
    found: dict[str, str] = {}
    for entry in wanted.extra_ca_certificates:
        path = Path(entry).expanduser()
        for file in sorted(path.rglob("*.crt")) if path.is_dir() else [path]:
            text = file.read_text(errors="replace")
            if not PEM.search(text):
                raise SettingError("extra_ca_certificates", str(file), "holds no PEM certificate (BEGIN CERTIFICATE)")
            found[f"{re.sub(r'[^A-Za-z0-9.-]', '-', file.stem)}.crt"] = text
    return found


@deploy("Certificate authorities")
def trust() -> None:
    """Trust the extra certificate authorities, and only those, beside Debian's own."""
    wanted = settings()
    folder = f"/usr/local/share/ca-certificates/{wanted.name}"
    found = authorities(wanted)
    files.directory(name=f"Make {folder}", path=folder, user="root", group="root", mode="755")
    for name, text in found.items():
        place_text(f"{folder}/{name}", text)
    keep = " ".join(f"! -name '{name}'" for name in found)
    when(
        name="Drop authorities that are no longer wanted",
        condition=f"find {folder} -type f {keep}",
        commands=[f"find {folder} -type f {keep} -delete", "update-ca-certificates --fresh >/dev/null"],
    )
    when(
        name="Update the trust store",
        condition=f"find {folder} -newer /etc/ssl/certs/ca-certificates.crt",
        commands=["update-ca-certificates >/dev/null"],
    )


@deploy("Certificate")
def serve() -> None:
    """Put the certificate for `*.<domain>` where Traefik reads it. For "acme", Traefik gets it itself."""
    wanted = settings()
    files.directory(name=f"Make {SERVED}", path=SERVED, user="root", group="root", mode="700")
    if wanted.tls_mode == "files":
        for source, dest in ((wanted.tls_certificate, "wildcard.pem"), (wanted.tls_key, "wildcard.key")):
            secret(name=f"Copy {dest}", dest=f"{SERVED}/{dest}", content=Path(source).expanduser().read_text())
    if wanted.tls_mode == "internal":
        place("usr/local/lib/project-sandbox/internal-certificate", wanted, mode="755")
        command = f"{wanted.lib}/internal-certificate"
        if not wanted.shares_authority:
            when(name="Make the internal certificate", condition=f"{command} --check", commands=[command])


@deploy("ACME")
def issued() -> None:
    """Wait until Traefik serves a certificate by ACME. It never repeats a first order that failed: the program does so
    once, and else ends the deploy with what the order's error was.
    """
    wanted = settings()
    if wanted.tls_mode == "acme":
        command = f"{wanted.opt}/venv/bin/python -I -m sandboxd.issue {wanted.etc}/config.toml"
        shown_when(name="Wait for the certificate", condition=f"{command} --check", command=command)


def place_text(dest: str, text: str) -> None:
    """Write a text as it is to a file on the host, readable by all."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    files.put(name=f"Write {dest} ({digest})", src=io.StringIO(text), dest=dest, user="root", group="root", mode="644")
