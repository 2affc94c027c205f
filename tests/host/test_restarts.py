"""Each part of the way in is restarted while twenty clients ask for previews and of the API, without a pause.

Every request is on a new connection, so that what fails is counted and nothing is hidden by a retry of the client.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tests.host.api import Api, with_key
from tests.host.machine import Machine, Sandbox, eventually
from tests.host.wire import Edge, Ended, get, plays

pytestmark = pytest.mark.disruptive

CLIENTS = 20
PREVIEW, API = "preview", "API"


class Load:
    """Clients that ask all the time. `failed` has what was not answered as it should be: of whom, and what came."""

    def __init__(self, edge: Edge, sandbox: Sandbox, key: str) -> None:
        self._edge = edge
        preview, api = edge.host(sandbox), f"api.{edge.domain}"
        post = f"POST /asked HTTP/1.1\r\nHost: {preview}\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"
        self._kinds = {
            PREVIEW: (preview, post, b'"first": "POST /asked HTTP/1.1"'),
            API: (api, get(api, "/v2/sandboxes", f"X-API-Key: {key}", "Connection: close"), sandbox.id.encode()),
        }
        self.failed: list[tuple[str, str]] = []
        self.answered = {PREVIEW: 0, API: 0}
        self._lock, self._stopped = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(kind,)) for kind in (PREVIEW, API) * (CLIENTS // 2)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        self.go_on()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def go_on(self) -> None:
        """Returns when some dozens more of each kind have been answered."""
        before = dict(self.answered)
        eventually(lambda: dict(self.answered), lambda now: all(now[k] >= before[k] + 40 for k in now), 60, "answers")

    def _ask(self, kind: str) -> None:
        while not self._stopped.wait(0.02):
            name, request, wanted = self._kinds[kind]
            trouble = ""
            try:
                with self._edge.wire(name, timeout=60) as wire:
                    answer = wire.ask(request)
                if answer.status != 200 or wanted not in answer.body:
                    trouble = f"{answer.status} {answer.body[:200]!r}"
            except (Ended, OSError) as error:
                trouble = repr(error)
            with self._lock:
                if trouble:
                    self.failed.append((kind, trouble))
                else:
                    self.answered[kind] += 1


@pytest.fixture(scope="module")
def sandbox(machine: Machine) -> Iterator[Sandbox]:
    with machine.sandbox() as sandbox:
        yield plays(sandbox, "restarts")


@pytest.fixture(scope="module")
def api(machine: Machine) -> Iterator[Api]:
    with with_key(machine, "restarts") as api:
        yield api


@pytest.fixture
def load(machine: Machine, api: Api) -> Iterator[Any]:
    """A block of load on a sandbox of the key; it prints what `pytest -rP` shows."""
    with api.sandbox() as asked:
        plays(asked, "asked")

        @contextmanager
        def loaded() -> Iterator[Load]:
            with Load(Edge(machine), asked, api.key) as load:
                yield load
            print(f"{len(load.failed)} failed, {sum(load.answered.values())} answered: {sorted(set(load.failed))}")

        yield loaded


def reloaded(machine: Machine) -> None:
    """Returns when the new worker alone takes commands, and has the routes that were made while it started."""
    newest = machine.out("pgrep -n -u haproxy -x haproxy")

    def workers() -> set[str]:
        return {line for _ in range(5) for line in machine.gateway("show info").splitlines() if line.startswith("Pid:")}

    eventually(workers, lambda seen: seen == {f"Pid: {newest}"}, 30, "new worker alone")
    machine.run("docker-sandbox routes sync")


def test_nothing_fails_while_sandboxd_is_restarted(machine: Machine, load: Any) -> None:
    """Previews do not need it, and the API waits for it."""
    with load() as clients:
        for _ in range(2):
            machine.run(f"systemctl restart {machine.unit('sandboxd')}")
            clients.go_on()
    assert clients.failed == []


def test_nothing_fails_while_the_gateway_is_reloaded(machine: Machine, load: Any) -> None:
    with load() as clients:
        for _ in range(2):
            machine.run("systemctl reload haproxy.service")
            clients.go_on()
            reloaded(machine)
    assert clients.failed == []


# Asks on two connections, reloads the gateway, waits until a new worker has taken over, and asks on them again: for the
# same sandbox, and for one that was made meanwhile.
KEPT = """
import http.client, socket, subprocess, sys, time
def ask(raw, host):
    raw.sendall(f"POST /kept HTTP/1.1\\r\\nHost: {host}\\r\\nContent-Length: 1\\r\\n\\r\\nx".encode())
    answer = http.client.HTTPResponse(raw)
    answer.begin()
    return answer.status, answer.read().decode()
def called(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
def workers():
    return called("pgrep", "-n", "-u", "haproxy", "-x", "haproxy")
label, _, domain = sys.argv[1].partition(".")
opened = [socket.create_connection(("127.0.0.1", 8081), timeout=30) for _ in range(2)]
first, before = [ask(raw, sys.argv[1])[0] for raw in opened], workers()
called("systemctl", "reload", "haproxy.service")
while workers() == before:
    time.sleep(0.05)
time.sleep(1)
made = called("docker-sandbox", "init")
try:
    print(*first, ask(opened[0], sys.argv[1])[0], ask(opened[1], f"7-{made}.{domain}")[1], sep="\\n")
finally:
    called("docker-sandbox", "kill", made)
"""


def test_a_connection_that_is_kept_outlives_a_reload(machine: Machine, sandbox: Sandbox) -> None:
    """Of Traefik's: else a POST that it has just begun to write would fail, and may not be sent again.

    What it leads to is not what was there at the reload.
    """
    name = Edge(machine).host(sandbox)
    said = machine.run(f"timeout 60 python3 - {name}", stdin=KEPT.encode()).stdout
    reloaded(machine)
    assert said.splitlines()[:3] == ["200"] * 3
    assert "The sandbox is running but port is not open" in said


def test_a_new_worker_has_the_routes_of_the_ledger(machine: Machine, sandbox: Sandbox) -> None:
    """Soon, and not those that the file had at its start: what was made meanwhile went to the old one."""
    routes = f"{machine.settings.state}/routes.map"

    def look() -> tuple[str, bool]:
        """Which worker answers, and whether it or the file has a route that the ledger does not have."""
        lines = machine.gateway(f"show info; show map {routes}").splitlines()
        pid = next(line for line in lines if line.startswith("Pid:"))
        return pid, any("00000000dead" in line for line in (*lines, machine.out(f"cat {routes}")))

    def reload() -> None:
        old = look()[0]
        machine.run(f"echo 00000000dead 127.0.0.1 >>{routes}; systemctl reload haproxy.service")
        # Worker and file both: a mend that the reload came amid has seen the file as it was before.
        # Less than the half minute after which sandboxd looks without a cause.
        eventually(look, lambda seen: seen[0] != old and not seen[1], 25, "new worker with the ledger's routes")

    for _ in range(3):
        reload()
    assert Edge(machine).ask(Edge(machine).host(sandbox)).status == 200


def test_two_hundred_routes_lead_where_they_should(machine: Machine, sandbox: Sandbox) -> None:
    """Names made in the gateway's own map with the addresses of two sandboxes in turn: 200 need much memory."""
    routes = f"{machine.settings.state}/routes.map"
    ids = [f"{number:012x}" for number in range(200)]
    with machine.sandbox() as other:
        players = {"restarts": sandbox, "other": plays(other, "other")}
        networks = {who: one.inspect()["NetworkSettings"]["Networks"].values() for who, one in players.items()}
        addresses = {who: next(iter(found))["IPAddress"] for who, found in networks.items()}
        edge, names = Edge(machine), dict(zip(ids, ["restarts", "other"] * 100, strict=True))

        def wrong() -> list[str]:
            added = [f"add map {routes} {key} {addresses[who]}" for key, who in names.items()]
            for start in range(0, len(added), 50):
                machine.gateway("; ".join(added[start : start + 50]))
            hosts = {f"qa-{key}.{edge.domain}": who for key, who in names.items()}
            with ThreadPoolExecutor(8) as several:
                answers = several.map(lambda host: edge.ask(host, "/"), hosts)
                return [
                    host
                    for (host, who), answer in zip(hosts.items(), answers, strict=True)
                    if (answer.status, who) != (200, answer.json().get("who"))
                ]

        try:
            eventually(wrong, lambda hosts: hosts == [], 60, "answers of all of them")  # a sweep may take routes away
        finally:
            machine.run("docker-sandbox routes sync")
    assert edge.ask(f"qa-{ids[0]}.{edge.domain}", "/").status == 502


@pytest.mark.parametrize("command", ["systemctl restart haproxy.service", "docker restart traefik"])
def test_a_restart_of_a_proxy_is_short(machine: Machine, load: Any, command: str) -> None:
    """What was on its way, and what comes before it listens again, fails; afterwards nothing does, with no help."""
    with load() as clients:
        machine.run(command)
        clients.go_on()
        settled = len(clients.failed)
        clients.go_on()
        assert len(clients.failed) == settled, clients.failed[settled:]
    said = ["502 b'Bad Gateway'", "Ended(", "Connection", "SSLEOFError(", "SSLZeroReturnError("]
    said += ["BrokenPipeError("]  # what a reset is called on a connection of which the end had come already
    if "traefik" in command:  # it listens some milliseconds before it has read which certificate it has
        said += ["SSLCertVerificationError("]
    # Traefik's word, 1 time in 140, for a POST that it cannot send again when its idle connection was closed under it.
    idle = (PREVIEW, "500 b'Internal Server Error'") if "haproxy" in command else None
    assert [one for one in clients.failed if not one[1].startswith(tuple(said)) and one != idle] == []
