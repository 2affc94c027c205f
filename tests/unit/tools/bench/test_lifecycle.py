"""What is counted of many at once, with a machine that answers as it is told."""

import threading
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from tools.bench.host import run
from tools.bench.host.lifecycle import parallel
from tools.bench.host.machine import Machine
from tools.bench.host.measure import Scale

RETRY = {"retry-after": "1"}


class Answers(Machine):
    """sandboxd that gives these answers, one for each create, and lists what it made and `more`."""

    def __init__(self, answers: list[tuple[int, dict[str, str]]], more: tuple[str, ...] = ()) -> None:
        self._answers, self._lock = deque(answers), threading.Lock()
        self._made = list(more)

    def limit(self, wanted: int) -> int:
        return wanted

    def wait_for_pool(self, members: int = 0) -> None:
        pass

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, str], Any]:
        with self._lock:
            status, headers = self._answers.popleft()
            made = f"{len(self._answers):012x}"
            if status == 201:
                self._made.append(made)
        return status, headers, {"sandboxID": made}

    def made(self) -> list[str]:
        return self._made

    def kill(self, sandbox_id: str) -> None:
        pass

    def run_bare(self, *options: str, command: tuple[str, ...] = ()) -> str:
        return "bare"

    def bare(self) -> list[str]:
        return []


def measured(machine: Machine) -> dict[str, Any]:
    return parallel(machine, Scale(parallel=4))[0]


def test_a_refusal_with_retry_after_is_no_loss_and_no_success() -> None:
    row = measured(Answers([(201, {}), (503, RETRY), (201, {}), (429, RETRY)]))
    assert (row["n"], row["ours"]["success"], row["met"]) == (4, 0.5, True)


@pytest.mark.parametrize("answer", [(503, {}), (500, RETRY)])
def test_any_other_refusal_is_a_loss(answer: tuple[int, dict[str, str]]) -> None:
    assert measured(Answers([(201, {}), answer, (201, {}), (201, {})]))["met"] is False


def test_a_sandbox_that_nobody_was_told_of_is_a_loss() -> None:
    assert measured(Answers([(201, {})] * 4, more=("aaaaaaaaaaaa",)))["met"] is False


def test_a_host_that_is_not_deployed_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run.main(["no-such-host", "quick"]) == 1
    assert "/etc/no-such-host/config.toml" in capsys.readouterr().err
