"""A host as seen from the workstation: commands over one shared SSH connection, and requests to its public address.

Used by the demonstration, the measurements and the host tests. What it runs is up to the caller.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
import ssl
import subprocess
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from deploys.hosts import Target
from deploys.settings import Settings

PEM = "-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?"


class RemoteError(Exception):
    """A command on the host failed; the message has its end of output."""


class Remote:
    """One host. A context manager: it ends the SSH connection and removes its files."""

    def __init__(self, target: Target) -> None:
        self.target = target
        # Short: the path of a control socket may have about 100 characters.
        self._directory = tempfile.TemporaryDirectory(prefix="ssh-")
        self.ssh_config = Path(self._directory.name) / "config"
        self.ssh_config.write_text(target.ssh_config(f"{self._directory.name}/%C"))
        self._ca: Path | None = None
        self._asking = threading.Lock()
        self._settings: Settings | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        subprocess.run([*self._ssh(), "-O", "exit", self.target.name], capture_output=True, check=False)
        self._directory.cleanup()

    @property
    def settings(self) -> Settings:
        """The settings that a deploy uses for this host. Raises SettingError, RemoteError when it does not answer."""
        if self._settings is None:
            self._settings = self.target.load_settings().on(self.out(". /etc/os-release && echo $VERSION_CODENAME"))
        return self._settings

    def command(self, command: str) -> list[str]:
        """The words that run a shell command as root on the host."""
        if self.target.user != "root":
            command = f"sudo -n sh -c {shlex.quote(command)}"
        return [*self._ssh(), self.target.name, "--", command]

    def run(self, command: str, *, check: bool = True, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
        """Run a shell command as root on the host. Raises RemoteError when it fails and `check` is set."""
        done = subprocess.run(self.command(command), input=stdin or b"", capture_output=True, check=False)
        result = subprocess.CompletedProcess(command, done.returncode, _text(done.stdout), _text(done.stderr))
        if check and done.returncode != 0:
            ending = (result.stderr.strip() or result.stdout.strip())[-3000:]
            raise RemoteError(f"{self.target.name}: {command!r} ended with exit code {done.returncode}:\n{ending}")
        return result

    def out(self, command: str) -> str:
        """The output of a command that must succeed, trimmed."""
        return self.run(command).stdout.strip()

    def restarted(self, target: Target) -> None:
        """Forget the old connection: the host has rebooted, and may have another address."""
        subprocess.run([*self._ssh(), "-O", "exit", self.target.name], capture_output=True, check=False)
        self.target = target
        self.ssh_config.write_text(target.ssh_config(f"{self._directory.name}/%C"))

    def forget(self) -> None:
        """Its authority, which a deploy may have changed."""
        self._ca = None

    def authority(self) -> Path | None:
        """Whom to trust beside the system's own: the authority of the internal certificate, or the issuer of one by an
        ACME server that is no public authority; as a file here. None when the system's own are right.
        """
        wanted = self.settings
        if wanted.tls_mode == "files" or (wanted.tls_mode == "acme" and wanted.acme_server == "production"):
            return None
        with self._asking:  # tests ask from several threads
            return self._ca or self._read_authority()

    def _read_authority(self) -> Path:
        wanted = self.settings
        served = f"openssl s_client -connect 127.0.0.1:443 -servername api.{wanted.domain} -showcerts 2>/dev/null"
        found = self.out("/usr/local/bin/docker-sandbox ca" if wanted.tls_mode == "internal" else served)
        file = Path(self._directory.name) / "ca.pem"
        file.write_text(re.findall(PEM, found, re.DOTALL)[-1])
        self._ca = file
        return file

    def trust(self) -> ssl.SSLContext:
        """What checks the host's certificate."""
        authority = self.authority()
        context = ssl.create_default_context(cafile=str(authority) if authority else None)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the issuer that is served is an intermediate one
        return context

    def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        """An HTTP request to a name of the host's domain, sent to the host's own address, whatever DNS says.

        The certificate is checked for the name in `url`. Redirects are not followed.
        """
        wanted = httpx.URL(url)
        headers = {"Host": wanted.netloc.decode(), **options.pop("headers", {})}
        context = self.trust() if wanted.scheme == "https" else ssl.create_default_context()
        with httpx.Client(verify=context, trust_env=False, timeout=options.pop("timeout", 30)) as client:
            return client.request(
                method,
                wanted.copy_with(host=self.target.address),
                headers=headers,
                extensions={"sni_hostname": wanted.host},
                **options,
            )

    def key_digest(self) -> str:
        """Base64 SHA-256 of the served certificate's public key, by which Chromium can be told to accept it."""
        read = "openssl x509 -in /etc/traefik/certs/wildcard.pem -noout -pubkey"
        key = self.out(f"{read} | openssl pkey -pubin -outform der | base64 -w0")
        return base64.b64encode(hashlib.sha256(base64.b64decode(key)).digest()).decode()

    def _ssh(self) -> list[str]:
        return ["ssh", "-F", str(self.ssh_config)]


def _text(output: bytes) -> str:
    return output.decode(errors="replace")
