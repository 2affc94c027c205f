"""A world for certificates by ACME on the host under test: two ACME servers, and a DNS server that takes updates.

Debian's `pebble` and `bind9`. The certificates of server "fresh" hold 90 days, those of "short" 20, so that Traefik
renews them at each of its starts. Nothing leaves the host.
"""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.host.machine import Machine, Report, eventually

FOLDER = "/var/lib/test-acme"
AUTHORITY = "/usr/local/share/ca-certificates/test-acme.crt"
DAYS = {"fresh": 90, "short": 20}
PORTS = {"fresh": (14000, 15000), "short": (14001, 15001)}
SETUP = """\
set -eu
export DEBIAN_FRONTEND=noninteractive
dpkg-query -W pebble bind9 >/dev/null 2>&1 || {{
    apt-get update -qq; apt-get install -y -qq --no-install-recommends pebble bind9 >/dev/null; }}
mkdir -p {folder} && cd {folder}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj '/CN=test of ACME' \
    -addext keyUsage=critical,keyCertSign -keyout ca.key -out ca.pem 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout server.key -out server.csr \
    2>/dev/null
echo subjectAltName=DNS:localhost >server.ext
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile server.ext -out server.pem \
    2>/dev/null
cp ca.pem {authority} && update-ca-certificates >/dev/null 2>&1
cat >/etc/bind/named.conf <<'END'
options {{ directory "/var/cache/bind"; listen-on {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion no; }};
key acme {{ algorithm hmac-sha256; secret "{secret}"; }};
zone "{domain}" {{
    type primary; file "/var/lib/bind/test-acme.zone";
    update-policy {{ grant acme name _acme-challenge.{domain}. TXT; }};
}};
END
rm -f /var/lib/bind/test-acme.zone*
cat >/var/lib/bind/test-acme.zone <<'END'
$TTL 1
@ IN SOA ns1.{domain}. ops.{domain}. 1 60 60 60 1
@ IN NS ns1.{domain}.
ns1 IN A 127.0.0.1
END
chown bind: /var/lib/bind/test-acme.zone
systemctl restart named.service
"""
PEBBLE = """\
set -eu
cat >{folder}/{name}.json <<'END'
{{"pebble": {{"listenAddress": "127.0.0.1:{port}", "managementListenAddress": "127.0.0.1:{management}",
  "certificate": "{folder}/server.pem", "privateKey": "{folder}/server.key", "httpPort": 80, "tlsPort": 443,
  "ocspResponderURL": "", "externalAccountBindingRequired": false, "retryAfter": {{"authz": 1, "order": 1}},
  "certificateValidityPeriod": {seconds}}}}}
END
systemctl stop test-acme-{name}.service 2>/dev/null || true
systemd-run --quiet --collect --unit test-acme-{name} --setenv PEBBLE_VA_NOSLEEP=1 --setenv PEBBLE_WFE_NONCEREJECT=0 \
    --setenv PEBBLE_AUTHZREUSE=0 pebble -config {folder}/{name}.json -dnsserver 127.0.0.1:53
"""
TEARDOWN = f"""\
systemctl stop test-acme-fresh.service test-acme-short.service named.service
DEBIAN_FRONTEND=noninteractive apt-get purge -y -qq pebble bind9 >/dev/null
rm -rf {FOLDER} {AUTHORITY} /etc/bind /var/lib/bind/test-acme.zone*
update-ca-certificates --fresh >/dev/null 2>&1
"""


class World:
    """The servers, and deploys that use them."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine, self.domain = machine, machine.settings.domain
        self.secret, self.wrong = _tsig(), _tsig()
        # What is no secret is in a file, and the secret in the environment.
        self._file = folder / "dns.env"
        self._file.write_text(
            "# of the provider\nRFC2136_NAMESERVER=127.0.0.1:53\nRFC2136_TSIG_KEY=acme\n"
            "RFC2136_TSIG_ALGORITHM=hmac-sha256.\n"
        )

    def start(self) -> None:
        values = {"folder": FOLDER, "authority": AUTHORITY, "secret": self.secret, "domain": self.domain}
        self.machine.run(SETUP.format(**values))
        for name, (port, management) in PORTS.items():
            seconds = DAYS[name] * 86400
            self.machine.run(PEBBLE.format(folder=FOLDER, name=name, port=port, management=management, seconds=seconds))
            eventually(lambda name=name: self.root(name), bool, 30, f"answer of the ACME server {name}")  # type: ignore[misc]

    def root(self, server: str) -> str:
        """The certificate of the authority that signs for that server, as a file on the host; "" while it is down."""
        file = f"{FOLDER}/{server}.pem"
        get = f"curl -fsS --cacert {FOLDER}/ca.pem https://localhost:{PORTS[server][1]}/roots/0 -o {file}"
        return file if self.machine.run(get, check=False).returncode == 0 else ""

    def settings(self, server: str) -> dict[str, Any]:
        """Those of a host that orders there."""
        return {
            **self.machine.target.settings,
            "tls_mode": "acme",
            "acme_email": f"ops@{self.domain}",
            "acme_dns_provider": "rfc2136",
            "acme_credentials": f"{self._file},RFC2136_TSIG_SECRET",
            "acme_server": f"https://localhost:{PORTS[server][0]}/dir",
            "acme_resolvers": "127.0.0.1:53",
        }

    def deployment(self, server: str, secret: str) -> dict[str, str]:
        """The environment of a deploy that orders there."""
        given = " ".join(shlex.quote(f"{key}={value}") for key, value in self.settings(server).items())
        return {"SET": given, "RFC2136_TSIG_SECRET": secret}

    def deploy(self, server: str, secret: str = "") -> Report:
        return self.machine.deploy(**self.deployment(server, secret or self.secret))

    def serial(self) -> str:
        """Of the certificate that Traefik serves; "" while it serves none, or, at its start, the one of its own."""
        ask = f"openssl s_client -connect 127.0.0.1:443 -servername api.{self.domain} </dev/null 2>/dev/null"
        read = "openssl x509 -noout -serial -ext subjectAltName"
        shown = self.machine.run(f"{ask} | {read}", check=False).stdout
        return shown.splitlines()[0] if f"DNS:*.{self.domain}" in shown else ""

    def trusted_by(self, server: str) -> bool:
        """Whether a client that trusts that server's authority alone gets an answer of the API."""
        name = f"api.{self.domain}"
        ask = f"curl -sS --cacert {self.root(server)} --resolve {name}:443:127.0.0.1 https://{name}/health"
        return self.machine.run(ask, check=False).returncode == 0


def _tsig() -> str:
    """A key in base64, without padding that would be quoted somewhere."""
    return secrets.token_hex(24)


@contextmanager
def acme_world(machine: Machine, folder: Path) -> Iterator[World]:
    """At its end the host is as it was, with the certificate of its settings."""
    world = World(machine, folder)
    try:
        world.start()
        yield world
    finally:
        machine.run(TEARDOWN, check=False)
        machine.deploy()
        machine.run(f"rm -f {machine.settings.state}/acme/*")
