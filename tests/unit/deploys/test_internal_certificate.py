"""The internal authority, made by the script as a deploy renders it: strict clients accept what it signs."""

from __future__ import annotations

import re
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.plan.process import rendered
from tests.plan.scenarios import DOMAIN

# One process makes the plans of all these tests.
pytestmark = pytest.mark.xdist_group("plan")

TEMPLATE = "usr/local/lib/project-sandbox/internal-certificate"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The script, with the directories of the host below one of ours."""
    text = rendered(TEMPLATE, "default")
    assert text is not None
    file = tmp_path / "internal-certificate"
    file.write_text(re.sub(r"^(ca|certs)=/etc", rf"\1={tmp_path}", text, flags=re.MULTILINE))
    return file


def run(script: Path, *arguments: str) -> str:
    done = subprocess.run(["sh", str(script), *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def accepted(folder: Path, name: str) -> None:
    """A handshake as Python 3.13 does it by default, in memory. Raises ssl.SSLError."""
    certs = folder / "traefik/certs"
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(certs / "wildcard.pem", certs / "wildcard.key")
    theirs = ssl.create_default_context(cafile=str(folder / "flourisha-sandbox/ca/ca.pem"))
    theirs.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = ours.wrap_bio(up, down, server_side=True)
    client = theirs.wrap_bio(down, up, server_hostname=name)
    waiting = [client, server, client, server]
    for one in waiting:
        try:
            one.do_handshake()
        except ssl.SSLWantReadError:
            continue


def test_strict_clients_accept_it(script: Path, tmp_path: Path) -> None:
    assert "no authority" in run(script, "--check")
    run(script)
    assert run(script, "--check") == ""
    accepted(tmp_path, f"qa-0123456789ab.{DOMAIN}")
    with pytest.raises(ssl.SSLError, match="Hostname mismatch"):
        accepted(tmp_path, "qa-0123456789ab.example.org")


def test_what_the_authority_is_for(script: Path, tmp_path: Path) -> None:
    """Python 3.13 refuses an authority that does not say it."""
    run(script)
    show = ["openssl", "x509", "-noout", "-ext", "keyUsage,basicConstraints,subjectKeyIdentifier", "-in"]
    read = [*show, str(tmp_path / "flourisha-sandbox/ca/ca.pem")]
    said = subprocess.run(read, capture_output=True, text=True, check=True).stdout
    assert re.search(r"Key Usage: critical\s+Certificate Sign, CRL Sign", said), said
    assert re.search(r"Basic Constraints: critical\s+CA:TRUE, pathlen:0", said) and "Subject Key Identifier" in said, (
        said
    )


def test_another_domain_has_another_certificate_of_the_same_authority(script: Path, tmp_path: Path) -> None:
    """And a name may be longer than the 64 characters of a common name."""
    run(script)
    authority = (tmp_path / "flourisha-sandbox/ca/ca.pem").read_text()
    longer = f"{'sandboxes.of.a.team.' * 3}of.ours.{DOMAIN}"
    script.write_text(script.read_text().replace(f'domain="{DOMAIN}"', f'domain="{longer}"'))
    assert f"not for *.{longer}" in run(script, "--check")
    run(script)
    assert run(script, "--check") == "" and (tmp_path / "flourisha-sandbox/ca/ca.pem").read_text() == authority
    accepted(tmp_path, f"qa-0123456789ab.{longer}")
