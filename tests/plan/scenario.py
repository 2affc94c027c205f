"""What a plan is made from (hosts, their settings, what they answer), and the plan itself, as values."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Scenario:
    """Hosts by name with the settings that they override, and where their answers differ from a bare host's."""

    hosts: dict[str, dict[str, Any]]
    # Host name -> key of the preflight's summary -> value, e.g. {"box": {"os": "ubuntu"}}.
    summary: dict[str, dict[str, str]] = field(default_factory=dict)
    # Directories that the hosts have beside those of a bare host.
    directories: tuple[str, ...] = ()
    # A host on which a deploy has been: every condition of deploys.operations.when holds there.
    deployed: bool = False
    # Why a login by key alone fails there; "" when it does not.
    login_refused: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    deploy: str = "deploy.py"
    # Whose steps and files the plan has; "" for the first host.
    shown: str = ""
    # What pyinfra is called with beside inventory and deploy.py.
    arguments: tuple[str, ...] = ("--yes",)

    @classmethod
    def read(cls, file: Path) -> Scenario:
        content: dict[str, Any] = json.loads(file.read_text())
        content |= {key: tuple(content[key]) for key in ("directories", "arguments")}
        return cls(**content)

    def write(self, file: Path) -> None:
        file.write_text(json.dumps(asdict(self)))


@dataclass(frozen=True)
class Step:
    """One operation: its name, the condition that it carries, and the commands that a bare host got from it.

    `asked` are the facts that it asked for before, with their arguments.
    """

    name: str
    condition: str
    commands: list[str]
    asked: list[tuple[str, dict[str, Any]]]


@dataclass(frozen=True)
class Plan:
    """What pyinfra did: its exit status and output, the steps in order, and all that reached the host."""

    status: int
    output: str
    steps: list[Step]
    executed: list[str]
    unregistered: list[str]
    # The text files that were written to it, by their path on the host.
    files: dict[str, str]

    @classmethod
    def parse(cls, text: str, output: str) -> Plan:
        content = json.loads(text)
        steps = [Step(**step) for step in content["steps"]]
        return cls(output=output, steps=steps, **{key: value for key, value in content.items() if key != "steps"})
