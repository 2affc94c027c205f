"""E2B's clients, unmodified, from PyPI and npm: on the host itself, over TLS and Traefik, as from anywhere else.

Each program of tests/e2b runs once with each client; each of its features is a test of its own here.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from deploys import ROOT
from deploys.traefik import GATEWAY
from tests.host.machine import REPORTS, Machine
from tools.e2b_table import ABSENT, FAIL, PASS, features

pytestmark = [pytest.mark.disruptive, pytest.mark.suite("bookworm")]  # the older engine is the stricter one

HOME = "/opt/e2b-clients"
PYTHON = ("2.6.4", "2.28.2", "2.63.0")
INTERPRETER = "2.11.5"
NPM = {"javascript": "e2b@2.51.0", "code_interpreter_js": "@e2b/code-interpreter@2.8.0", "cli": "@e2b/cli@2.19.0"}
CLIENTS = [
    *(f"python_sync {release}" for release in PYTHON),
    f"python_sync {PYTHON[-1]} url",
    *(f"python_templates {release}" for release in PYTHON),
    f"python_base {PYTHON[-1]}",  # what it looks at is the host's, whatever the release
    *(f"skill {release}" for release in (PYTHON[0], PYTHON[-1])),
    f"python_async {PYTHON[-1]}",
    *(f"{program} {package.rpartition('@')[2]}" for program, package in NPM.items()),
    f"code_interpreter {INTERPRETER}",
]
ONE_ORIGIN = dict.fromkeys(("E2B_API_URL", "E2B_SANDBOX_URL", "E2B_VOLUME_API_URL"), f"http://{GATEWAY}")
DNS = """
set -e
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends dnsmasq-base >/dev/null
[ -e {home}/resolv.conf ] || cp /etc/resolv.conf {home}/resolv.conf
servers=$(awk '/^nameserver/ {{print "--server=" $2}}' {home}/resolv.conf)
systemctl stop e2b-dns 2>/dev/null || true
systemd-run --quiet --unit e2b-dns dnsmasq --keep-in-foreground --no-resolv --no-hosts --bind-interfaces \
    --listen-address=127.0.0.1 --address=/{domain}/127.0.0.1 $servers
echo nameserver 127.0.0.1 >/etc/resolv.conf
"""
CASES = [(client, feature) for client in CLIENTS for feature in features(client.split()[0])]


class Clients:
    """The host with all clients on it, and what each program has said."""

    def __init__(self, machine: Machine, key: str) -> None:
        self.machine, self._key = machine, key
        self._said: dict[str, dict[str, dict[str, str]]] = {}
        self._err: dict[str, str] = {}

    def error(self, client: str, feature: str) -> str:
        """Why the feature failed with that client; empty when it did not."""
        if client not in self._said:
            self._run(client)
        return self._said[client].get(feature, {"error": f"no word of it:\n{self._err[client]}"})["error"]

    def _run(self, client: str) -> None:
        program, release, *mode = client.split()
        words = (ONE_ORIGIN if mode else {"E2B_DOMAIN": self.machine.settings.domain}) | {
            "E2B_API_KEY": self._key,
            "SSL_CERT_FILE": f"{HOME}/ca.pem",
            "NODE_EXTRA_CA_CERTS": f"{HOME}/ca.pem",
            "SANDBOXD_UNIT": self.machine.unit("sandboxd"),
        }
        environment = " ".join(shlex.quote(f"{key}={value}") for key, value in words.items())
        if program in NPM:
            passed = " ".join(f"--env {key}" for key in words)
            run = "python3 cli.py" if program == "cli" else f"node {program}.mjs"
            command = f"{node(self.machine, passed)} {run}"
        else:
            python = PYTHON[-1] if program == "code_interpreter" else release
            command = f"{HOME}/python-{python}/bin/python {HOME}/programs/{program}.py"
        done = self.machine.run(f"env {environment} timeout 900 {command} </dev/null", check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"feature"')]
        self._said[client] = {line["feature"]: line for line in lines}
        self._err[client] = done.stderr[-4000:]

    def save(self) -> None:
        """reports/e2b.json: what was run now, and of the other clients what an earlier run has found."""
        file = REPORTS / "e2b.json"
        known = json.loads(file.read_text())["clients"] if file.exists() else {}
        known |= {client: {name: word(line) for name, line in said.items()} for client, said in self._said.items()}
        found = {"date": datetime.now(UTC).date().isoformat()}
        REPORTS.mkdir(exist_ok=True)
        clients = {client: known[client] for client in CLIENTS if client in known}
        file.write_text(json.dumps(found | {"clients": clients}, indent=1))


def word(line: dict[str, str]) -> str:
    return FAIL if line["error"] else ABSENT if line["absent"] else PASS


def node(machine: Machine, options: str = "") -> str:
    """Node is in the image of a sandbox, and not on the host."""
    image = machine.out(
        f"docker image ls --format '{{{{.Repository}}}}:{{{{.Tag}}}}' {machine.settings.name} | head -n 1"
    )
    mounts = f"--volume {HOME}:{HOME} --workdir {HOME}/programs"
    return f"docker run --rm --network host --userns host {mounts} {options} --entrypoint env {image}"


def bring_programs(machine: Machine) -> None:
    """The programs of tests/e2b, whom they trust, and names of the domain that lead to the host itself."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for file in sorted((ROOT / "tests/e2b").glob("*.*")):
            archive.add(file, file.name)
    machine.run(f"mkdir -p {HOME}/programs && tar -xC {HOME}/programs", stdin=stream.getvalue())
    authority = f"{machine.settings.etc}/ca/ca.pem"
    machine.run(f"cat /etc/ssl/certs/ca-certificates.crt {authority} >{HOME}/ca.pem")
    machine.run(DNS.format(home=HOME, domain=machine.settings.domain))


def bring_python(machine: Machine, release: str, *packages: str) -> None:
    """The Python client of that release, in an environment of its own."""
    path = f"{HOME}/python-{release}"
    machine.run(
        f"[ -e {path}/ready ] || {{ python3 -m venv {path} &&"
        f" {path}/bin/pip install -q --disable-pip-version-check e2b=={release} {' '.join(packages)} &&"
        f" touch {path}/ready; }}"
    )


def names_as_before(machine: Machine) -> None:
    machine.run(f"cat {HOME}/resolv.conf >/etc/resolv.conf; systemctl stop e2b-dns", check=False)
    machine.renew_pool()


@pytest.fixture(scope="module")
def clients(machine: Machine) -> Iterator[Clients]:
    bring_programs(machine)
    for release in PYTHON:
        bring_python(machine, release, *([f"e2b-code-interpreter=={INTERPRETER}"] if release == PYTHON[-1] else []))
    packages = " ".join(NPM.values())
    install = f"npm install --no-fund --no-audit --prefix {HOME}/programs {packages}"
    done = f"{HOME}/programs/node_modules/{hashlib.sha256(packages.encode()).hexdigest()}"
    machine.run(f"[ -e {done} ] || {{ {node(machine)} {install} && touch {done}; }}")
    made = json.loads(machine.out("docker-sandbox key create e2b-clients --json"))
    before = {row["sandboxID"] for row in machine.listed()}
    try:
        clients = Clients(machine, made["key"])
        yield clients
        clients.save()
    finally:
        machine.run(f"docker-sandbox key revoke {made['keyID']}", check=False)
        names_as_before(machine)
        left = {row["sandboxID"] for row in machine.listed()} - before
        if left:
            machine.run(f"docker-sandbox kill {' '.join(sorted(left))}", check=False)


def test_the_first_key_is_shown_once(machine: Machine) -> None:
    query = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute(sys.argv[2]))"
    statement = "SELECT value FROM settings WHERE key = 'first_key'"
    words = shlex.join(["python3", "-c", query, f"{machine.settings.state}/ledger.sqlite", statement])
    had_one = bool(machine.out(words))
    first, second = (
        subprocess.run(
            [sys.executable, "-m", "tools.first_key"],
            cwd=ROOT,
            env=machine.environment(),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    )
    assert bool(re.search(r"E2B_API_KEY=e2b_[0-9a-f]{40}$", first, re.MULTILINE)) is not had_one
    assert "e2b_" not in second


@pytest.mark.parametrize(("client", "feature"), CASES)
def test_feature(clients: Clients, client: str, feature: str) -> None:
    assert clients.error(client, feature) == ""
