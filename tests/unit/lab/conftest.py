"""A machine that runs nothing: programs answer from a script, and everything that was run can be compared."""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lab import create, docker, engine, host, mirror, registries, state
from lab.errors import LabError

Answer = tuple[int, str, str]
"""Exit code, standard output, standard error."""


class Machine:
    """Stands in for `lab.docker.run`. Refuses what the test did not foresee."""

    def __init__(self) -> None:
        self.script: list[tuple[tuple[str, ...], Callable[[], Answer]]] = []
        self.ran: list[list[str]] = []

    def answer(self, *start: str, code: int = 0, out: str = "", err: str = "") -> None:
        """Answer like this to commands that start with these words; what was said last counts."""
        self.script.insert(0, (start, lambda: (code, out, err)))

    def run(
        self,
        command: Sequence[str],
        *,
        stdin: str | None = None,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        words = list(command)
        self.ran.append(words)
        for start, respond in self.script:
            if tuple(words[: len(start)]) == start:
                code, out, err = respond()
                if check and code:
                    raise LabError(f"{' '.join(words)} failed with exit code {code}:\n{err}")
                return subprocess.CompletedProcess(words, code, out, err)
        raise AssertionError(f"nobody foresaw: {' '.join(words)}")

    def ran_with(self, *start: str) -> list[list[str]]:
        """Return the commands that started with these words."""
        return [words for words in self.ran if tuple(words[: len(start)]) == start]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine without programs, until the test gives it some."""
    fake = Machine()
    for module in (docker, engine, mirror, registries, state):
        monkeypatch.setattr(module, "run", fake.run)
    return fake


def inspected(name: str = "web", running: bool = True, suite: str = "trixie", address: str = "") -> dict[str, Any]:
    """Return what `docker inspect` says of a lab, as far as it is read; `address` is one that it keeps."""
    joined: dict[str, Any] = {"IPAddress": (address or "203.0.113.7") if running else "", "IPAMConfig": None}
    if address:
        joined["IPAMConfig"] = {"IPv4Address": address}
    return {
        "Config": {
            "Image": "img:1",
            "Labels": {"sandbox.lab": name, "sandbox.lab.root": "0123", "sandbox.lab.debian": suite},
        },
        "State": {"Running": running},
        "NetworkSettings": {
            "Networks": {"sandbox-lab-10.231.0.0" if address else "bridge": joined},
            "Ports": {"443/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8443"}]} if running else {},
        },
    }


@pytest.fixture
def engine_with(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Machine]:
    """Return a function that makes the machine's engine hold these labs, booted, with keys that are known."""
    monkeypatch.setattr(host, "State", lambda name: state.State(name, tmp_path))
    monkeypatch.setattr(create, "State", lambda name: state.State(name, tmp_path))
    for module in (create, host):
        monkeypatch.setattr(module, "STATE_DIR", tmp_path)

    def hold(*containers: dict[str, Any]) -> Machine:
        names = [container["Config"]["Labels"]["sandbox.lab"] for container in containers]
        machine.answer("docker", "ps", out="\n".join(names))
        machine.answer("docker", "inspect", *names, out=json.dumps(containers))
        machine.answer("docker", "exec", out="ssh-ed25519 HOSTKEY root@lab\n")
        machine.answer("docker", "volume", "ls")
        machine.answer("docker", "info", out='{"CgroupVersion": "2"}')
        machine.answer("ssh")
        for name in names:
            machine.answer("docker", "exec", f"sandbox-lab-{name}", "systemctl", out="running\n")
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "key").write_text("private")
            (tmp_path / name / "key.pub").write_text("ssh-ed25519 AAAA")
        return machine

    return hold
