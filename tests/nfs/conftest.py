"""One virtual machine for all tests of this folder, with a server of NFS and the hosts `a` and `b`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from tests.nfs import image
from tests.nfs.machine import GuestError, Host, Machine

NUMBERS = itertools.count(1)
EVIDENCE = """
for client in /proc/fs/nfsd/clients/*; do echo "$client"; cat "$client/info" "$client/states"; done
for task in /proc/[0-9]*/task/[0-9]*; do
    grep -qs '^State:.D' "$task/status" && { echo; cat "$task/comm" "$task/stack"; }
done
true
"""
EVIDENCE_S = 20


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("nfs").addoption("--debian", default="bookworm", help="the release whose kernel and NFS are tested")


@pytest.fixture(scope="session")
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    with Machine(image.ensure(request.config.getoption("--debian"))) as booted:
        yield booted


@pytest.fixture(scope="session")
def server(machine: Machine) -> Host:
    return Host(machine, "server")


@pytest.fixture(scope="session")
def a(machine: Machine) -> Host:
    return Host(machine, "a")


@pytest.fixture(scope="session")
def b(machine: Machine) -> Host:
    return Host(machine, "b")


@pytest.fixture(autouse=True)
def mark(server: Host) -> None:
    """As a deploy leaves it."""
    server.run("echo 0123456789abcdef >/export/sandbox-volumes.id")


@pytest.fixture
def volume() -> str:
    """A name that no other test has: what a host has kept of one does not concern another."""
    return f"data-{next(NUMBERS)}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Add to the report of a test that failed what the server has of its clients, what hangs, and the console."""
    outcome: Any = yield
    report = outcome.get_result()
    machine = getattr(item, "funcargs", {}).get("machine") or getattr(item, "funcargs", {}).get("a")
    if report.failed and isinstance(machine, Host):
        machine = machine.machine
    if report.failed and isinstance(machine, Machine):
        report.sections.append(("clients of the server, and threads that hang", evidence(machine)))
        report.sections.append(("console of the virtual machine", machine.console()))


def evidence(machine: Machine) -> str:
    try:
        return str(machine.ask("server", "run", EVIDENCE, EVIDENCE_S).result(2 * EVIDENCE_S)["out"])
    except (GuestError, OSError) as error:
        return f"the virtual machine does not say: {error!r}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """On what it was seen: figures, and no conditions."""
    reports = terminalreporter.stats.get("passed", []) + terminalreporter.stats.get("failed", [])
    rows = [value for report in reports for name, value in report.user_properties if name == "nfs"]
    if rows:
        terminalreporter.section("NFS")
    for row in rows:
        terminalreporter.line(row)
