"""Case of a fleet: a sandbox on another host beside one on the host where the request comes in, and many at once.

It cordons hosts, so that each sandbox is where it is to be, and activates them again.
"""

import time
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tools.bench.host.agent import Agent, Edge
from tools.bench.host.edge import ALONE, BUSY, FAST, load, need_wrk, parse_median, parse_wrk, until_answered
from tools.bench.host.lifecycle import Burst, Rows
from tools.bench.host.machine import Machine, Unexpected, run
from tools.bench.host.measure import Samples, Scale, row

PEER = "on the entry host"
IN_TURN = 5  # so many are made on one host, then as many on the other
EMPTY_S = 60.0  # for the pools of those that are given nothing to go


def fleet(machine: Machine, scale: Scale) -> Rows:
    """Raises Unexpected where no manager of a fleet with another ready host is."""
    entry, *others = ready_hosts(machine)
    hosts = (entry, others[0])
    rows = created(machine, scale, hosts)
    rows += used(machine, scale, hosts)
    return rows + at_once(machine, scale, [entry, *others])


def created(machine: Machine, scale: Scale, hosts: tuple[str, str]) -> Rows:
    warm, cold = (Samples(), Samples()), (Samples(), Samples())
    for samples, rounds, options in ((warm, scale.rounds, {}), (cold, scale.cold_rounds, {"cold": True})):
        for begun in range(0, rounds, IN_TURN):
            for mine, host in zip(samples, hosts, strict=True):
                with only(machine, host):
                    for _ in range(min(IN_TURN, rounds - begun)):
                        machine.wait_for_pool()
                        if made := mine.time(partial(machine.create, **options)):
                            there = where(machine, made)
                            machine.kill(made["sandboxID"])
                            if there != host:
                                raise Unexpected(f"a sandbox for {host} was made on {there}")
    return [
        row("init from the pool of another host, API", warm[1], warm[0], PEER),
        row("init cold on another host, API", cold[1], cold[0], PEER),
    ]


def used(machine: Machine, scale: Scale, hosts: tuple[str, str]) -> Rows:
    """One sandbox on each; every figure of one is taken right after that of the other."""
    need_wrk()
    sandboxes = []
    for host in hosts:
        with only(machine, host):
            sandboxes.append(machine.create())
    machine.wait_for_pool()
    agents = [Agent(sandbox, machine.domain) for sandbox in sandboxes]
    program, sdk = (Samples(), Samples()), (Samples(), Samples())
    for agent in agents:
        agent.run("true")
    for _ in range(scale.rounds):
        for at, sandbox in enumerate(sandboxes):
            program[at].time(partial(run, "docker-sandbox", "exec", sandbox["sandboxID"], "true"))
            sdk[at].time(partial(agents[at].run, "true"))
    names = [f"qa-{sandbox['sandboxID']}.{machine.domain}" for sandbox in sandboxes]
    for agent, sandbox, name in zip(agents, sandboxes, names, strict=True):
        agent.close()
        Agent(sandbox, machine.domain).background(FAST)
        until_answered(partial(Edge, name), "/")
    rate, one = (Samples(), Samples()), (Samples(), Samples())
    for _ in range(scale.loads):
        for at, name in enumerate(names):
            load(rate[at], parse_wrk, name, "https://127.0.0.1/", BUSY, scale.load_s)
            load(one[at], parse_median, name, "https://127.0.0.1/", ALONE, scale.load_s)
    for sandbox in sandboxes:
        machine.kill(sandbox["sandboxID"])
    return [
        row("docker-sandbox exec ID true on another host, whole process", program[1], program[0], PEER),
        row("run a command over HTTPS on another host", sdk[1], sdk[0], PEER),
        row("one request at a time to another host, median", one[1], one[0], PEER, unit="µs"),
        row("requests to another host", rate[1], rate[0], PEER, unit="req/s", more_is_better=True),
    ]


def at_once(machine: Machine, scale: Scale, hosts: list[str]) -> Rows:
    """As many on all hosts as on the entry host alone."""
    count = machine.limit(scale.parallel)
    machine.wait_for_pool()
    everywhere = Burst(machine, count)
    with only(machine, hosts[0]):
        machine.wait_for_pool()
        here = Burst(machine, count)
    peer = "the entry host alone"
    return [
        row(f"{count} parallel init on {len(hosts)} hosts, each", everywhere.each, here.each, peer, everywhere.goal),
        row(f"{count} parallel init on {len(hosts)} hosts, until the last answer", everywhere.whole, here.whole, peer),
    ]


def ready_hosts(machine: Machine) -> list[str]:
    """Their names, that of this one first."""
    if not machine.manages:
        raise Unexpected("this host is no manager of a fleet: measure one with MANAGERS=... WORKERS=...")
    own = tomllib.loads(Path(f"/etc/{machine.name}/fleet.toml").read_text())["node"]
    names = [one["name"] for one in machine.expect(200, "GET", "/nodes") if one["state"] == "ready"]
    if own not in names or len(names) < 2:
        raise Unexpected(f"this host and another one must be ready; there are: {', '.join(names) or 'none'}")
    return [own, *(name for name in names if name != own)]


@contextmanager
def only(machine: Machine, host: str) -> Iterator[None]:
    """In the block no other host is given anything, nor has work to do: its pools are gone when it begins."""
    with ExitStack() as activated:  # each of them, also when another one fails
        others = [one for one in ready_hosts(machine) if one != host]
        for one in others:
            activated.callback(machine.expect, 200, "POST", f"/nodes/{one}/activate", {})
            machine.expect(200, "POST", f"/nodes/{one}/cordon", {})
        deadline = time.monotonic() + EMPTY_S
        while left := warm(machine, others):
            if time.monotonic() > deadline:
                raise Unexpected(f"hosts that are given nothing have members of pools still: {left}")
            time.sleep(0.1)
        yield


def warm(machine: Machine, hosts: list[str]) -> dict[str, int]:
    """How many members the pools of those hosts have, where they have any."""
    return {
        one["name"]: one["warm"] for one in machine.expect(200, "GET", "/nodes") if one["name"] in hosts and one["warm"]
    }


def where(machine: Machine, sandbox: dict[str, Any]) -> str:
    rows = {one["sandboxID"]: one["node"] for one in machine.expect(200, "GET", "/v2/sandboxes")}
    return str(rows[sandbox["sandboxID"]])
