"""A full host says so and makes nothing; what it runs goes before its daemons when memory ends all the same."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.host.machine import Machine, eventually


def test_sandboxes_die_before_the_daemons_of_the_host(machine: Machine) -> None:
    with machine.sandbox() as sandbox:
        pid = sandbox.inspect()["State"]["Pid"]
        assert machine.out(f"cat /proc/{pid}/oom_score_adj") == "500"
        assert sandbox.out("cat /proc/self/oom_score_adj") == "500"
    unit = machine.unit("sandboxd")
    assert machine.out(f"systemctl show --value --property OOMScoreAdjust {unit}") == "-900"


def test_the_limits_are_those_of_the_settings(machine: Machine) -> None:
    text = machine.out(f"cat {machine.settings.etc}/config.toml")
    wanted = machine.settings
    most = min(wanted.max_sandboxes or wanted.networks, wanted.networks)
    for line in (f"max_sandboxes = {most}", f"memory_reserve_mb = {wanted.memory_reserve_mb}"):
        assert line in text.splitlines()
    assert f"disk_reserve_mb = {wanted.disk_reserve_mb}" in text.splitlines()


@contextmanager
def limited(machine: Machine, setting: str, value: int) -> Iterator[None]:
    """sandboxd with another limit than the deploy's."""
    file, unit = f"{machine.settings.etc}/config.toml", machine.unit("sandboxd")
    machine.run(f"cp --archive {file} {file}.before && sed -i 's/^{setting} = .*/{setting} = {value}/' {file}")
    try:
        machine.run(f"grep -qx '{setting} = {value}' {file} && systemctl restart {unit}")
        yield
    finally:
        machine.run(f"mv {file}.before {file} && systemctl restart {unit}")
        machine.run("docker-sandbox pool start --wait")


def refused(machine: Machine, command: str, setting: str) -> None:
    done = machine.run(command, check=False)
    assert (done.returncode, done.stdout) == (5, ""), done.stdout + done.stderr
    assert "this host is full" in done.stderr and setting in done.stderr and "docker-sandbox kill" in done.stderr


def blocked(machine: Machine, setting: str) -> dict[str, Any]:
    """The pool of the default template, once it knows that it cannot be filled."""

    def look() -> dict[str, Any]:
        pools = machine.pool()["pools"]
        return dict(next(pool for pool in pools if pool["template"] == machine.settings.default_template))

    return eventually(look, lambda pool: pool["limit"] == setting and pool["starting"] == 0, 60, "full host")


@pytest.mark.disruptive
def test_no_more_sandboxes_than_allowed(machine: Machine) -> None:
    """Members of the pool count; they are handed out all the same, and not replaced."""
    full = machine.wait_for_full_pool()
    with machine.sandbox() as first:
        machine.wait_for_full_pool()
        there = full["size"] + len(machine.listed())
        with limited(machine, "max_sandboxes", there):
            machine.wait_for_full_pool()
            refused(machine, "docker-sandbox init --cold", "max_sandboxes")
            with machine.sandbox() as second:
                assert second.out("echo warm") == "warm"
                assert "max_sandboxes" in blocked(machine, "max_sandboxes")["trouble"]
                assert "max_sandboxes" in machine.out("docker-sandbox pool status")
                assert {first.id, second.id} <= {row["sandboxID"] for row in machine.listed()}
            machine.run("docker-sandbox pool start --wait")
    machine.wait_for_full_pool()


@pytest.mark.disruptive
@pytest.mark.parametrize("setting", ["memory_reserve_mb", "disk_reserve_mb"])
def test_what_is_kept_free_is_not_given_away(machine: Machine, setting: str) -> None:
    machine.wait_for_full_pool()
    with machine.sandbox() as sandbox:
        machine.run(f"docker-sandbox stop {sandbox.id}")
        machine.wait_for_full_pool()
        with limited(machine, setting, 16_777_216):
            refused(machine, "docker-sandbox init --cold", setting)
            refused(machine, f"docker-sandbox start {sandbox.id}", setting)
            socket = f"/run/{machine.settings.name}/sandboxd.sock"
            body = json.dumps({"cold": True})
            answer = machine.out(
                f"curl -sS -i --unix-socket {socket} -H 'Content-Type: application/json' -d '{body}'"
                " http://sandboxd/v2/sandboxes"
            ).lower()
            assert "503 service unavailable" in answer and "retry-after: 30" in answer
            machine.run(f"systemctl restart {machine.unit('container-pool')}")
            assert blocked(machine, setting)["warm"] == 0
            assert machine.run("docker-sandbox pool start --wait", check=False).returncode == 5
        machine.run(f"docker-sandbox start {sandbox.id}")
        assert sandbox.out("echo again") == "again"
    machine.wait_for_full_pool()
