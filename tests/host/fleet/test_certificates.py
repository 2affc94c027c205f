"""Who is let in where the hosts of a fleet are there for each other, by the certificates of the Swarm."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator

import pytest

from deploys import fleetgateway, swarm
from deploys.fleetimages import NAME
from tests.host.fleet.labs import LABS, LIMIT_S, Fleet

pytestmark = pytest.mark.disruptive
ONLY_MANAGERS = "Only managers of the fleet may ask this"
# Of curl: the other side ends the connection after the handshake, in TLS 1.3; a send may meet that before a read does.
SHUT_OUT = (55, 56)
WRONG_NAME = 60
# Looks like one of a manager, and is signed by nobody.
FORGED = (
    "openssl req -x509 -newkey ed25519 -nodes -subj /O={id}/OU=swarm-manager/CN={id} -keyout {file} -out {file}.crt"
)


class Asker:
    """Asks other hosts from a host of the fleet."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self.machine = fleet.members[name]
        self.domain = self.machine.settings.domain
        directory = fleetgateway.directory(self.machine.settings)
        self.own, self._authority = f"{directory}/node.pem", f"{directory}/ca.pem"

    def ask(self, url: str, certificate: str = "", *options: str) -> tuple[int, str, str]:
        """Curl's exit code, the status of the answer, "000" for none, and its text."""
        done = self._curl(url, certificate, *options, "--cacert", self._authority)
        text, _, status = done.stdout.rpartition("\n")
        return done.returncode, status, text

    def api(self, fleet: Fleet, name: str, api: str, called: str) -> tuple[int, str, str]:
        """Asks for one of the two APIs of the host `name`, which it calls by the id of the host `called`."""
        port = self.machine.settings.fleet_port
        host = f"{fleet.node_id(called)}:{port}"
        options = ("--connect-to", f"{host}:{LABS[name]}:{port}", "--header", f"Host: {api}.{self.domain}")
        return self.ask(f"https://{host}/v2/sandboxes", self.own, *options)

    def _curl(self, url: str, certificate: str, *options: str) -> subprocess.CompletedProcess[str]:
        words = ["curl", "--silent", "--max-time", str(LIMIT_S), "--tlsv1.3", "--write-out", "\n%{http_code}"]
        words += ["--cert", certificate] if certificate else []
        return self.machine.run(shlex.join([*words, *options, url]), check=False)


@pytest.fixture
def worker(fleet: Fleet) -> Asker:
    return Asker(fleet, fleet.workers[0])


@pytest.fixture
def manager(fleet: Fleet) -> Asker:
    return Asker(fleet, fleet.managers[0])


@pytest.fixture
def forged(fleet: Fleet, worker: Asker) -> Iterator[str]:
    directory = worker.machine.out("mktemp -d")
    file = f"{directory}/node.pem"
    command = FORGED.format(id=fleet.node_id(fleet.managers[0]), file=file)
    worker.machine.run(f"{command} && cat {file}.crt >>{file}")
    yield file
    worker.machine.run(f"rm -r {directory}")


def test_the_registry_is_for_hosts_of_the_fleet(worker: Asker, forged: str) -> None:
    url = f"https://{NAME}:{swarm.REGISTRY_PORT}/v2/"
    for certificate in ("", forged):
        code, status, _ = worker.ask(url, certificate)
        assert (code in SHUT_OUT, status) == (True, "000"), (code, status)
    assert worker.ask(url, worker.own) == (0, "200", "{}")


def test_docker_has_a_certificate_for_the_registry(worker: Asker) -> None:
    done = worker.machine.run(f"docker pull {NAME}:{swarm.REGISTRY_PORT}/nothing", check=False)
    assert done.returncode == 1 and "manifest unknown" in done.stderr, done.stderr


def test_a_gateway_answers_hosts_of_the_fleet(worker: Asker, forged: str) -> None:
    """Those that are no managers as everybody: with sandboxes."""
    url = f"https://{NAME}:{worker.machine.settings.fleet_port}/"
    for certificate in ("", forged):
        code, status, _ = worker.ask(url, certificate)
        assert (code in SHUT_OUT, status) == (True, "000"), (code, status)
    assert worker.ask(url, worker.own) == (0, "403", ONLY_MANAGERS)
    code, status, text = worker.ask(url, worker.own, "--header", f"Host: 8000-nothing.{worker.domain}")
    assert (code, status) == (0, "502") and "The sandbox was not found" in text


@pytest.mark.parametrize("api", ["node", "api"])
def test_the_apis_of_a_host_are_for_managers(fleet: Fleet, worker: Asker, manager: Asker, api: str) -> None:
    """With a manager's certificate they answer; the one for those with a key wants a key."""
    for name in fleet.names:
        assert worker.api(fleet, name, api, called=name) == (0, "403", ONLY_MANAGERS)
        code, status, text = manager.api(fleet, name, api, called=name)
        assert (code, status) == (0, "200" if api == "node" else "401"), text


def test_a_manager_that_calls_no_host_by_name_asks_for_somebody_else(fleet: Fleet, manager: Asker) -> None:
    """What people send to it, be it to a name of those APIs, does not come to them."""
    for name in fleet.names:
        url = f"https://{LABS[name]}:{manager.machine.settings.fleet_port}/v2/sandboxes"  # an address is no name
        answer = manager.ask(url, manager.own, "--header", f"Host: node.{manager.domain}", "--insecure")
        assert answer == (0, "400", '{"code":400,"message":"Invalid host"}')


def test_a_host_has_its_own_name_alone(fleet: Fleet, manager: Asker) -> None:
    first, second = fleet.workers
    assert manager.api(fleet, first, "node", called=second)[:2] == (WRONG_NAME, "000")
