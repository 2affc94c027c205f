"""A fleet under test: labs with fixed addresses, deployed together, cut off, killed, and looked at one by one."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import lab
from deploys import ROOT
from deploys.fleetengine import socket
from deploys.hosts import targets
from lab import docker
from lab.settings import SHARED, STATE_DIR
from tests.host.conftest import LAB_SETTINGS, remove
from tests.host.machine import REPORTS, Machine, Report, Sandbox, eventually, read_report
from tools.remote import RemoteError

# The names of the labs, by which the fleet knows its hosts, and their addresses.
LABS = {"fa": "10.231.0.11", "fb": "10.231.0.12", "fc": "10.231.0.13", "fd": "10.231.0.14"}
# Small, for a lease reserves what the template allows: the labs have the processors of this machine, each all of them.
SMALL = {"base": {"context": "sandbox", "memory_mb": 256, "cpus": 0.1, "pids": 256}}
SHARE = STATE_DIR / "shared"  # what all of them have mounted
FENCE = "/usr/local/sbin/fence"  # `test_kept` writes it
SETTINGS = LAB_SETTINGS | {
    "templates": json.dumps(SMALL),
    "pool_size": "2",
    "shared_storage": SHARED,
    "fence_command": FENCE,
    "fence_after_s": "10",
}
LIMIT_S = 300  # of waiting for what comes soon, unless it never comes
# What Swarm answers on a slow machine, or between two leaders. Nothing was made then, and one is to try again.
NOT_NOW = re.compile(r"Swarm has not placed|have no leader|fleet engine of this host takes more than")
UNREACHABLE = re.compile(r"lost: node (\S+) unreachable since 20[0-9-]+T[0-9:.]+Z")
MISSED = r"s/^WARNING fleet\.nodes: lost: node \([^ ]*\) .*/\1/p"
# Neither side hears the other any more, and nobody is told: as when a cable is pulled.
CUT = """
table inet cut {
    chain input { type filter hook input priority -400; policy accept; iifname "eth0" drop; }
    chain forward { type filter hook forward priority -400; policy accept; iifname "eth0" drop; oifname "eth0" drop; }
    chain output { type filter hook output priority -400; policy accept; oifname "eth0" drop; }
}
"""

ONE_MANAGER = {
    "fa": ("manager", "ready", True),
    "fb": ("worker", "ready", False),
    "fc": ("worker", "ready", False),
}


class Host(Machine):
    """One of a fleet. Whoever stands still for 3 s is lost for a moment, and what is asked for there is refused: it has
    not begun, and comes again.
    """

    def run(self, command: str, *, check: bool = True, stdin: bytes | None = None) -> subprocess.CompletedProcess[str]:
        give_up = time.monotonic() + LIMIT_S
        while True:
            try:
                return super().run(command, check=check, stdin=stdin)
            except RemoteError as error:
                refused = "ended with exit code 5" in str(error) and UNREACHABLE.search(str(error))
                if not refused or time.monotonic() > give_up:
                    raise
            time.sleep(0.5)


class Fleet:
    """`managers` and `workers` are names of labs, as the inventory has them at this moment."""

    def __init__(self, managers: Sequence[str], workers: Sequence[str]) -> None:
        self.managers, self.workers = list(managers), list(workers)
        self.members: dict[str, Machine] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for machine in self.members.values():
            machine.close()

    @property
    def names(self) -> list[str]:
        return [*self.managers, *self.workers]

    @property
    def manager(self) -> Machine:
        return self.members[self.managers[0]]

    def environment(self) -> dict[str, str]:
        """The environment in which make and pyinfra mean this fleet."""
        ours = {key: value for key, value in os.environ.items() if key not in ("ARGS", "MAKEFLAGS", "MAKEOVERRIDES")}
        named = {
            "HOST": "",
            "MANAGERS": " ".join(f"lab:{name}" for name in self.managers),
            "WORKERS": " ".join(f"lab:{name}" for name in self.workers),
            "SET": " ".join(shlex.quote(f"{key}={value}") for key, value in SETTINGS.items()),
        }
        return ours | named | {"PYINFRA_PROGRESS": "off"}

    def deploy(self) -> Report:
        """Make the labs that are missing, and one fleet of all, with the command that `make deploy` runs."""
        SHARE.mkdir(parents=True, exist_ok=True)
        for name in self.names:
            lab.up(name, debian="trixie", address=LABS[name], share=SHARE)
        started = time.monotonic()
        done = self._pyinfra()
        seconds = time.monotonic() - started
        assert done.returncode == 0, f"the deploy failed:\n{(done.stdout + done.stderr)[-6000:]}"
        for target in targets(self.environment()):
            if target.name in self.members:
                self.members[target.name].forget()
            else:
                self.members[target.name] = Host(target, lab.find(target.name))
        return read_report(done.stdout, seconds)

    def _pyinfra(self) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("pyinfra")), "inventory.py", "deploy.py"]
        done = self.run(*command, "--yes", "--json", "--fail-percent", "0")
        REPORTS.mkdir(exist_ok=True)
        (REPORTS / "deploy-fleet.log").write_text(done.stdout + done.stderr)
        return done

    def refusal(self) -> str:
        """What a deploy says that must not get through, in one line."""
        done = self._pyinfra()
        assert done.returncode != 0, "it was not refused"
        return " ".join((done.stdout + done.stderr).split())

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command of ours on this machine, that means this fleet."""
        return subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment() | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def gone(self, name: str) -> None:
        """A host that the inventory does not name: its lab goes, too."""
        self.members.pop(name).close()
        remove(name)

    # --- What each host itself says -----------------------------------------------------------------------------------

    def own(self, name: str) -> dict[str, dict[str, Any]]:
        """The sandboxes in use that a host has, by id, as its own sandboxd lists them."""
        machine = self.members[name]
        path = f"/run/{machine.settings.name}/{'node' if name in self.managers else 'sandboxd'}.sock"
        answer = machine.out(f"curl -fsS --unix-socket {path} http://sandboxd/v2/sandboxes")
        return {row["sandboxID"]: row for row in json.loads(answer)}

    def started(self, name: str) -> dict[str, str]:
        """Id -> when its container was started, of every sandbox in use on a host whose container runs."""
        show = shlex.quote("{{.Id}} {{.State.StartedAt}} {{.State.Running}}")
        found = self.members[name].out(f"echo {' '.join(self.own(name))} | xargs -r docker inspect --format {show}")
        lines = [line.split() for line in found.splitlines()]
        return {container[:12]: at for container, at, running in lines if running == "true"}

    # --- What the fleet says ------------------------------------------------------------------------------------------

    def listed(self, machine: Machine | None = None) -> dict[str, dict[str, Any]]:
        """`docker-sandbox list --json` on a manager, by id."""
        return {row["sandboxID"]: row for row in (machine or self.manager).listed()}

    def nodes(self, machine: Machine | None = None) -> dict[str, dict[str, Any]]:
        """`docker-sandbox node ls --json` on a manager, by name."""
        return {row["name"]: row for row in json.loads((machine or self.manager).out("docker-sandbox node ls --json"))}

    def leases(self, name: str) -> int:
        """How many leases run on a host, as its fleet engine says."""
        machine = self.members[name]
        return len(machine.out(f"{self._engine(machine)} ps --quiet").split())

    def unbooked(self) -> dict[str, int]:
        """How many leases each host lacks, for its sandboxes and the members of its pools."""
        warm = {name: row["warm"] for name, row in self.nodes().items()}
        return {name: len(self.own(name)) + warm[name] - self.leases(name) for name in self.names}

    def node_id(self, name: str) -> str:
        """By which the Swarm knows the host; it is in the host's certificate."""
        return self.members[name].out(f"{self._engine(self.members[name])} info --format '{{{{.Swarm.NodeID}}}}'")

    def in_swarm(self, machine: Machine | None = None) -> dict[str, str]:
        """What Swarm takes each host for, Ready or Down, by name. Raises RemoteError while there is no leader, for whom
        an engine would wait.
        """
        asked, show = machine or self.manager, shlex.quote("{{.Hostname}} {{.Status}}")
        lines = asked.out(f"timeout 5 {self._engine(asked)} node ls --format {show}").splitlines()
        return {name: status for name, status in (line.split() for line in lines)}

    def missed(self) -> Counter[str]:
        """How often the manager has lost each host, as its log says."""
        log = f"journalctl --unit {self.manager.unit('fleet')} --output cat --no-pager"
        return Counter(self.manager.out(f"{log} | sed -n {shlex.quote(MISSED)}").split())

    def _engine(self, machine: Machine) -> str:
        return f"docker --host unix://{socket(machine.settings)}"

    def create(self, options: str = "", machine: Machine | None = None) -> subprocess.CompletedProcess[str]:
        """What becomes of an init. Who is told to try again, since nothing was made yet, does so."""
        return eventually(
            lambda: (machine or self.manager).run(f"docker-sandbox init {options}", check=False),
            lambda done: done.returncode == 0 or not NOT_NOW.search(done.stderr),
            LIMIT_S,
            "word from Swarm",
        )

    def init(self, options: str = "", machine: Machine | None = None) -> str:
        """The id of a new sandbox."""
        done = self.create(options, machine)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def wait_for(self, state: str, name: str, machine: Machine | None = None) -> None:
        """`node ls` shows the host in that state."""
        eventually(lambda: self.nodes(machine), lambda rows: rows[name]["state"] == state, LIMIT_S, f"{name} {state}")

    def wait_for_roles(self, wanted: dict[str, tuple[str, str, bool]]) -> None:
        """`node ls` shows these hosts with their role and state, and who leads."""
        eventually(
            lambda: {name: (row["role"], row["state"], row["leader"]) for name, row in self.nodes().items()},
            lambda rows: rows == wanted,
            LIMIT_S,
            "such hosts",
        )

    def wait_until_down(self, name: str) -> None:
        """Swarm gives no lease there any more. It misses a host some seconds later than the manager."""
        eventually(self.in_swarm, lambda found: found[name] == "Down", LIMIT_S, f"{name} down")

    def wait_for_full_pools(self) -> None:
        """On all hosts, which are all ready."""
        wanted = int(SETTINGS["pool_size"])

        def full(rows: dict[str, dict[str, Any]]) -> bool:
            return all((rows[name]["state"], rows[name]["warm"]) == ("ready", wanted) for name in self.names)

        eventually(self.nodes, full, LIMIT_S, "full pools")

    def wait_for_states(self, wanted: dict[str, str], machine: Machine | None = None) -> None:
        """The list has these sandboxes in these states. A host that says nothing for 3 s is lost for a moment, as it
        may be on a machine that does much else.
        """
        eventually(
            lambda: {id: row["state"] for id, row in self.listed(machine).items()},
            lambda states: wanted.items() <= states.items(),
            LIMIT_S,
            "such states",
        )

    # --- Faults -------------------------------------------------------------------------------------------------------

    def container(self, name: str) -> str:
        found = self.members[name].lab
        assert found is not None
        return found.container

    @contextmanager
    def cut_off(self, name: str) -> Iterator[None]:
        """In the block no packet comes to the host or from it, but for what it says to itself."""
        container = self.container(name)
        docker.docker("exec", container, "sh", "-c", f"echo {shlex.quote(CUT)} | nft -f -")
        try:
            yield
        finally:
            docker.docker("exec", container, "nft", "delete", "table", "inet", "cut")

    @contextmanager
    def killed(self, name: str) -> Iterator[None]:
        """In the block the host is down, as when its power has failed."""
        machine = self.members[name]
        docker.docker("kill", self.container(name))
        try:
            yield
        finally:
            machine.lab = lab.up(name)
            machine.restarted(machine.target)


def says(sandbox: Sandbox, command: str, wanted: str) -> None:
    """Its host may be lost for a moment: see `Fleet.wait_for_states`."""
    eventually(lambda: sandbox.out(command), lambda said: said == wanted, LIMIT_S, wanted)
