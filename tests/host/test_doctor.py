"""`docker-sandbox doctor` on a real host: nothing fails on one that is well, and what is broken is named."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from deploys.docker import gvisor
from tests.host.machine import Machine, eventually

PROBE = ["probe-made", "probe-command", "probe-limits", "probe-url", "probe-removed"]


def examine(machine: Machine, flags: str = "") -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code, and findings by name."""
    done = machine.run(f"docker-sandbox doctor --json {flags}", check=False)
    return done.returncode, {one["name"]: one for one in json.loads(done.stdout)["findings"]}


def probe(machine: Machine) -> list[str]:
    """Its steps; the last one only if a template asks for gVisor."""
    return [*PROBE, *(["probe-gvisor"] if gvisor(machine.settings) else [])]


def names(findings: dict[str, dict[str, Any]], *levels: str) -> set[str]:
    return {name for name, one in findings.items() if one["level"] in levels}


def objects(machine: Machine) -> str:
    """Networks, volumes and slot directories of all sandboxes, pool members among them."""
    label = f"label=sandbox.project={machine.project}"
    docker = (
        f"docker network ls -q --filter {label}; docker volume ls -q --filter {label}; docker ps -aq --filter {label}"
    )
    return machine.out(f"({docker}; ls {machine.settings.state}/sandboxes) | sort")


def test_nothing_fails_on_a_host_that_is_well(machine: Machine) -> None:
    machine.wait_for_full_pool()
    before = objects(machine)
    code, findings = examine(machine)
    assert names(findings, "fail", "blocked") == set(), findings
    assert code == 0
    assert [findings[name]["level"] for name in probe(machine)] == ["ok"] * len(probe(machine))
    assert all(one["remedy"] for one in findings.values() if one["level"] == "warn")
    assert objects(machine) == before, "nothing of the probe is left"


def test_what_it_says_is_so(machine: Machine) -> None:
    """Against the host's own tools."""
    machine.wait_for_full_pool()
    _, findings = examine(machine, "--no-probe")
    assert not any(name.startswith("probe") for name in findings)
    assert machine.out("docker version --format '{{.Server.Version}}'") in findings["engine"]["seen"]
    assert machine.settings.docker_runtime in findings["runtime"]["seen"]
    assert f"*.{machine.settings.domain}" in findings["certificate"]["seen"]
    networks = machine.out("docker network ls -q --filter driver=bridge | wc -l")
    left, total = (int(number) for number in re.findall(r"\d+", findings["networks"]["seen"])[:2])
    assert total - left == int(networks) - 1, "docker0 is not out of the pools"
    enabled = machine.run("grep -qx Y /sys/module/apparmor/parameters/enabled", check=False).returncode == 0
    assert (findings["apparmor"]["level"] == "skip") != enabled


def test_people_read_it_line_by_line(machine: Machine) -> None:
    shown = machine.out("docker-sandbox doctor --no-probe")
    assert re.search(r"^ok    engine +Docker \d", shown, re.MULTILINE)
    assert re.search(r"^\d+ ok, \d+ warn, 0 fail$", shown.splitlines()[-1])


@contextmanager
def broken(machine: Machine, breaking: str, mending: str) -> Iterator[None]:
    machine.run(breaking)
    try:
        yield
    finally:
        machine.run(mending)


@pytest.mark.disruptive
def test_what_is_broken_is_named_and_nothing_else(machine: Machine) -> None:
    """The gateway is stopped, an image has lost its name, cron is off."""
    tag = machine.out(
        f"python3 -c \"import tomllib; t = tomllib.load(open('{machine.settings.etc}/config.toml', 'rb'));"
        " print(t['templates']['playwright']['image'])\""
    )
    with (
        broken(machine, "systemctl stop haproxy", "systemctl start haproxy"),
        broken(
            machine, f"docker tag {tag} kept:doctor && docker rmi --no-prune {tag}", f"docker tag kept:doctor {tag}"
        ),
        broken(machine, "systemctl stop cron", "systemctl start cron"),
    ):
        code, findings = examine(machine)
        people = machine.run("docker-sandbox doctor", check=False)
    machine.run("docker rmi --no-prune kept:doctor")
    assert code == people.returncode == 1
    assert names(findings, "fail") == {"unit-haproxy", "images", "unit-cron"}
    assert "systemctl restart haproxy.service" in findings["unit-haproxy"]["remedy"]
    assert tag in findings["images"]["seen"] and "deploy again" in findings["images"]["remedy"]
    assert "systemctl restart cron.service" in findings["unit-cron"]["remedy"]
    assert names(findings, "blocked") == {"gateway", "routes", "console", "cleanup", "health", *probe(machine)}
    assert people.stdout.count("\nfail  ") + people.stdout.startswith("fail  ") == 3
    assert "probe-made (needs images)" in people.stdout.splitlines()[-1]
    machine.run("docker-sandbox routes sync")
    _, mended = eventually(
        lambda: examine(machine), lambda seen: not names(seen[1], "fail", "blocked"), 60, "a host that is well again"
    )
    assert mended["probe-url"]["level"] == "ok"


@pytest.mark.disruptive
def test_without_the_daemon_the_command_itself_says_so(machine: Machine) -> None:
    unit = machine.unit("sandboxd")
    with broken(machine, f"systemctl stop {unit}", f"systemctl start {unit}"):
        done = machine.run("docker-sandbox doctor", check=False)
    assert done.returncode == 4 and done.stdout.startswith("fail  sandboxd ")
    assert "systemctl restart" in done.stdout


@pytest.mark.disruptive
def test_an_examination_that_is_interrupted_leaves_nothing(machine: Machine) -> None:
    machine.wait_for_full_pool()
    before = objects(machine)
    for delay_s in ("0.2", "0.4", "0.6"):
        done = machine.run(f"timeout --signal INT {delay_s} docker-sandbox doctor", check=False)
        assert done.returncode in (0, 124, 130)
    eventually(lambda: objects(machine), lambda seen: seen == before, 90, "an end of the probes")
