"""A machine that runs nothing: programs answer from a script, and everything that was run can be compared."""

import subprocess
from collections.abc import Callable, Mapping, Sequence

import pytest

from lab import docker, engine, mirror, registries, state
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
