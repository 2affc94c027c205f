"""The warm pool and the hourly cleanup."""

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.host.machine import Machine, Sandbox, eventually


def test_the_pool_is_full(machine: Machine) -> None:
    pool = machine.wait_for_full_pool()
    wanted = {name: template.pool for name, template in machine.settings.templates.items() if template.pool}
    assert pool["enabled"] and {one["template"]: one["configured"] for one in pool["pools"]} == wanted
    names = machine.out("docker ps --format '{{.Names}}'").splitlines()
    assert len([name for name in names if name.startswith(f"{machine.project}-pool-")]) == pool["size"]


def test_the_status_says_everything_of_each_pool(machine: Machine) -> None:
    machine.wait_for_full_pool()
    with machine.sandbox():
        pass
    pool = next(one for one in machine.pool()["pools"] if one["template"] == machine.settings.default_template)
    assert pool["enabled"] and pool["hits"] > 0 and not pool["trouble"] and not pool["limit"]
    assert 0 < pool["p50_ms"] <= pool["p95_ms"]
    assert machine.settings.default_template in machine.out("docker-sandbox pool status")


def test_members_are_limited_and_reachable_before_they_are_claimed(machine: Machine) -> None:
    machine.wait_for_full_pool()
    found = json.loads(machine.out(f"docker inspect {machine.members()[0]}"))[0]
    assert found["HostConfig"]["Memory"] == machine.settings.sandbox_memory_mb * 1024 * 1024
    assert found["HostConfig"]["MemorySwap"] == found["HostConfig"]["Memory"]
    assert found["HostConfig"]["PidsLimit"] == machine.settings.sandbox_pids
    address = next(iter(found["NetworkSettings"]["Networks"].values()))["IPAddress"]
    assert machine.out(f"curl -s -o /dev/null -w '%{{http_code}}' http://{address}:49983/health") == "204"


def test_claims_are_hits_and_the_pool_is_filled_again(machine: Machine) -> None:
    before = machine.wait_for_full_pool()
    members = set(machine.members())
    count = len(members)
    ids = [machine.out("docker-sandbox init") for _ in range(count)]
    try:
        assert set(ids) == members
        after = machine.pool()
        assert (after["hits"] - before["hits"], after["misses"] - before["misses"]) == (count, 0)
        names = machine.out("docker ps --format '{{.ID}} {{.Names}}'")
        eventually(
            lambda: machine.out("docker ps --format '{{.ID}} {{.Names}}'"),
            lambda names: all(f"{one} {machine.project}-qa-" in names for one in ids),
            60,
            f"new names; before: {names}",
        )
        assert not set(ids) & set(machine.members())
        machine.wait_for_full_pool()
    finally:
        machine.run(f"docker-sandbox kill {' '.join(ids)}")


@pytest.mark.disruptive
def test_a_second_pool_is_made_claimed_from_and_given_up(machine: Machine) -> None:
    """Nothing of it touches the pool of the default template."""
    machine.wait_for_full_pool()
    template = next(name for name, one in machine.settings.templates.items() if not one.pool)
    members = machine.members()
    try:
        machine.run(f"docker-sandbox pool resize 1 --template {template}")
        machine.run(f"docker-sandbox pool start --template {template} --wait")
        (member,) = machine.members(template)
        with machine.sandbox(f"--template {template}") as sandbox:
            assert sandbox.id == member and sandbox.out("echo warm") == "warm"
            machine.wait_for_full_pool()
            machine.run(f"systemctl restart {machine.unit('sandboxd')}")
            found = next(one for one in machine.wait_for_full_pool()["pools"] if one["template"] == template)
            assert (found["size"], found["configured"], found["warm"], found["hits"] > 0) == (1, 0, 1, True)
        machine.run(f"docker-sandbox pool drain --template {template}")
        assert machine.members(template) == []
    finally:
        machine.run(f"docker-sandbox pool resize 0 --template {template} && docker-sandbox pool start")
    assert machine.members() == members


@pytest.mark.disruptive
def test_a_pool_grows_and_shrinks_at_run_time(machine: Machine) -> None:
    machine.wait_for_full_pool()
    size = len(machine.members())
    try:
        machine.run(f"docker-sandbox pool resize {size + 2}")
        machine.wait_for_full_pool()
        assert len(machine.members()) == size + 2
        machine.run("docker-sandbox pool resize 1")
        assert len(machine.members()) == 1
    finally:
        machine.run(f"docker-sandbox pool resize {size}")
    machine.wait_for_full_pool()
    assert len(machine.members()) == size


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
    full = machine.wait_for_full_pool()
    unit = machine.unit("container-pool")
    machine.run(f"systemctl stop {unit}")
    assert machine.out(f"docker ps --all --quiet --filter name={machine.project}-pool-") == ""
    machine.run(f"systemctl start {unit}")
    assert machine.pool()["warm"] == full["size"]


@contextmanager
def undisturbed(machine: Machine, sandbox: Sandbox) -> Iterator[None]:
    """All our containers, and a command in this one, run on through what the body does."""
    machine.wait_for_full_pool()
    pid = sandbox.out("exec sleep 300", "--background")
    before = machine.running_ours()
    yield
    machine.wait_for_full_pool()  # with the members of before, and no others
    assert machine.running_ours() == before
    assert sandbox.out(f"ps -o comm= -p {pid}") == "sleep"


@pytest.mark.disruptive
def test_a_restart_of_sandboxd_disturbs_no_sandbox(machine: Machine) -> None:
    with machine.sandbox() as sandbox, undisturbed(machine, sandbox):
        machine.run(f"systemctl restart {machine.unit('sandboxd')}")


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
    # Cron itself may have it run at this moment: then it has the lock, and ours does nothing.
    command = f"env -i SHELL=/bin/sh PATH={path} sh -c {shlex.quote(cron_command(machine))}"
    eventually(lambda: machine.run(command).returncode, lambda code: code == 0, 60, "run of the cron line")
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
