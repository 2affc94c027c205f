"""`--renew`, and the plans, which a process beside the tests makes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.plan.process import planner
from tests.plan.scenario import Plan, Scenario

MakePlan = Callable[[Scenario], Plan]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--renew", action="store_true", help="write the golden plans anew instead of comparing with them")


@pytest.fixture(scope="session")
def make_plan() -> MakePlan:
    """Plan a scenario; the same scenario is planned once."""
    made: list[tuple[Scenario, Plan]] = []

    def make(scenario: Scenario) -> Plan:
        for known, plan in made:
            if known == scenario:
                return plan
        plan = planner().plan(scenario)
        made.append((scenario, plan))
        return plan

    return make
