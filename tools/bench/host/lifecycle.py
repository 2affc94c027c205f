"""Cases of the life cycle: init, exec, pause, resume, kill, and many at once."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tools.bench.host.agent import Agent
from tools.bench.host.machine import LABEL, MARK, Machine, Unexpected, remove, run
from tools.bench.host.measure import Goal, Samples, Scale, row

Rows = list[dict[str, Any]]


def init(machine: Machine, scale: Scale) -> Rows:
    """From the pool, which has members before each: what is measured is the claim. The peer's container is bare."""
    api, program, peer = Samples(), Samples(), Samples()
    for _ in range(scale.rounds):
        machine.wait_for_pool()
        if made := api.time(machine.create):
            machine.kill(made["sandboxID"])
        machine.wait_for_pool()
        if sandbox := program.time(lambda: run("docker-sandbox", "init", "--name", MARK)):
            machine.kill(sandbox)
        machine.wait_for_pool()
        if container := peer.time(machine.run_bare):
            remove(container)
    return [
        row("init from the pool, API", api, peer, "docker run -d", Goal(median=10, p95=30)),
        row("docker-sandbox init, whole process", program, peer, "docker run -d", Goal(median=90)),
    ]


def cold(machine: Machine, scale: Scale) -> Rows:
    """A sandbox from nothing, with the disk, the rules and the agent that a sandbox has; the peer has a network."""
    ours, kill, peer, peer_kill = Samples(), Samples(), Samples(), Samples()

    def plain() -> str:
        run("docker", "network", "create", *LABEL, MARK)
        return machine.run_bare("--network", MARK)

    def plain_end(container: str) -> None:
        remove(container)
        run("docker", "network", "rm", MARK)

    for _ in range(scale.cold_rounds):
        machine.wait_for_pool()
        if made := ours.time(lambda: machine.create(cold=True)):
            kill.time(lambda: machine.kill(made["sandboxID"]))
        machine.wait_for_pool()
        if container := peer.time(plain):
            peer_kill.time(lambda: plain_end(container))
    return [
        row("init cold, API", ours, peer, "docker network create + run -d", Goal(ratio=1.2)),
        row("kill, API", kill, peer_kill, "docker rm -f + network rm"),
    ]


def execute(machine: Machine, scale: Scale) -> Rows:
    program, sdk, peer = Samples(), Samples(), Samples()
    sandbox = machine.create()
    sandbox_id: str = sandbox["sandboxID"]
    machine.wait_for_pool()
    agent = Agent(sandbox, machine.domain)
    agent.run("true")  # the connection is made once, as in an SDK
    for _ in range(scale.rounds):
        program.time(lambda: run("docker-sandbox", "exec", sandbox_id, "true"))
        sdk.time(lambda: agent.run("true"))
        peer.time(lambda: run("docker", "exec", sandbox_id, "true"))
    agent.close()
    machine.kill(sandbox_id)
    return [
        row("docker-sandbox exec ID true, whole process", program, peer, "docker exec ID true", Goal(ratio=1.2)),
        row("run a command over HTTPS, as an SDK does", sdk, peer, "docker exec ID true", Goal(median=12)),
    ]


def pause(machine: Machine, scale: Scale) -> Rows:
    freeze, thaw, peer_freeze, peer_thaw = Samples(), Samples(), Samples(), Samples()
    sandbox_id = machine.create()["sandboxID"]
    container = machine.run_bare()
    machine.wait_for_pool()
    for _ in range(scale.rounds):
        freeze.time(lambda: machine.expect(204, "POST", f"/sandboxes/{sandbox_id}/pause"))
        thaw.time(lambda: machine.expect(200, "POST", f"/sandboxes/{sandbox_id}/resume", {}))
        peer_freeze.time(lambda: run("docker", "pause", container))
        peer_thaw.time(lambda: run("docker", "unpause", container))
    machine.kill(sandbox_id)
    remove(container)
    return [
        row("pause, API", freeze, peer_freeze, "docker pause"),
        row("resume, API", thaw, peer_thaw, "docker unpause"),
    ]


class Burst:
    """So many creates at once. Each is answered with a sandbox, or with a refusal that says when to come again."""

    def __init__(self, machine: Machine, count: int) -> None:
        """The sandboxes are gone, and the pool is full again, when this returns."""
        self.each, self.whole = Samples(), Samples()
        self._machine = machine
        self._made: list[str] = []
        self._strange: list[str] = []
        with ThreadPoolExecutor(count) as threads:
            self.whole.time(lambda: list(threads.map(lambda _: self.each.time(self._one), range(count))))
        lost = len(self._strange) + len(set(self._made) ^ set(machine.made())) + count - self.each.count
        self.goal = Goal(text="all made, or refused with Retry-After; none lost", met=lost == 0)
        for sandbox_id in self._made:
            machine.kill(sandbox_id)
        machine.wait_for_pool()

    def _one(self) -> None:
        status, headers, answer = self._machine.ask("POST", "/v2/sandboxes", {"name": MARK})
        if status == 201:
            self._made.append(answer["sandboxID"])
            return
        if status not in (429, 503) or "retry-after" not in headers:
            self._strange.append(f"{status}: {answer}")
        raise Unexpected(f"refused with {status}")


def parallel(machine: Machine, scale: Scale) -> Rows:
    count = machine.limit(scale.parallel)
    machine.wait_for_pool()
    ours, peer, peer_whole = Burst(machine, count), Samples(), Samples()
    with ThreadPoolExecutor(count) as threads:
        peer_whole.time(lambda: list(threads.map(lambda _: peer.time(machine.run_bare), range(count))))
    for container in machine.bare():
        remove(container)
    return [
        row(f"{count} parallel init, each", ours.each, peer, "docker run -d", ours.goal),
        row(f"{count} parallel init, until the last answer", ours.whole, peer_whole, "docker run -d"),
    ]
