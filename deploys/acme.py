"""Certificates by ACME, as values: the server, the store of its certificates, the credentials of the DNS provider.

Reads the environment that it is given, and files of the workstation.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from deploys.settings import SettingError, Settings

SERVERS = {
    "production": "https://acme-v02.api.letsencrypt.org/directory",
    "staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
}
SECRETS = "/etc/traefik/secrets"
# An entry of `acme_credentials` that looks like this is an environment variable, every other one a file.
VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")
# The client of AWS reads these from the environment alone, which `docker inspect` would show.
ENVIRONMENT_ONLY = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION")


def directory(wanted: Settings) -> str:
    """The address of the ACME server's directory."""
    return SERVERS.get(wanted.acme_server, wanted.acme_server)


def store(wanted: Settings) -> str:
    """The name of the file with account and certificate: another server or domain must not be served the old one."""
    server = wanted.acme_server
    name = server if server in SERVERS else hashlib.sha256(server.encode()).hexdigest()[:8]
    return f"{name}-{wanted.domain}.json"


def credentials(wanted: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """NAME -> value of what the DNS provider needs, from files and from the environment. Raises SettingError."""
    found: dict[str, str] = {}
    for entry in wanted.acme_credentials:
        if not VARIABLE.fullmatch(entry):
            found |= _lines(entry)
        elif environ.get(entry):
            found[entry] = environ[entry]
        else:
            remedy = "the environment here has no such variable: export it, or name a file of NAME=value lines"
            raise SettingError("acme_credentials", entry, remedy)
    for name, value in found.items():
        if name in ENVIRONMENT_ONLY:
            remedy = "can be given to Traefik by no file: use AWS_SHARED_CREDENTIALS_FILE=<a file here> instead"
            raise SettingError("acme_credentials", name, remedy)
        if name.endswith("_FILE"):
            try:
                found[name] = Path(value).expanduser().read_text()
            except OSError as error:
                remedy = f"the file that it names cannot be read here: {error.strerror}"
                raise SettingError("acme_credentials", name, remedy) from None
    return found


def _lines(path: str) -> dict[str, str]:
    found = {}
    for number, line in enumerate(Path(path).expanduser().read_text().splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip().isidentifier():
            raise SettingError("acme_credentials", path, f"line {number} is not NAME=value")
        found[name.strip()] = value.strip()
    return found


def environment(names: list[str]) -> dict[str, str]:
    """What Traefik's environment says in place of secrets: the files that its DNS providers read them from."""
    return {name if name.endswith("_FILE") else f"{name}_FILE": f"{SECRETS}/{name}" for name in names}
