"""The host as the measurements see it: sandboxd's API, Docker's command line, and the removal of all that was made.

What the measurements make is marked: sandboxes by their name, containers and networks by a label.
"""

import ipaddress
import json
import socket
import subprocess
import sys
import time
import tomllib
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

MARK = "sandbox-bench"
LABEL = ("--label", f"{MARK}=1")
POOL_DEADLINE_S = 180.0
SANDBOX_MB = 40  # of free memory that one more idle sandbox needs at most


class Unexpected(Exception):
    """The host answered otherwise than the measurement needs."""


class UnixConnection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("sandboxd", timeout=120)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Machine:
    """One host. `name` is that of its configuration directory below /etc."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.config = tomllib.loads(Path(f"/etc/{name}/config.toml").read_text())
        self.domain: str = self.config["domain"]
        self.image: str = self.config["templates"][self.config["default_template"]]["image"]
        host, _, port = self.config["gateway"]["address"].partition(":")
        self.gateway = (host, int(port))
        self.manages: bool = self.config.get("fleet", {}).get("manages", False)  # a fleet

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, str], Any]:
        """Status, headers (lower case) and JSON of an answer of sandboxd."""
        connection = UnixConnection(self.config["socket"])
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        headers = {key.lower(): value for key, value in answer.getheaders()}
        return answer.status, headers, json.loads(content) if content else None

    def expect(self, status: int, method: str, path: str, body: object = None) -> Any:
        found, _, answer = self.ask(method, path, body)
        if found != status:
            raise Unexpected(f"{method} {path} answered {found}: {answer}")
        return answer

    def create(self, **more: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.expect(201, "POST", "/v2/sandboxes", {"name": MARK, **more})
        return answer

    def kill(self, sandbox_id: str) -> None:
        self.expect(204, "DELETE", f"/sandboxes/{sandbox_id}")

    def made(self) -> list[str]:
        """The ids of the sandboxes that the measurements made."""
        return [one["sandboxID"] for one in self.expect(200, "GET", "/v2/sandboxes") if one["name"] == MARK]

    def wait_for_pool(self, members: int = 0) -> None:
        """Until the pool is full (or has so many members) and at rest, so that its work spoils no measurement."""
        deadline = time.monotonic() + POOL_DEADLINE_S
        pool: Any = None
        while time.monotonic() < deadline:
            try:
                pool = self.expect(200, "GET", "/pool")
            except OSError:  # it starts anew, after Docker did
                time.sleep(0.2)
                continue
            if pool["warm"] >= (members or pool["size"]) and (members or not pool["starting"]):
                return
            time.sleep(0.05)
        raise Unexpected(f"the pool is not full after {POOL_DEADLINE_S:.0f} s: {pool}")

    def run_bare(self, *options: str, command: tuple[str, ...] = ("sleep", "infinity")) -> str:
        """A container of the sandboxes' image without anything of ours in it."""
        return run("docker", "run", "--detach", "--init", *LABEL, *options, self.image, *command)

    def bare(self) -> list[str]:
        return run("docker", "ps", "--all", "--quiet", "--filter", f"label={MARK}").split()

    def limit(self, wanted: int) -> int:
        """How many idle sandboxes fit beside what runs: networks, loop devices (where /dev is fixed) and memory."""
        free = {"networks": self._networks(), "loop devices": _loop_devices(), "memory": _memory_mb() // SANDBOX_MB}
        what = min(free, key=lambda name: free[name])
        if free[what] - 10 < wanted:  # the pool and others need some
            say(f"{what} suffice for {free[what]} more sandboxes only")
            return max(0, free[what] - 10)
        return wanted

    def clean(self) -> None:
        """Removes everything that is marked, whichever run made it."""
        for sandbox_id in self.made():
            self.ask("DELETE", f"/sandboxes/{sandbox_id}")
        for container in self.bare():
            remove(container)
        for network in run("docker", "network", "ls", "--quiet", "--filter", f"label={MARK}").split():
            run("docker", "network", "rm", network)

    def _networks(self) -> int:
        daemon = json.loads(Path("/etc/docker/daemon.json").read_text())
        pools = daemon.get("default-address-pools", [])
        size = sum(2 ** (one["size"] - ipaddress.ip_network(one["base"]).prefixlen) for one in pools)
        return int(size) - len(run("docker", "network", "ls", "--quiet").split())


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(*command: str, timeout_s: float = 600) -> str:
    """The trimmed output. Raises Unexpected, with the end of what it said, when the command fails."""
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout_s)
    if done.returncode:
        raise Unexpected(f"{' '.join(command[:4])} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()


def remove(*containers: str) -> None:
    run("docker", "rm", "--force", "--volumes", *containers)


def _loop_devices() -> int:
    """A real host's /dev grows as needed; that of a container has the nodes that it was given."""
    if any(line.split()[:2] == ["devtmpfs", "/dev"] for line in Path("/proc/mounts").read_text().splitlines()):
        return sys.maxsize
    used = len(list(Path("/sys/block").glob("loop*/loop/backing_file")))
    return len(list(Path("/dev").glob("loop[0-9]*"))) - used


def _memory_mb() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) // 1024
