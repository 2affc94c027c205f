"""Where the attacks sit: two sandboxes, one of which attacks the other and the host, and how programs get into them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploys.settings import RUNSC
from tests.host.machine import Machine, Sandbox

HERE = Path(__file__).parent
USERS = ("user", "root")
FOUND, ENGINE, REBOOT = "as-it-is", "engine-restarted", "rebooted"  # when it is attacked


@dataclass(frozen=True)
class Seats:
    machine: Machine
    attacker: Sandbox
    victim: Sandbox

    @property
    def gvisor(self) -> bool:
        """Whether what the attacker asks of the kernel is asked of a kernel of his own."""
        return gvisor(self.attacker)


@contextmanager
def seated(machine: Machine, template: str, options: str = "") -> Iterator[Seats]:
    """`options` are those of the attacker's `init`."""
    words = f"--template {template}"
    with machine.sandbox(f"{words} {options}") as attacker, machine.sandbox(words) as victim:
        yield Seats(machine, attacker, victim)


def gvisor(sandbox: Sandbox) -> bool:
    return str(sandbox.inspect()["HostConfig"]["Runtime"]) == RUNSC


def address(sandbox: Sandbox) -> str:
    """Of the sandbox in its own network."""
    return str(next(iter(sandbox.inspect()["NetworkSettings"]["Networks"].values()))["IPAddress"])


def bring(sandbox: Sandbox, program: str) -> str:
    """Puts a program of this directory into a sandbox. Returns its path there."""
    path = f"/tmp/{program}"
    sandbox.run(f"cat >{path}", stdin=(HERE / program).read_bytes())
    return path


def ran(sandbox: Sandbox, line: str, user: str = "user", check: bool = True) -> str:
    """What a command line prints that is run as `user`, or as the root that `user` becomes with sudo.

    gVisor gives set-uid programs no rights: there root is whom the agent makes root.
    """
    if user == "user":
        done = sandbox.run(line, check=check)
    elif gvisor(sandbox):
        done = sandbox.run(line, "--user root", check=check)
    else:
        done = sandbox.run(f"sudo -n bash -c {shlex.quote(line)}", check=check)
    return done.stdout.strip()


def told(sandbox: Sandbox, program: str, question: Any, user: str = "user") -> dict[str, str]:
    """What a program of this directory prints, asked inside."""
    line = shlex.join(["python3", bring(sandbox, program), json.dumps(question)])
    return dict(json.loads(ran(sandbox, line, user)))
