"""One fleet for all tests of this folder: three labs, and a fourth for those that want one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.host.conftest import remove
from tests.host.fleet.labs import LABS, SHARE, Fleet


@pytest.fixture(scope="session")
def fleet(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """A manager and two workers, deployed together."""
    keep = bool(request.config.getoption("--keep-lab"))
    if not keep:
        remove_all()
    with Fleet(["fa"], ["fb", "fc"]) as made:
        made.deploy()
        yield made
    if not keep:
        remove_all()


def remove_all() -> None:
    for name in LABS:
        remove(name)
    if SHARE.exists():
        shutil.rmtree(SHARE)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Add what the fleet and its services say to the report of a test that failed."""
    outcome: Any = yield
    report = outcome.get_result()
    found = getattr(item, "funcargs", {}).get("fleet")
    if report.when == "call" and report.failed and isinstance(found, Fleet):
        report.sections.append(("state of the fleet", diagnosis(found)))


def diagnosis(fleet: Fleet) -> str:
    parts = []
    for name, machine in fleet.members.items():
        units = " ".join(f"--unit {machine.unit(one)}" for one in ("fleet", "sandboxd", "swarmd"))
        commands = ["docker-sandbox list"] + (["docker-sandbox node ls"] if name in fleet.managers else [])
        for command in [*commands, f"journalctl {units} --no-pager --lines 25 --output short-unix"]:
            done = machine.run(f"timeout 20 {command}", check=False)
            parts.append(f"--- {name}: {command}\n{(done.stdout + done.stderr).strip()}")
    return "\n".join(parts)
