"""What nobody planned: the daemon is killed at random under load, the clock jumps, somebody prunes containers.

`make test-chaos` runs these, and `make test` does not: they take longer than five minutes. Afterwards nothing may be
left of what was removed: no container, network, mount, loop device, route, directory or row.
"""

from __future__ import annotations

import json
import random
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.host.machine import Machine, eventually

pytestmark = [pytest.mark.disruptive, pytest.mark.chaos]

# Runs on the host: each worker goes through the life of a sandbox again and again, and says what it could not do.
# A command may fail while the daemon is down; it is repeated, as a script of a user would.
LOAD = """
import json, os, subprocess, sys, tempfile, threading, time
CYCLES, WORKERS, DEADLINE_S = 200, 10, 60
left, lock, failures = list(range(CYCLES)), threading.Lock(), []

def run(*words):
    return subprocess.run(["docker-sandbox", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True)

def insist(*words, good=(0,)):
    give_up = time.monotonic() + DEADLINE_S
    while True:
        done = run(*words)
        if done.returncode in good:
            return done.stdout
        if time.monotonic() > give_up:
            raise AssertionError(f"{words}: {done.returncode} {done.stdout} {done.stderr}")
        time.sleep(0.2)

def cycle(number, directory):
    sandbox = insist("init", "--name", f"chaos-{number}").strip()
    assert insist("exec", sandbox, f"echo {number} >/code/number; cat /code/number").strip() == str(number)
    source, target = os.path.join(directory, "up"), os.path.join(directory, "down")
    with open(source, "w") as file:
        file.write(str(number) * 1000)
    insist("upload", sandbox, source, "/code/up")
    insist("download", sandbox, "/code/up", target)
    with open(target) as file:
        assert file.read() == str(number) * 1000
    os.unlink(target)
    insist("kill", sandbox, good=(0, 3))

def work():
    with tempfile.TemporaryDirectory() as directory:
        while True:
            with lock:
                if not left:
                    return
                number = left.pop()
            try:
                cycle(number, directory)
            except AssertionError as error:
                failures.append(str(error))

workers = [threading.Thread(target=work) for _ in range(WORKERS)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
print(json.dumps(failures))
"""


def objects(machine: Machine) -> dict[str, set[str]]:
    """What there is of sandboxes on the host, by kind, each by its slot; read from the host itself."""
    state = machine.settings.state
    label = f"--filter label=sandbox.project={machine.project}"
    query = "import sqlite3, sys; print(*(row[0] for row in sqlite3.connect(sys.argv[1]).execute(sys.argv[2])))"

    def lines(command: str) -> set[str]:
        return set(machine.out(command).split())

    def rows(where: str) -> set[str]:
        statement = shlex.quote(f"SELECT slot FROM sandboxes WHERE {where}")
        return lines(f"python3 -c {shlex.quote(query)} {state}/ledger.sqlite {statement}")

    # Labs share the loop devices of one kernel: those of slots that this ledger has never seen are another's.
    loops = lines(f"losetup --noheadings --output BACK-FILE | sed -n 's|^{state}/disks/\\([0-9a-f]*\\).*|\\1|p'")
    return {
        "containers": lines(f"docker ps --all --format '{{{{.Label \"sandbox.slot\"}}}}' {label}"),
        "networks": lines(f"docker network ls --format '{{{{.Label \"sandbox.slot\"}}}}' {label}"),
        "mounts": lines(f"awk '{{print $5}}' /proc/1/mountinfo | sed -n 's|^{state}/mounts/||p'"),
        "loops": loops & rows("1"),
        "disks": lines(f"ls {state}/disks | sed 's/\\..*//'"),
        "directories": lines(f"ls {state}/sandboxes"),
        "rows": rows("state != 'gone'"),
    }


def nothing_leaked(machine: Machine) -> None:
    """Of every kind there are the pool members and no more, and no routes."""
    machine.wait_for_full_pool()
    found = eventually(
        lambda: objects(machine),
        lambda seen: (
            len(seen["rows"]) == machine.settings.pool_size and all(one == seen["rows"] for one in seen.values())
        ),
        60,
        "nothing but the pool",
    )
    assert len(found["rows"]) == machine.settings.pool_size
    assert json.loads(machine.out("docker-sandbox routes status --json"))["routes"] == 0


@contextmanager
def nobody_else(machine: Machine) -> Iterator[None]:
    """Removes what earlier tests have kept, such as the calculator, and checks that nothing is left in the end."""
    for row in machine.listed():
        machine.run(f"docker-sandbox kill {row['sandboxID']}")
    yield
    nothing_leaked(machine)


def kill_daemon(machine: Machine) -> None:
    machine.run(f"systemctl kill --signal KILL --kill-whom main {machine.unit('sandboxd')}", check=False)


@pytest.mark.suite("trixie")
def test_two_hundred_lives_while_the_daemon_is_killed_at_random(machine: Machine) -> None:
    chance = random.Random(20261125)
    machine.run("systemctl reset-failed", check=False)
    with nobody_else(machine):
        machine.run("cat >/tmp/chaos.py", stdin=LOAD.encode())
        machine.run("rm -f /tmp/chaos.done; systemd-run --unit chaos --collect sh -c "
                    "'python3 /tmp/chaos.py >/tmp/chaos.out 2>&1; touch /tmp/chaos.done'")  # fmt: skip
        kills = 0
        deadline = time.monotonic() + 600
        while machine.run("test -e /tmp/chaos.done", check=False).returncode != 0:
            assert time.monotonic() < deadline, machine.out("tail -c 3000 /tmp/chaos.out; docker-sandbox list")
            time.sleep(chance.uniform(4, 12))
            kill_daemon(machine)
            kills += 1
            machine.run(f"systemctl reset-failed {machine.unit('sandboxd')}", check=False)  # no limit on restarts here
        assert kills >= 3
        failures = json.loads(machine.out("cat /tmp/chaos.out"))
        assert failures == []
        # An init that was answered by nobody may have been done: its sandbox is in the list, under its name.
        # The last kill may have come right before the end: the daemon is back when it is.
        for row in eventually(machine.listed, lambda rows: True, 60, "daemon that is back"):
            assert row["name"].startswith("chaos-")
            machine.run(f"docker-sandbox kill {row['sandboxID']}")


def test_a_prune_of_dockers_leaves_no_trace_and_spares_what_runs(machine: Machine) -> None:
    with nobody_else(machine), machine.sandbox() as running, machine.sandbox() as stopped:
        stopped.run("echo precious >/code/precious")
        machine.run(f"docker-sandbox stop {stopped.id}")
        machine.run("docker container prune --force; docker network prune --force; docker volume prune --force")
        gone = eventually(
            lambda: machine.run(f"docker-sandbox info {stopped.id}", check=False),
            lambda done: done.returncode == 3,
            60,
            "the end of the sandbox that was pruned",
        )
        volume = f"lost-{stopped.id}"
        assert "removed outside sandboxd" in gone.stderr and volume in gone.stderr
        with machine.sandbox(f"--volume {volume}") as rescued:
            assert rescued.out("cat /code/precious") == "precious"
        machine.run(f"docker-sandbox volume rm {volume}")
        assert running.out("echo alive") == "alive"


@contextmanager
def clock(machine: Machine, offset: str) -> Iterator[None]:
    """The daemon, and it alone, lives in another time."""
    unit = machine.unit("sandboxd")
    library = machine.out("ls /usr/lib/*/faketime/libfaketime.so.1")
    drop_in = f"/etc/systemd/system/{unit}.d/clock.conf"
    text = f"[Service]\\nEnvironment=LD_PRELOAD={library} FAKETIME={offset} DONT_FAKE_MONOTONIC=1\\n"
    machine.run(f"mkdir -p {drop_in.rpartition('/')[0]} && printf '{text}' >{drop_in}")
    machine.run(f"systemctl daemon-reload && systemctl restart {unit}")
    try:
        yield
    finally:
        machine.run(f"rm {drop_in} && systemctl daemon-reload && systemctl restart {unit}")


@pytest.mark.faults
def test_clock_jumps_of_a_day_end_what_has_ended_and_nothing_else(machine: Machine) -> None:
    machine.run("DEBIAN_FRONTEND=noninteractive apt-get install -qq -y faketime >/dev/null 2>&1")
    with nobody_else(machine), machine.sandbox() as endless, machine.sandbox("--timeout 2h") as timed:
        members = {name for name in machine.running_ours() if "-pool-" in name}
        with clock(machine, "-25h"):
            assert {row["sandboxID"] for row in machine.listed()} >= {endless.id, timed.id}
            machine.run("docker-sandbox cleanup --older-than 24h")
            assert timed.out("echo alive") == "alive"
        with clock(machine, "+25h"):
            ended = eventually(
                lambda: machine.run(f"docker-sandbox info {timed.id}", check=False),
                lambda done: done.returncode == 3,
                30,
                "the end of the timed sandbox",
            )
            assert "timeout reached" in ended.stderr
            assert endless.out("echo alive") == "alive"
        assert endless.out("echo alive") == "alive"
        assert members <= set(machine.running_ours()), "pool members know no time"
