"""The planner's process, and the plans that it makes."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.plan.scenario import Plan, Scenario
from tests.plan.scenarios import CASES, FLEET, fleet

ROOT = Path(__file__).resolve().parents[2]


class PlannerError(Exception):
    """The planner itself failed; the message is its output."""


class Planner:
    """A running planner (tests/plan/planner.py)."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._folder = folder

    def plan(self, scenario: Scenario) -> Plan:
        """Raises PlannerError."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        scenario.write(folder / "scenario.json")
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{folder}\n")
        self._process.stdin.flush()
        status = self._process.stdout.readline().strip()
        output = (folder / "output.txt").read_text() if status else "see its standard error"
        if status != "0":
            raise PlannerError(f"the planner failed ({status or 'at its start'}):\n{output}")
        return Plan.parse((folder / "plan.json").read_text(), output)


@functools.cache
def planner() -> Planner:
    """The planner, started at its first use, with no more of this environment than a shell needs; it ends with us."""
    environment = {key: os.environ[key] for key in ("HOME", "PATH") if key in os.environ}
    environment |= {"PYINFRA_PROGRESS": "off"}
    folder = Path(tempfile.mkdtemp(prefix="plan-"))
    command = [sys.executable, "-m", "tests.plan.planner"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True)

    def stop() -> None:
        process.communicate()  # closes its input, which is its sign to end
        shutil.rmtree(folder)

    atexit.register(stop)
    return Planner(process, folder)


@functools.cache
def planned(case: str) -> Plan:
    """What a deploy of the case does to a bare host: of CASES, or one of the hosts of FLEET."""
    if case in FLEET:
        member = FLEET[case]
        return planner().plan(fleet(*member.roles, settings=member.settings, shown=member.shown))
    with tempfile.TemporaryDirectory(prefix="workstation-") as folder:
        return planner().plan(CASES[case].scenario(Path(folder)))


def placed(case: str) -> Mapping[str, str]:
    """The text files that a deploy of the case writes to a bare host, by their path on the host."""
    plan = planned(case)
    if plan.status != 0:
        raise PlannerError(plan.output)
    return plan.files


def rendered(template: str, case: str) -> str | None:
    """What a deploy of the case makes of `templates/<template>.j2`; None when it does not place it."""
    project = CASES[case].settings.get("project", "flourisha") if case in CASES else "flourisha"
    return placed(case).get("/" + template.replace("project-", f"{project}-"))
