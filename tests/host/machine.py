"""A sandbox host under test: commands, requests, deploys and sandboxes, with what a person needs when one fails."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import testinfra
from testinfra.host import Host

import lab
from deploys import ROOT
from deploys.hosts import Target
from deploys.settings import MANAGER
from tools.remote import Remote, RemoteError

T = TypeVar("T")
REPORTS = ROOT / "reports"


@dataclass
class Report:
    """What one run of pyinfra did: the names of the operations that changed something, and the time it took."""

    changed: list[str]
    failed: list[str]
    seconds: float


class Machine(Remote):
    """One host. `host` is its testinfra view; `lab` the lab that it is, None for a host that somebody named."""

    def __init__(self, target: Target, machine_lab: lab.Lab | None = None) -> None:
        super().__init__(target)
        self.lab = machine_lab
        self.host = self._view()

    def _view(self) -> Host:
        options = "controlpersist=0&timeout=60" + ("&sudo=true" if self.target.user != "root" else "")
        return testinfra.get_host(f"ssh://{self.target.name}?{options}", ssh_config=str(self.ssh_config))

    @property
    def project(self) -> str:
        return self.settings.project

    def unit(self, name: str) -> str:
        """A unit's whole name: `container-pool` -> `flourisha-container-pool.service`."""
        return f"{self.project}-{name}.service"

    def environment(self) -> dict[str, str]:
        """The environment in which make, pyinfra and our tools mean this host, with its settings.

        A `make test ARGS=...` that runs this is no business of theirs.
        """
        ours = {key: value for key, value in os.environ.items() if key not in ("ARGS", "MAKEFLAGS", "MAKEOVERRIDES")}
        settings = " ".join(shlex.quote(f"{key}={value}") for key, value in self.target.settings.items())
        return ours | ({"LAB": self.lab.name, "HOST": "", "SET": settings} if self.lab else {})

    def deploy(self, *arguments: str, script: str = "deploy.py", **environment: str) -> Report:
        """Run pyinfra on this host. Fails with the end of its output when the deploy fails."""
        started = time.monotonic()
        done = self.pyinfra(script, "--yes", "--json", "--fail-percent", "0", *arguments, **environment)
        seconds = time.monotonic() - started
        REPORTS.mkdir(exist_ok=True)
        (REPORTS / f"{Path(script).stem}-{self.target.name}.log").write_text(done.stdout + done.stderr)
        if done.returncode != 0:
            raise AssertionError(f"{script} failed on {self.target.name}:\n{(done.stdout + done.stderr)[-6000:]}")
        return read_report(done.stdout, seconds)

    def pyinfra(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run pyinfra on this host with its settings, as `make deploy` does."""
        command = [str(Path(sys.executable).with_name("pyinfra")), "inventory.py", script, *arguments]
        return subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment() | {"PYINFRA_PROGRESS": "off"} | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def reboot(self) -> None:
        """Stop the lab in order, start it, and wait for SSH. Its address may change."""
        if self.lab is None:
            raise AssertionError("only a lab is rebooted")
        self.lab = self.lab.restart()
        data = self.lab.pyinfra_data()
        self.restarted(Target(**{**vars(self.target), "address": data["ssh_hostname"], "port": data["ssh_port"]}))
        self.host = self._view()

    @contextmanager
    def sandbox(self, options: str = "") -> Iterator[Sandbox]:
        """A sandbox that is removed at the end of the block, unless the block did."""
        sandbox = Sandbox(self, self.out(f"docker-sandbox init {options}"))
        try:
            yield sandbox
        finally:
            self.run(f"docker-sandbox kill {sandbox.id}", check=False)

    def listed(self) -> list[dict[str, Any]]:
        """`docker-sandbox list --json`."""
        return list(json.loads(self.out("docker-sandbox list --json")))

    def info(self, sandbox: str) -> dict[str, Any]:
        """`docker-sandbox info --json`."""
        return dict(json.loads(self.out(f"docker-sandbox info {sandbox} --json")))

    def gateway(self, command: str, socket: str = "/run/haproxy/admin.sock") -> str:
        """The answer of HAProxy's admin socket, or of another HAProxy's."""
        program = (
            "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
            "s.sendall(sys.argv[2].encode() + b'\\n'); print(s.makefile().read())"
        )
        return self.out(f"python3 -c {shlex.quote(program)} {socket} {shlex.quote(command)}")

    def pool(self) -> dict[str, Any]:
        """`docker-sandbox pool status --json`: sums, and in `pools` each one for itself."""
        return dict(json.loads(self.out("docker-sandbox pool status --json")))

    def findings(self, flags: str = "--no-probe") -> dict[str, dict[str, str]]:
        """What doctor finds, by name. Raises RemoteError while the daemon is away, for then nobody looks."""
        done = self.run(f"docker-sandbox doctor --json {flags}", check=False)
        if done.returncode not in (0, 1) or not done.stdout:
            raise RemoteError(f"{self.target.name}: doctor ended with exit code {done.returncode}: {done.stderr}")
        return {one["name"]: one for one in json.loads(done.stdout)["findings"]}

    def wait_for_full_pool(self) -> dict[str, Any]:
        """The status of the pools once they are full."""
        return eventually(
            self.pool, lambda pool: pool["warm"] == pool["size"] and pool["starting"] == 0, 180, "full pools"
        )

    def renew_pool(self) -> None:
        """The members are made anew: they keep what the host was when they were made, its name servers for one."""
        self.run("docker-sandbox pool drain && docker-sandbox pool start --wait", check=False)

    def members(self, template: str = "") -> list[str]:
        """Ids of the members of the pool of a template, the default one if it is not said."""
        label = f"sandbox.template={template or self.settings.default_template}"
        return self.out(f"docker ps --quiet --filter name={self.project}-pool- --filter label={label}").split()

    def running_ours(self) -> dict[str, str]:
        """Name -> StartedAt of every running container, to compare before and after."""
        names = "docker ps --quiet | xargs -r docker inspect --format '{{.Name}} {{.State.StartedAt}}'"
        return dict(line.split() for line in self.out(names).splitlines())

    def diagnosis(self) -> str:
        """What a person wants to see first when a test failed."""
        commands = {
            "failed units": "systemctl --failed --no-legend --plain",
            "containers": "docker ps --all --format 'table {{.Names}}\\t{{.Status}}\\t{{.Image}}'",
            "sandboxes": "docker-sandbox list",
            "pool": "docker-sandbox pool status",
            "routes": "docker-sandbox routes status",
            "sandboxd": f"journalctl --unit {self.unit('sandboxd')} --no-pager --lines 15 --output cat",
            "gateway": "journalctl --unit haproxy --no-pager --lines 15 --output cat",
            "traefik": "docker logs --tail 5 traefik 2>&1",
        }
        parts = []
        for title, command in commands.items():
            done = self.run(command, check=False)
            parts.append(f"--- {title}\n{(done.stdout + done.stderr).strip()}")
        return "\n".join(parts)


class Member(Machine):
    """A host of a fleet, looked at for itself: `docker-sandbox` means this host alone, on a manager, too."""

    def __init__(self, target: Target, machine_lab: lab.Lab | None = None) -> None:
        super().__init__(target, machine_lab)
        self._commands = ""
        if self.settings.fleet_role == MANAGER:
            own = f"{self.settings.lib}/docker-sandbox-node"
            self._commands = self.out(f"made=$(mktemp -d) && ln -s {own} $made/docker-sandbox && echo $made")

    def command(self, command: str) -> list[str]:
        return super().command(f"PATH={self._commands}:$PATH; {command}" if self._commands else command)

    def close(self) -> None:
        if self._commands:
            self.run(f"rm -r {self._commands}", check=False)
        super().close()


@dataclass(frozen=True)
class Sandbox:
    """One sandbox on a machine."""

    machine: Machine
    id: str

    def run(
        self, command: str, options: str = "", check: bool = True, stdin: bytes | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`docker-sandbox exec`. Fails when the command does and `check` is set."""
        return self.machine.run(
            f"docker-sandbox exec {self.id} {shlex.quote(command)} {options}", check=check, stdin=stdin
        )

    def out(self, command: str, options: str = "") -> str:
        return self.run(command, options).stdout.strip()

    def url(self, port: int | None = None) -> str:
        return self.machine.out(f"docker-sandbox get-host {self.id}{f' --port {port}' if port else ''}")

    def inspect(self) -> dict[str, Any]:
        """`docker inspect` of its container."""
        return dict(json.loads(self.machine.out(f"docker inspect {self.id}"))[0])

    def token(self) -> str:
        """The agent's token, which only sandboxd's own socket tells."""
        socket = f"/run/{self.machine.settings.name}/sandboxd.sock"
        answer = self.machine.out(f"curl -fsS --unix-socket {socket} http://sandboxd/sandboxes/{self.id}")
        return str(json.loads(answer)["envdAccessToken"])

    def serve(self, command: str, port: int = 8000) -> None:
        """Start a server in the background, and wait until its port is open."""
        self.run(f"exec {command} >/tmp/server-{port}.log 2>&1", "--background")
        self.run(f"timeout 60 sh -c 'until ss -Hltn sport = :{port} | grep -q .; do sleep 0.1; done'")


def eventually(look: Callable[[], T], good: Callable[[T], bool], seconds: float, what: str) -> T:
    """Look again and again until `good`; fails at the deadline with what was seen last.

    A command that fails on the host has seen nothing yet: what is waited for may be what it asks.
    """
    deadline = time.monotonic() + seconds
    while True:
        seen: T | RemoteError
        try:
            seen = look()
            if good(seen):
                return seen
        except RemoteError as error:
            seen = error
        if time.monotonic() > deadline:
            raise AssertionError(f"no {what} after {seconds} s; last seen: {seen!r}")
        time.sleep(0.1)


def read_report(output: str, seconds: float) -> Report:
    """The report that pyinfra prints with --json."""
    operations = json.loads(output)["results"]["operations"]
    return Report(
        changed=[operation["name"] for operation in operations if operation["success"]],
        failed=[operation["name"] for operation in operations if operation["error"]],
        seconds=seconds,
    )
