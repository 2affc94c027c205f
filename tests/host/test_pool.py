"""The warm pool and the hourly cleanup."""

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.host.machine import Machine, Sandbox, eventually


def test_the_pool_is_full(machine: Machine) -> None:
    pool = machine.wait_for_full_pool()
    assert pool["enabled"] and pool["size"] == machine.settings.pool_size
    names = machine.out("docker ps --format '{{.Names}}'").splitlines()
    assert len([name for name in names if name.startswith(f"{machine.project}-pool-")]) == machine.settings.pool_size


def test_members_are_limited_and_reachable_before_they_are_claimed(machine: Machine) -> None:
    machine.wait_for_full_pool()
    found = json.loads(
        machine.out(f"docker inspect $(docker ps --quiet --filter name={machine.project}-pool- | head -n1)")
    )[0]
    assert found["HostConfig"]["Memory"] == machine.settings.sandbox_memory_mb * 1024 * 1024
    assert found["HostConfig"]["MemorySwap"] == found["HostConfig"]["Memory"]
    assert found["HostConfig"]["PidsLimit"] == machine.settings.sandbox_pids
    address = next(iter(found["NetworkSettings"]["Networks"].values()))["IPAddress"]
    assert machine.out(f"curl -s -o /dev/null -w '%{{http_code}}' http://{address}:49983/health") == "204"


def test_claims_are_hits_and_the_pool_is_filled_again(machine: Machine) -> None:
    before = machine.wait_for_full_pool()
    count = before["size"]
    members = set(
        machine.out(f"docker ps --no-trunc --quiet --filter name={machine.project}-pool- | cut -c1-12").splitlines()
    )
    ids = [machine.out("docker-sandbox init") for _ in range(count)]
    try:
        assert set(ids) == members
        after = machine.pool()
        assert (after["hits"] - before["hits"], after["misses"] - before["misses"]) == (count, 0)
        names = machine.out("docker ps --format '{{.ID}} {{.Names}}'")
        eventually(
            lambda: machine.out("docker ps --format '{{.ID}} {{.Names}}'"),
            lambda names: all(f"{one} {machine.project}-qa-" in names for one in ids),
            20,
            f"new names; before: {names}",
        )
        assert not set(ids) & set(machine.out(f"docker ps --quiet --filter name={machine.project}-pool-").splitlines())
        machine.wait_for_full_pool()
    finally:
        machine.run(f"docker-sandbox kill {' '.join(ids)}")


@pytest.mark.disruptive
def test_an_empty_pool_falls_back_to_a_cold_create(machine: Machine) -> None:
    machine.run("docker-sandbox pool drain")
    try:
        assert machine.pool()["warm"] == 0
        with machine.sandbox() as sandbox:
            assert sandbox.out("echo cold") == "cold"
            assert [row["origin"] for row in machine.listed() if row["sandboxID"] == sandbox.id] == ["cold"]
    finally:
        machine.run("docker-sandbox pool start --wait")
    machine.wait_for_full_pool()


@pytest.mark.disruptive
def test_the_unit_drains_the_pool_at_stop_and_fills_it_at_start(machine: Machine) -> None:
    machine.wait_for_full_pool()
    unit = machine.unit("container-pool")
    machine.run(f"systemctl stop {unit}")
    assert machine.out(f"docker ps --all --quiet --filter name={machine.project}-pool-") == ""
    machine.run(f"systemctl start {unit}")
    assert machine.pool()["warm"] == machine.settings.pool_size


@contextmanager
def undisturbed(machine: Machine, sandbox: Sandbox) -> Iterator[None]:
    """All our containers, and a command in this one, run on through what the body does."""
    machine.wait_for_full_pool()
    pid = sandbox.out("exec sleep 300", "--background")
    before = machine.running_ours()
    yield
    assert machine.running_ours() == before
    assert sandbox.out(f"ps -o comm= -p {pid}") == "sleep"


@pytest.mark.disruptive
def test_a_restart_of_sandboxd_disturbs_no_sandbox(machine: Machine) -> None:
    with machine.sandbox() as sandbox:
        with undisturbed(machine, sandbox):
            machine.run(f"systemctl restart {machine.unit('sandboxd')}")
        assert machine.pool()["warm"] == machine.settings.pool_size


@pytest.mark.disruptive
def test_a_restart_of_the_engine_disturbs_no_sandbox(machine: Machine) -> None:
    """live-restore: processes run on, and the engine goes on to know its containers: exec, routes, removal."""
    with machine.sandbox() as sandbox:
        with undisturbed(machine, sandbox):
            machine.run("systemctl restart docker")
        assert machine.out(f"docker exec --user user {sandbox.id} id -un") == "user"
        assert machine.request("GET", sandbox.url(4000)).json()["message"].startswith("The sandbox is running")
        members = [machine.out("docker-sandbox init") for _ in range(machine.settings.pool_size)]
        machine.run(f"docker-sandbox kill {sandbox.id} {' '.join(members)}")
        assert machine.out("docker ps --all --quiet --filter status=removing") == ""
    machine.wait_for_full_pool()
    with machine.sandbox("--cold") as fresh:
        assert fresh.out("echo fresh") == "fresh"


def cron_command(machine: Machine) -> str:
    text = machine.out(f"cat /etc/cron.d/{machine.settings.name}-cleanup")
    line = next(line for line in text.splitlines() if line.startswith(machine.settings.cleanup_schedule))
    user, _, command = line.removeprefix(machine.settings.cleanup_schedule).strip().partition(" ")
    assert user == "root" and "flock" in command
    return command


def test_the_cron_line_runs(machine: Machine) -> None:
    log = f"/var/log/{machine.settings.name}-cleanup.log"
    before = int(machine.out(f"stat -c %s {log} 2>/dev/null || echo 0"))
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    machine.run(f"env -i SHELL=/bin/sh PATH={path} sh -c {shlex.quote(cron_command(machine))}")
    assert int(machine.out(f"stat -c %s {log}")) > before, "it logs what it did"
    machine.run(f"logrotate --debug /etc/logrotate.d/{machine.settings.name}")


@pytest.mark.disruptive
def test_cron_itself_runs_it(machine: Machine) -> None:
    """In the lab the schedule is every minute."""
    eventually(
        lambda: (
            machine.run(
                f"journalctl --unit cron --no-pager | grep -F {machine.settings.name}-cleanup", check=False
            ).stdout
        ),
        bool,
        90,
        "line of cron's journal",
    )


@pytest.mark.disruptive
def test_the_cleanup_spares_the_pool_and_what_is_kept(machine: Machine) -> None:
    machine.wait_for_full_pool()
    with machine.sandbox("--keep") as kept, machine.sandbox() as old:
        machine.wait_for_full_pool()
        members = machine.out(f"docker ps --quiet --filter name={machine.project}-pool- | sort")
        machine.run("docker-sandbox cleanup --older-than 1h")
        assert {kept.id, old.id} <= {row["sandboxID"] for row in machine.listed()}
        machine.run("docker-sandbox cleanup --older-than 0s")
        left = {row["sandboxID"] for row in machine.listed()}
        assert kept.id in left and old.id not in left
        assert machine.out(f"docker ps --quiet --filter name={machine.project}-pool- | sort") == members
