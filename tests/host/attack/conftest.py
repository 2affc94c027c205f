"""What the attack suite shares: when it attacks, from which runtime, and the sandboxes that it sits in.

`make test-attack` attacks a host as it is, after its engine was restarted, and after a reboot; the host suite attacks
it as it is. Where a template says `runtime = "runsc"`, walls and load are tried from there, too. What a lying agent
does to the command line is the same whatever runs it: see test_liar.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from deploys.hosts import HostError, Target, chosen
from deploys.settings import RUNSC
from tests.host.attack.seats import ENGINE, FOUND, REBOOT, Seats, seated
from tests.host.conftest import GVISOR, GVISOR_SUITE, LAB_SETTINGS, TEMPLATES, host_of
from tests.host.machine import Machine, eventually


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what a host has not: a lab of Debian 12 has no template that runs in gVisor."""
    ours = [item for item in items if item.path.is_relative_to(os.path.dirname(__file__))]
    for item in ours:
        item.add_marker(pytest.mark.attack)
        item.add_marker(pytest.mark.disruptive)
    if not config.getoption("--verify"):
        absent = [item for item in ours if host_of(item) not in ("", GVISOR_SUITE) and template_of(item) in GVISOR]
        items[:] = [item for item in items if item not in absent]
        config.hook.pytest_deselected(items=absent)


def template_of(item: pytest.Item) -> str:
    return str(getattr(item, "callspec", None) and item.callspec.params.get("template", ""))  # type: ignore[attr-defined]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    verified = bool(metafunc.config.getoption("--verify"))
    if "moment" in metafunc.fixturenames:
        moments = [FOUND, ENGINE, REBOOT] if metafunc.config.getoption("--moments") == "all" else [FOUND]
        if verified and targets()[0].group != "lab":
            moments = [moment for moment in moments if moment != REBOOT]
        metafunc.parametrize("moment", moments, indirect=True, scope="session")
    if "template" in metafunc.fixturenames:
        metafunc.parametrize("template", templates(verified), scope="module")


def targets() -> list[Target]:
    try:
        return chosen(os.environ)
    except HostError as error:
        raise pytest.UsageError(str(error)) from None


def templates(verified: bool) -> list[str]:
    """The default template, and the first one of the runtime runsc, if there is one."""
    settings = LAB_SETTINGS | {"templates": json.dumps(TEMPLATES | GVISOR)}
    wanted = (targets()[0] if verified else Target("lab", "", settings=settings, group="lab")).load_settings()
    gvisor = [name for name, template in wanted.templates.items() if template.runtime == RUNSC]
    return list(dict.fromkeys([wanted.default_template, *gvisor[:1]]))


@pytest.fixture(scope="session")
def moment(request: pytest.FixtureRequest, machine: Machine) -> str:
    """The host, after what the parameter says."""
    if request.param == ENGINE:
        machine.run("systemctl restart docker")
    if request.param == REBOOT:
        machine.reboot()
        states = ("running", "degraded")
        look = "systemctl is-system-running"
        eventually(lambda: machine.run(look, check=False).stdout.strip(), lambda now: now in states, 120, "system")
    eventually(
        lambda: machine.run("docker-sandbox pool status", check=False).returncode, lambda code: code == 0, 120, "daemon"
    )
    machine.wait_for_full_pool()
    return str(request.param)


@pytest.fixture(scope="module")
def seats(machine: Machine, moment: str, template: str) -> Iterator[Seats]:
    """An attacker and a victim, made at this moment."""
    with seated(machine, template) as made:
        yield made
