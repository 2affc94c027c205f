"""The case of many idle sandboxes: memory, how init grows, how long the engine restarts; beside bare containers.

Restarts the host's Docker engine. Sandboxes live on, which is checked by their processes.
"""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tools.bench.host.machine import Machine, Unexpected, remove, run, say
from tools.bench.host.measure import Goal, Samples, Scale, row

ENGINE_DEADLINE_S = 300.0


def idle(machine: Machine, scale: Scale) -> list[dict[str, Any]]:
    levels = [level for level in scale.levels if machine.limit(level) == level]
    if not levels:
        raise Unexpected("there is no room for idle sandboxes on this host")
    inits, restarts = {level: Samples() for level in levels}, {level: Samples() for level in levels}
    bare_inits = {level: Samples() for level in levels}
    bare_restarts = {level: Samples() for level in levels}
    restarted = (levels[0], levels[-1])
    for level in levels:
        say(f"  {level} idle sandboxes")
        fill(machine, level)
        for _ in range(scale.rounds):
            machine.wait_for_pool()
            if made := inits[level].time(machine.create):
                machine.kill(made["sandboxID"])
        if level == levels[-1]:
            machine.wait_for_pool()
            memory = Samples(list(memory_mb(full_ids(machine.made())).values()))
        if level in restarted:
            for _ in range(scale.restarts):
                restart(machine, restarts[level], lambda: full_ids(machine.made()))
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(machine.kill, machine.made()))
    machine.wait_for_pool()
    for level in levels:
        say(f"  {level} bare containers")
        for _ in range(level - len(machine.bare())):
            machine.run_bare()
        for _ in range(scale.rounds):
            if container := bare_inits[level].time(machine.run_bare):
                remove(container)
        if level == levels[-1]:
            bare_memory = Samples(list(memory_mb(full_ids(machine.bare())).values()))
        if level in restarted:
            for _ in range(scale.restarts):
                restart(machine, bare_restarts[level], lambda: full_ids(machine.bare()))
    remove(*machine.bare())
    most = levels[-1]
    peer = "bare containers"
    rows = [row(f"memory of each of {most} idle sandboxes", memory, bare_memory, peer, Goal(median=25), unit="MB")]
    for level in levels:
        goal = Goal(p95=30) if level == most else None
        rows.append(row(f"init from the pool beside {level}", inits[level], bare_inits[level], "docker run -d", goal))
    for level in restarted:
        rows.append(row(f"restart of dockerd beside {level}", restarts[level], bare_restarts[level], peer))
    return rows


def fill(machine: Machine, level: int) -> None:
    """Makes sandboxes until there are so many, out of the pool as it fills."""
    for _ in range(level - len(machine.made())):
        machine.wait_for_pool(members=1)
        machine.create()


def full_ids(ids: Iterable[str]) -> dict[str, str]:
    """The ids of containers in full -> their first process on the host."""
    lines = run("docker", "inspect", "--format", "{{.Id}} {{.State.Pid}}", *ids).splitlines()
    return dict(line.split() for line in lines)


def memory_mb(ids: Iterable[str]) -> dict[str, float]:
    """Proportional set size of all processes of each container and of its shim, in MB (10^6 bytes), by full id."""
    found = dict.fromkeys(ids, 0.0)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            owner = (process / "cgroup").read_text()
            if b"containerd-shim" in words[0] and b"-id" in words:
                owner = words[words.index(b"-id") + 1].decode()
            container = owning(owner, found)
            if container:
                found[container] += pss_bytes((process / "smaps_rollup").read_text()) / 1e6
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
    return found


def owning(text: str, ids: Iterable[str]) -> str:
    """Which of the ids a control group or an argument names; "" for none."""
    return next((one for one in ids if one in text), "")


def pss_bytes(rollup: str) -> int:
    """From proc(5)'s smaps_rollup."""
    return next((int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:")), 0)


def restart(machine: Machine, samples: Samples, processes: Callable[[], dict[str, str]]) -> None:
    """One sample, from the order until the engine answers; a failure when a container did not live on."""
    before = processes()

    def work() -> None:
        run("systemctl", "reset-failed", "docker")
        run("systemctl", "restart", "docker")
        deadline = time.monotonic() + ENGINE_DEADLINE_S
        while time.monotonic() < deadline:
            try:
                run("docker", "version")
                return
            except Unexpected:
                time.sleep(0.05)
        raise Unexpected(f"dockerd does not answer {ENGINE_DEADLINE_S:.0f} s after its restart")

    samples.time(work)
    machine.wait_for_pool()
    if processes() != before and samples.values:
        samples.values.pop()
        samples.failed += 1
        samples.last_error = "containers did not live on through the restart of dockerd"
