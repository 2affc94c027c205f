"""Where the attacks sit: two sandboxes, one of which attacks the other and the host, and how programs get into them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.host.machine import Machine, Sandbox

HERE = Path(__file__).parent
USERS = ("user", "root")


@dataclass(frozen=True)
class Seats:
    machine: Machine
    attacker: Sandbox
    victim: Sandbox

    def victim_address(self) -> str:
        return address(self.victim)


@contextmanager
def seated(machine: Machine, template: str) -> Iterator[Seats]:
    with machine.sandbox(f"--template {template}") as attacker, machine.sandbox(f"--template {template}") as victim:
        yield Seats(machine, attacker, victim)


def address(sandbox: Sandbox) -> str:
    """Of the sandbox in its own network."""
    return str(next(iter(sandbox.inspect()["NetworkSettings"]["Networks"].values()))["IPAddress"])


def bring(sandbox: Sandbox, program: str) -> str:
    """Puts a program of this directory into a sandbox. Returns its path there."""
    path = f"/tmp/{program}"
    sandbox.run(f"cat >{path}", stdin=(HERE / program).read_bytes())
    return path


def command(path: str, *words: str, user: str = "user") -> str:
    """The command line that runs it as `user`, or as the root that `user` becomes with sudo."""
    return shlex.join([*(["sudo", "-n"] if user == "root" else []), "python3", path, *words])


def told(sandbox: Sandbox, program: str, question: Any, user: str = "user") -> dict[str, str]:
    """What a program of this directory prints, asked inside."""
    done = sandbox.out(command(bring(sandbox, program), json.dumps(question), user=user))
    return dict(json.loads(done))
