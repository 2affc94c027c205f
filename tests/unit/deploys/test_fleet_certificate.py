"""The certificate that the Swarm makes, as the gateway gets it: by the script as a deploy renders it."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.plan.process import rendered

# One process makes the plans of all these tests.
pytestmark = pytest.mark.xdist_group("plan")


class Host:
    """The directories of a host below one of ours, and a systemctl that only writes down what it was asked, and reloads
    nothing while there is a file `broken`. A file `amid` is run once meanwhile."""

    def __init__(self, root: Path) -> None:
        text = rendered("usr/local/lib/project-sandbox/fleet-certificate", "fleet-worker")
        assert text is not None
        self.made, self.used, self.asked = root / "made", root / "used", root / "asked"
        self.script = root / "fleet-certificate"
        text = re.sub(r"^(made|used)=/.*", rf"\1={root}/\1", text, flags=re.MULTILINE)
        self.script.write_text(text.replace("sleep 0.5", "sleep 0.01"))
        for folder in (self.made, self.used, root / "bin"):
            folder.mkdir()
        systemctl = root / "bin/systemctl"
        self.broken, self.amid = root / "broken", root / "amid"
        amid = f"[ ! -e {self.amid} ] || {{ mv {self.amid} {self.amid}.done && sh {self.amid}.done; }}"
        systemctl.write_text(
            f'#!/bin/sh\necho "$*" >>{self.asked}\n{amid}\nsleep 0.1\n[ "$1" != reload ] || [ ! -e {self.broken} ]\n'
        )
        systemctl.chmod(0o755)
        self.environment = {**os.environ, "PATH": f"{root}/bin:{os.environ['PATH']}"}

    def run(self, *arguments: str, code: int = 0) -> str:
        words = ["bash", str(self.script), *arguments]
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=self.environment)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def reloads(self) -> int:
        return self.asked.read_text().split("\n").count("reload haproxy.service") if self.asked.exists() else 0

    def renew(self, key: bool = True) -> None:
        """What the Swarm does: a certificate of its authority, and a key with two lines of its own in its head."""
        made = self.made
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(made / "plain.key"))
        request = ["req", "-new", "-key", str(made / "plain.key"), "-subj", "/O=swarm/OU=swarm-worker/CN=nodeid"]
        openssl(*request, "-out", str(made / "request"))
        if not (made / "ca.key").exists():
            self.found()
        signer = ["-CA", str(made / "swarm-root-ca.crt"), "-CAkey", str(made / "ca.key"), "-CAcreateserial"]
        openssl("x509", "-req", "-in", str(made / "request"), *signer, "-out", str(made / "swarm-node.crt"))
        if key:
            self.write_key()

    def write_key(self) -> None:
        begin, _, rest = (self.made / "plain.key").read_text().partition("\n")
        (self.made / "swarm-node.key").write_text(f"{begin}\nkek-version: 0\nraft-dek: AbC/d==\n\n{rest}")

    def found(self) -> None:
        """A new authority."""
        key, certificate = str(self.made / "ca.key"), str(self.made / "swarm-root-ca.crt")
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        openssl("req", "-x509", *curve, "-keyout", key, "-subj", "/CN=swarm-ca", "-out", certificate)


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    made = Host(tmp_path)
    made.renew()
    return made


def test_openssl_reads_what_the_gateway_gets(host: Host) -> None:
    assert host.run("--check") == "another authority\n"
    host.run()
    assert host.run("--check") == ""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(host.used / "node.pem")
    context.load_verify_locations(host.used / "ca.pem")
    assert [file.name for file in sorted(host.used.iterdir())] == ["ca.pem", "node.pem"]
    assert {file.stat().st_mode & 0o777 for file in host.used.iterdir()} == {0o600}
    assert host.reloads() == 1


def test_nothing_new_reloads_nothing(host: Host) -> None:
    host.run()
    host.run()
    assert host.reloads() == 1


def test_a_renewed_certificate_is_taken_over(host: Host) -> None:
    host.run()
    before = (host.used / "node.pem").read_text()
    host.renew()
    assert host.run("--check") == "another certificate\n"
    host.run()
    assert (host.used / "node.pem").read_text() != before
    assert (host.run("--check"), host.reloads()) == ("", 2)


def test_a_reload_that_fails_is_said_and_tried_again(host: Host) -> None:
    """Else the gateway would go on with the former certificate until that is too old."""
    host.run()
    host.renew()
    host.broken.touch()
    for _ in range(2):
        assert "haproxy.service goes on with its former certificate" in host.run(code=1)
        assert host.run("--check") == "a certificate that is not in use yet\n"
    host.broken.unlink()
    host.run()
    assert (host.run("--check"), host.reloads()) == ("", 4)
    host.run()
    assert host.reloads() == 4


def test_of_several_at_once_one_takes_it_over(host: Host) -> None:
    """A deploy that gives a host another role, and the unit that sees the certificate of that."""
    host.run()
    host.renew()
    with ThreadPoolExecutor(6) as several:
        assert list(several.map(lambda _: host.run(), range(6))) == [""] * 6
    assert (host.run("--check"), host.reloads()) == ("", 2)


def test_what_the_swarm_renews_meanwhile_is_taken_over_too(host: Host) -> None:
    host.run()
    names = ("swarm-node.crt", "swarm-node.key")
    host.renew()
    for name in names:
        (host.made / name).rename(host.made / f"later-{name}")
    host.renew()
    host.amid.write_text(f"cd {host.made}; for name in {' '.join(names)}; do mv later-$name $name; done")
    host.run()
    assert (host.run("--check"), host.reloads()) == ("", 3)


def test_a_new_authority_is_taken_over(host: Host) -> None:
    host.run()
    host.found()
    assert host.run("--check") == "another authority\n"
    host.run()
    assert (host.used / "ca.pem").read_text() == (host.made / "swarm-root-ca.crt").read_text()


def test_a_key_of_another_certificate_is_not_taken_over(host: Host) -> None:
    """The Swarm writes one after the other, and may be found in between."""
    host.run()
    before = (host.used / "node.pem").read_text()
    host.renew(key=False)
    assert "does not fit its certificate" in host.run(code=1)
    assert (host.used / "node.pem").read_text() == before
    host.write_key()
    host.run()
    assert host.run("--check") == ""


def test_a_file_that_is_missing_is_no_certificate(host: Host) -> None:
    (host.made / "swarm-node.key").unlink()
    host.run(code=1)
    assert list(host.used.iterdir()) == []
