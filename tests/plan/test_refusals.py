"""Wrong input stops a deploy before its first command, on every host, and says key, value and remedy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.plan import bare
from tests.plan.conftest import MakePlan
from tests.plan.scenario import Scenario
from tests.plan.scenarios import ACME, DOMAIN

# One process makes the plans of all these tests.
pytestmark = pytest.mark.xdist_group("plan")


@dataclass(frozen=True)
class Wrong:
    """One thing that is wrong with a host, and what its message must say: the key, the value and the remedy."""

    name: str
    says: tuple[str, str, str]
    settings: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, str] = field(default_factory=dict)


NGINX = '443 users:(("nginx",pid=7,fd=6))'
WRONG = [
    Wrong("no domain", ("domain", "''", "DOMAIN=example.com"), {"domain": ""}),
    Wrong("unknown setting", ("pool_sise", "= 3", "did you mean pool_size?"), {"pool_sise": 3}),
    Wrong("out of range", ("pool_size", "= 101", "between 0 and 100"), {"pool_size": 101}),
    Wrong("wrong type", ("default_port", "'http'", "use a whole number"), {"default_port": "http"}),
    Wrong("absent file", ("acme_credentials", "'/none'", "NAME=value"), {**ACME, "acme_credentials": "/none"}),
    Wrong("no PEM", ("extra_ca_certificates", "pyproject.toml", "PEM"), {"extra_ca_certificates": ["pyproject.toml"]}),
    Wrong("bad line", ("acme_credentials", "line 1", "not NAME=value"), {**ACME, "acme_credentials": "pyproject.toml"}),
    Wrong(
        "absent variable",
        ("acme_credentials", "'DNS_TOKEN'", "export it"),
        {**ACME, "acme_credentials": ["DNS_TOKEN"]},
    ),
    Wrong("absent user", ("skills_users", "'grace'", "create it"), {"skills_users": ["grace"]}),
    Wrong("Ubuntu", ("operating system", "'ubuntu noble'", "Debian 12"), summary={"os": "ubuntu", "suite": "noble"}),
    Wrong("Debian 11", ("operating system", "'debian bullseye'", "Debian 12"), summary={"suite": "bullseye"}),
    Wrong(
        "neither root nor sudo", ("ssh_user", "'ada'", "use root@"), {"ssh_user": "ada"}, {"uid": "1000", "sudo": ""}
    ),
    Wrong("no systemd", ("init system", "systemd", "not running"), summary={"systemd": ""}),
    Wrong("small disk", ("/var/lib", "= 500 MB", "at least 8192 MB"), summary={"free_mb": "500"}),
    Wrong("little memory", ("memory", "= 512 MB", "at least"), summary={"memory_mb": "512"}),
    Wrong("two uplinks", ("rp_filter", "eth0 and eth1", "use 2"), summary={"uplinks": "eth0 eth1"}),
    Wrong(
        "taken address",
        ("egress_address", "'198.18.0.1'", "dev bench0: the host reaches somebody there already"),
        summary={"taken": "198.18.0.0/15 dev bench0"},
    ),
    Wrong("busy port", ("port 443", "nginx", "stop nginx or move it"), summary={"ports": NGINX}),
    Wrong("another deploy", ("since 14:00", "two at once", "kill 4711"), summary={"turn": "4711 14:00"}),
    Wrong("one of a fleet", ("bad is one of a fleet", "single host", "MANAGERS="), summary={"fleet_engine": "yes"}),
    Wrong("another machine", ("machine", "'riscv64'", "x86_64 and aarch64"), summary={"machine": "riscv64"}),
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name)
def test_refused_before_the_first_command(wrong: Wrong, make_plan: MakePlan) -> None:
    good = {"domain": DOMAIN}
    hosts = {"good": good, "bad": {**good, **wrong.settings}}
    plan = make_plan(Scenario(hosts, {"bad": wrong.summary}))
    assert plan.status == 1
    assert plan.executed == [], "a command ran, though one host is wrong"
    assert plan.unregistered == []
    assert [word for word in wrong.says if word not in plan.output] == [], plan.output
    assert "Traceback" not in plan.output


def test_sandbox_users_are_looked_for_before_the_first_command(make_plan: MakePlan) -> None:
    plan = make_plan(Scenario({"bad": {"domain": DOMAIN, "sandbox_users": ["grace"]}}))
    assert plan.status == 1
    assert plan.executed == []
    assert [word for word in ("sandbox_users", "'grace'", "create it") if word not in plan.output] == []


def test_all_that_is_wrong_with_a_host_is_said_at_once(make_plan: MakePlan) -> None:
    summary = {"suite": "bullseye", "free_mb": "500", "ports": NGINX}
    plan = make_plan(Scenario({"bad": {"domain": DOMAIN}}, {"bad": summary}))
    assert [word for word in ("bullseye", "500 MB", "port 443", "bad cannot become") if word not in plan.output] == []


def test_a_question_without_an_answer_is_refused(make_plan: MakePlan) -> None:
    """The fake host itself: what tests/plan/bare.py does not know fails the plan, and does not pass as empty output."""
    with pytest.raises(bare.Unregistered, match="does not say what a bare host answers to"):
        bare.answer("deploys.facts.Output", {"command_line": "uptime"}, {})
    plan = make_plan(Scenario({"box": {"domain": DOMAIN}}, deploy="tests/plan/unregistered.py"))
    assert plan.status == 1
    assert "server.Hostname()" in plan.unregistered[0]
