"""The verb `ca`: the certificate of the host's own authority, for clients to trust."""

from argparse import Namespace
from base64 import b64decode
from hashlib import sha256

from sandboxd.cli import place, printing
from sandboxd.cli.exits import OK, CliError

NONE = 'this host has no authority of its own: its TLS mode is not "internal"; see docs/certificates.md'


def run(options: Namespace, config: str) -> int:
    """Raises CliError when the host has none."""
    file = place.read_browser(config).authority
    if not file:
        raise CliError(NONE)
    with open(file, encoding="ascii") as source:
        pem = source.read()
    printing.show(options, {"pem": pem, "sha256": fingerprint(pem)}, lambda: pem.rstrip("\n"))
    return OK


def fingerprint(pem: str) -> str:
    """Of the first certificate, as `openssl x509 -fingerprint -sha256` and browsers show it."""
    content = pem.partition("-----BEGIN CERTIFICATE-----")[2].partition("-----END CERTIFICATE-----")[0]
    return sha256(b64decode(content)).digest().hex(":").upper()
