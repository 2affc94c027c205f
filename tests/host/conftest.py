"""The hosts under test: with --verify, those that were deployed already; else fresh labs of Debian 13 and 12."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

import lab
from deploys.hosts import HostError, Target, chosen
from deploys.settings import MANAGER
from lab import engine
from tests.host.machine import Machine, Member, Report

SUITES = ("trixie", "bookworm")
TEMPLATES = {
    "base": {"context": "sandbox"},
    "playwright": {"context": "playwright", "pids": 2048},
    "code-interpreter-v1": {"context": "code-interpreter"},
    "fullstack-vue-fastapi-node22": {"like": "base"},
    "fullstack-vue-fastapi-node22-max": {"like": "base", "cpus": 8.0, "memory_mb": 8192},
    "more": {
        "context": "sandbox",
        "apt_packages": ["tree"],
        "pip_packages": ["tomlkit==0.13.3"],
        "npm_packages": ["left-pad@1.3.0"],
        "memory_mb": 512,
        "cpus": 0.5,
        "pids": 256,
        "layer_mb": 1024,
    },
}
GVISOR = {"distrusted": {"like": "base", "runtime": "runsc"}}
GVISOR_SUITE = "trixie"  # Debian 12 has none that works
# The cleanup runs every minute, so that a test can see cron run it; and sshd takes keys alone, as on a host in earnest.
LAB_SETTINGS = {"cleanup_schedule": "* * * * *", "ssh_hardening": "true"}
LAST = ("test_redeploy", "test_reboot", "test_destroy")
# Those that take longest come first, so that the others can fill up the time of who is done with one.
OWN, FLEET = "hosts of their own", "fleet"
GROUPS = (*SUITES, OWN, FLEET)
# There the reboot comes first: all tests see both a host that was never rebooted and one that was, and none runs twice.
AFTER_REBOOT = "bookworm"
# What `make verify` looks at on each host of a fleet for itself, and on its managers for all of them.
OF_A_FLEET = "fleet_hosts"
OF_A_MEMBER = ("cis", "containers", "disk", "doctor", "edge", "engine", "firewall", "hardening", "images", "network")
DEPLOYED = pytest.StashKey[dict[str, Report]]()
VERIFIED = pytest.StashKey[dict[str, Target]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("hosts")
    group.addoption("--verify", action="store_true", help="check the hosts that HOST, hosts.toml or LAB name")
    group.addoption("--suite", choices=SUITES, help="only this Debian release")
    group.addoption("--moments", choices=("found", "all"), default="found", help="when the attack suite attacks")
    group.addoption("--orders", choices=("close", "all"), default="close", help="in which the fault suite kills parts")
    group.addoption("--keep-lab", action="store_true", help="use a lab of an earlier run again, and leave it up")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[DEPLOYED] = {}
    verified: dict[str, Target] = {}
    if config.getoption("--verify"):
        try:
            verified = {target.name: target for target in chosen(os.environ)}
        except HostError as error:
            raise pytest.UsageError(str(error)) from None
    config.stash[VERIFIED] = verified


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "machine" not in metafunc.fixturenames:
        return
    if metafunc.config.getoption("--verify"):
        verified = metafunc.config.stash[VERIFIED]
        names = list(verified)
    else:
        only = metafunc.config.getoption("--suite")
        marker = metafunc.definition.get_closest_marker("suite")
        names = [name for name in (marker.args if marker else SUITES) if only in (None, name)]
    metafunc.parametrize("machine", names, indirect=True, scope="session")


def host_of(item: pytest.Item) -> str:
    suite = getattr(item, "callspec", None)
    return str(suite.params.get("machine", "")) if suite else ""


def group_of(item: pytest.Item) -> str:
    return host_of(item) or (FLEET if item.path.parent.name == "fleet" else OWN)


def pytest_itemcollected(item: pytest.Item) -> None:
    """With `-n 2 --dist loadgroup` the groups are tested side by side, each by one process in its order."""
    item.add_marker(pytest.mark.xdist_group(group_of(item)))


def suitable(items: list[pytest.Item], roles: Mapping[str, str]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """The items that suit the role of their host in a fleet, and the others."""
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        module, role = item.path.stem.removeprefix("test_"), roles.get(host_of(item), "")
        fits = role == MANAGER if module == OF_A_FLEET else not role or module in OF_A_MEMBER
        (kept if fits else left_out).append(item)
    return kept, left_out


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """One group after the other; on each host, what only looks comes first, and the end of the host last.

    With --verify, of hosts of a fleet only what suits them.
    """
    roles = {name: target.settings.get("fleet_role", "") for name, target in config.stash[VERIFIED].items()}
    items[:], left_out = suitable(items, roles)
    config.hook.pytest_deselected(items=left_out)

    def rank(item: pytest.Item) -> tuple[int, int]:
        module, group = item.path.stem, group_of(item)
        first = GROUPS.index(group) if group in GROUPS else len(GROUPS)
        if module == "test_reboot" and group == AFTER_REBOOT:
            return first, -1
        return first, LAST.index(module) + 1 if module in LAST else 0

    items.sort(key=rank)


@pytest.fixture(scope="session")
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A deployed host."""
    if request.config.getoption("--verify"):
        target = request.config.stash[VERIFIED][request.param]
        kind = Member if target.settings.get("fleet_role") else Machine
        with kind(target, lab.find(target.name) if target.group == "lab" else None) as verified:
            yield verified
        return
    keep = bool(request.config.getoption("--keep-lab"))
    name = f"test-{request.param}"
    if not keep:
        remove(name)
    with Machine(*lab_target(name, request.param)) as made:
        request.config.stash[DEPLOYED][made.target.name] = made.deploy()
        yield made
    if not keep:
        remove(name)


def lab_target(name: str, suite: str, settings: dict[str, Any] | None = None) -> tuple[Target, lab.Lab]:
    """A lab that is up, and how the deploy reaches it."""
    up = lab.up(name, debian=suite)
    data = up.pyinfra_data()
    more = GVISOR if suite == GVISOR_SUITE else {}
    target = Target(
        name=name,
        address=data["ssh_hostname"],
        user=data["ssh_user"],
        port=data["ssh_port"],
        key=data["ssh_key"],
        known_hosts=data["ssh_known_hosts_file"],
        settings=LAB_SETTINGS | {"templates": json.dumps(TEMPLATES | more)} | (settings or {}),
        group="lab",
    )
    return target, up


def remove(name: str) -> None:
    """Remove a lab, if there is one. Starts the Docker engine, as `lab.up` does."""
    engine.ensure()
    for existing in lab.labs():
        if existing.name == name:
            existing.down()


@pytest.fixture
def first_deploy(request: pytest.FixtureRequest, machine: Machine) -> Report:
    """What the deploy of the fresh lab did."""
    return request.config.stash[DEPLOYED][machine.target.name]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Add the state of the host to the report of a test that failed on it."""
    outcome: Any = yield
    report = outcome.get_result()
    machine = getattr(item, "funcargs", {}).get("machine")
    if report.when == "call" and report.failed and isinstance(machine, Machine):
        report.sections.append((f"state of {machine.target.name}", machine.diagnosis()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """By what factor others became slower under attack, how soon a host came back, and what was counted of a fleet:
    figures, and no conditions.
    """
    reports = [*terminalreporter.stats.get("passed", []), *terminalreporter.stats.get("failed", [])]

    def told(wanted: str) -> list[Any]:
        return [row for report in reports for name, row in report.user_properties if name == wanted]

    counted, recovered, rows = told("fleet"), told("recovery"), told("latency")
    if counted:
        terminalreporter.section("fleet")
    for row in counted:
        terminalreporter.line(str(row))
    if recovered:
        terminalreporter.section("faults: seconds until everything worked again")
    for row in recovered:
        terminalreporter.line(f"{row['seconds']:6.1f} {row['fault']}")
    if rows:
        terminalreporter.section("latency of others under attack: medians in ms")
    for row in rows:
        factor = row["during_ms"] / row["quiet_ms"]
        times = f"quiet {row['quiet_ms']:6.1f}, during {row['during_ms']:6.1f}, slowest {row['slowest_ms']:7.1f}"
        line = f"{row['asked']:9} {times}, factor {factor:5.2f}, {row['answers']:4} answers, none lost: {row['attack']}"
        terminalreporter.line(line)
