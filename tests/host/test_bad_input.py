"""Clients that are broken or mean, through Traefik and the gateway: the right error, and an undisturbed neighbour.

What each parser does with each input is for the unit tests; here are those that meet a proxy first.
"""

from __future__ import annotations

import base64
import json
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.host.machine import Machine, Sandbox, eventually
from tests.host.neighbour import Neighbour

pytestmark = pytest.mark.disruptive

AGENT = 49983
CROWD = 60
LONG = "a" * 4096
STREAM = "application/connect+json"


class Target:
    """A sandbox that is asked badly, and the daemon that serves all."""

    def __init__(self, machine: Machine, sandbox: Sandbox, key: str) -> None:
        self.machine, self.sandbox = machine, sandbox
        self.url, self.token = sandbox.url(AGENT), sandbox.token()
        self.api, self.key = f"https://api.{machine.settings.domain}", {"X-API-KEY": key}
        self._tls = machine.trust()

    @contextmanager
    def connection(self, url: str) -> Iterator[ssl.SSLSocket]:
        name = urlsplit(url).hostname
        with (
            socket.create_connection((self.machine.target.address, 443), timeout=15) as plain,
            self._tls.wrap_socket(plain, server_hostname=name) as secure,
        ):
            yield secure

    def head(self, url: str, path: str, kind: str, framing: str) -> bytes:
        lines = [f"POST {path} HTTP/1.1", f"Host: {urlsplit(url).hostname}", f"X-Access-Token: {self.token}"]
        return "\r\n".join([*lines, f"Content-Type: {kind}", framing, "", ""]).encode()

    def start(self, command: str) -> bytes:
        payload = json.dumps({"process": {"cmd": "/bin/bash", "args": ["-c", command]}, "stdin": False}).encode()
        body = struct.pack(">BI", 0, len(payload)) + payload
        return self.head(self.url, "/process.Process/Start", STREAM, f"Content-Length: {len(body)}") + body

    def ask(self, method: str, path: str, **options: Any) -> tuple[int, dict[str, Any]]:
        """Status and body of an error."""
        headers = {"X-Access-Token": self.token, **options.pop("headers", {})}
        answer = self.machine.request(method, self.url + path, headers=headers, **options)
        return answer.status_code, answer.json()

    def open_files(self) -> int:
        """Of the daemon."""
        unit = self.machine.unit("sandboxd")
        return int(self.machine.out(f"ls /proc/$(systemctl show --property MainPID --value {unit})/fd | wc -l"))

    def agent(self) -> tuple[int, int]:
        """The open files of the agent, and its private memory in KiB."""
        found = self.sandbox.out(
            "sudo sh -c 'p=$(pgrep -o -f envd); ls /proc/$p/fd | wc -l; grep RssAnon /proc/$p/status'"
        ).split()
        return int(found[0]), int(found[2])


@pytest.fixture(scope="module")
def target(machine: Machine) -> Iterator[Target]:
    """Asked badly while a neighbour is asked well, and whole again afterwards."""
    made = json.loads(machine.out("docker-sandbox key create bad-input --json"))
    try:
        with machine.sandbox() as sandbox, machine.sandbox() as other:
            other.run("echo well >index.html")
            other.serve("python3 -m http.server 8000")
            with Neighbour(machine, other.url()) as neighbour:
                yield Target(machine, sandbox, made["key"])
                eventually(lambda: len(neighbour.answers), lambda count: count > 5, 15, "answers of the neighbour")
            assert set(neighbour.answers) == {"well\n"}
            assert other.out("echo well") == "well" and sandbox.out("echo well") == "well"
    finally:
        machine.run(f"docker-sandbox key revoke {made['keyID']}", check=False)


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/files?path=a%00b", {}, 400),
        ("GET", f"/files?path={LONG}", {}, 400),
        ("GET", "/files?path=/../../../etc", {}, 400),
        ("GET", "/files?path=%ff%fe", {}, 404),
        ("GET", "/files?path=/etc/passwd", {"headers": {"Range": "bytes=" + "9" * 5000 + "-"}}, 416),
        ("GET", "/files?path=/etc/passwd", {"headers": {"X-Access-Token": "wrong"}}, 401),
        ("GET", "/files?path=/etc/passwd&signature=v1_x", {"headers": {"X-Access-Token": ""}}, 401),
        ("POST", "/filesystem.Filesystem/Stat", {"content": b"\xff"}, 400),
        ("POST", "/filesystem.Filesystem/Stat", {"content": b'{"path":"\\ud800"}'}, 400),
        ("POST", "/filesystem.Filesystem/Stat", {"content": b'{"path":["x"]}'}, 400),
        ("POST", "/filesystem.Filesystem/Stat", {"content": bytes(17 * 1024 * 1024)}, 413),
        ("POST", "/process.Process/SendSignal", {"content": b'{"process":{"pid":1},"signal":[]}'}, 404),
        ("POST", "/no/such", {}, 404),
    ],
)
def test_the_agent_says_what_is_wrong(
    target: Target, method: str, path: str, options: dict[str, Any], status: int
) -> None:
    options = {**options, "headers": {"Content-Type": "application/json", **options.get("headers", {})}}
    found, error = target.ask(method, path, **options)
    assert (found, bool(error["code"]), bool(error["message"])) == (status, True, True)


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("POST", "/v2/sandboxes", {"content": b"{"}, 400),
        ("POST", "/v2/sandboxes", {"content": b'{"templateID":"\\ud800"}'}, 400),
        ("POST", "/v2/sandboxes", {"content": bytes(2 * 1024 * 1024)}, 413),
        ("POST", "/v2/sandboxes", {"content": b'{"templateID":"none-such"}'}, 404),
        ("GET", "/sandboxes/..%2f..%2fetc", {}, 404),
        ("GET", "/sandboxes/a%00b", {}, 404),
        ("GET", f"/sandboxes/{LONG}", {}, 404),
        ("GET", "/v2/sandboxes?nextToken=%ff", {}, 400),
        ("GET", "/v2/sandboxes", {"headers": {"X-API-KEY": "e2b_" + "0" * 40}}, 401),
        ("PUT", f"/build-files/{'a' * 64}?expires=9999999999&signature=%C3%A9", {"content": b"x"}, 401),
        ("PATCH", "/v2/sandboxes", {}, 405),
    ],
)
def test_the_control_plane_says_what_is_wrong(
    target: Target, method: str, path: str, options: dict[str, Any], status: int
) -> None:
    headers = {**target.key, "Content-Type": "application/json", **options.get("headers", {})}
    answer = target.machine.request(method, target.api + path, **{**options, "headers": headers})
    assert (answer.status_code, answer.json()["code"]) == (status, status), answer.text


def test_a_crowd_that_stops_in_the_middle_leaves_nothing(target: Target) -> None:
    """Half heads and half bodies, for the sandbox and for the control plane, and no key or token needed for some."""
    halves = [
        (target.url, b"POST /files"),
        (target.url, target.head(target.url, "/files?path=x", "application/octet-stream", "Content-Length: 9") + b"x"),
        (
            target.url,
            target.head(target.url, "/process.Process/Start", STREAM, "Transfer-Encoding: chunked") + b"3\r\n",
        ),
        (target.api, target.head(target.api, "/v2/sandboxes", "application/json", "Content-Length: 9") + b"{"),
    ]
    files, (agent_files, agent_kb) = target.open_files(), target.agent()
    with ExitStack() as crowd:
        for number in range(CROWD):
            url, sent = halves[number % len(halves)]
            crowd.enter_context(target.connection(url)).sendall(sent)
        assert target.machine.request("GET", f"{target.api}/v2/sandboxes", headers=target.key).status_code == 200
        assert target.sandbox.out("echo meanwhile") == "meanwhile"
    eventually(target.open_files, lambda count: count <= files + 3, 60, "connections that the daemon has closed")
    eventually(lambda: target.agent()[0], lambda count: count <= agent_files + 3, 60, "connections closed by the agent")
    assert target.agent()[1] - agent_kb < 16_000


def test_who_does_not_read_fills_no_memory(target: Target) -> None:
    """Each proxy on the way keeps a little, and then the command has to wait."""
    before_kb = target.agent()[1]
    with ExitStack() as readers:
        for _ in range(4):
            raw = readers.enter_context(target.connection(target.url))
            raw.sendall(target.start("exec yes"))
            received = b""
            while base64.b64encode(b"y\ny\ny\n") not in received:
                piece = raw.recv(4096)
                assert piece, f"it hung up after {received!r}"
                received = received[-100:] + piece
        busy = "for one in $(pgrep -x yes); do cut -d ' ' -f 1,14,15 /proc/$one/stat; done"  # pid and ticks
        seen = ""

        def waiting() -> bool:
            nonlocal seen
            before, seen = seen, target.sandbox.out(busy)
            return before == seen and len(seen.splitlines()) == 4

        eventually(waiting, bool, 90, "commands that wait for their readers")
        assert target.agent()[1] - before_kb < 16_000
    target.sandbox.run("pkill -x yes", check=False)
