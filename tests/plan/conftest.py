"""`--renew`, and the plans, which a process beside the tests makes (see tests/plan/planner.py)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.plan.scenario import Plan, Scenario

ROOT = Path(__file__).resolve().parents[2]
MakePlan = Callable[[Scenario], Plan]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--renew", action="store_true", help="write the golden plans anew instead of comparing with them")


@pytest.fixture(scope="session")
def planner() -> Iterator[subprocess.Popen[str]]:
    """The planner's process, with no more of this environment than a shell needs."""
    environment = {key: os.environ[key] for key in ("HOME", "PATH") if key in os.environ}
    environment |= {"PYINFRA_PROGRESS": "off", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "tests.plan.planner"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        assert process.stdin
        process.stdin.close()


@pytest.fixture(scope="session")
def make_plan(planner: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory) -> MakePlan:
    """Plan a scenario; the same scenario is planned once."""
    made: list[tuple[Scenario, Plan]] = []

    def make(scenario: Scenario) -> Plan:
        for known, plan in made:
            if known == scenario:
                return plan
        folder = tmp_path_factory.mktemp("plan")
        scenario.write(folder / "scenario.json")
        assert planner.stdin and planner.stdout
        planner.stdin.write(f"{folder}\n")
        planner.stdin.flush()
        status = planner.stdout.readline().strip()
        output = (folder / "output.txt").read_text()
        if status != "0":
            pytest.fail(f"the planner itself failed ({status}):\n{output}", pytrace=False)
        plan = Plan.parse((folder / "plan.json").read_text(), output)
        made.append((scenario, plan))
        return plan

    return make
