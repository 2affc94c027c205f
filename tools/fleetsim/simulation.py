"""Time that runs from event to event: creates come, are placed, made, used and removed; nodes fail and return.

All chance comes from one seed, with a generator for each cause, so that every policy gets the same creates.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from itertools import accumulate
from random import Random

from tools.fleetsim.clock import Clock
from tools.fleetsim.nodes import Making, Nodes, Request
from tools.fleetsim.policies import POLICIES
from tools.fleetsim.raft import Raft
from tools.fleetsim.results import Counts, Result, result
from tools.fleetsim.scene import MAKE, Scene
from tools.fleetsim.times import CONSENSUS, OWN_WRITES_AT_END, OWN_WRITES_AT_START
from tools.fleetsim.views import View

SAMPLE_EVERY_S = 10.0


def simulated(scene: Scene, policy: str) -> Result:
    """The same scene and policy give the same result."""
    return Simulation(scene, policy).run()


class Simulation:
    def __init__(self, scene: Scene, policy: str) -> None:
        self._scene, self._times, self._name = scene, scene.times, policy
        chances = {
            cause: Random(f"{scene.seed} {cause}")
            for cause in ("arrivals", "bursts", "templates", "lives", "makes", "failures", "policy")
        }
        self._chances = chances
        self._policies = [POLICIES[policy](chances["policy"]) for _ in range(scene.managers)]
        self._shares = list(accumulate(one.share for one in scene.templates))
        self._raft = Raft(CONSENSUS[scene.managers], scene.leaderless)
        self._nodes = Nodes(scene)
        self._counts = Counts()
        self._clock = Clock()
        self._arrived = 0
        self._down_since: dict[int, float] = {}
        for node in range(scene.nodes):
            self._nodes.fill(node)
        self._bookings = [0] * scene.managers
        self._lines: list[deque[Request]] = [deque() for _ in range(scene.managers)]
        self._views = [View(self._nodes) for _ in range(scene.managers)]

    def run(self) -> Result:
        scene = self._scene
        if scene.rate:
            self._clock.after(self._chances["arrivals"].expovariate(scene.rate), self._one_comes)
        if scene.burst_size:
            self._clock.after(self._chances["bursts"].expovariate(1 / scene.burst_every_s), self._burst_comes)
        if scene.mtbf_s:
            self._clock.after(self._chances["failures"].expovariate(scene.nodes / scene.mtbf_s), self._one_fails)
        for manager, view in enumerate(self._views):
            self._clock.after(self._times.poll_every * manager / scene.managers, partial(self._look, view))
        self._clock.at(scene.warm_up_s, self._begin_to_count)
        self._clock.run(scene.end_s)
        return result(self._name, scene, self._counts, self._raft)

    def _begin_to_count(self) -> None:
        self._counts = Counts()
        self._raft.forget()
        self._sample()

    def _sample(self) -> None:
        nodes = self._nodes
        used = [number for number, up in zip(nodes.used, nodes.up, strict=True) if up]
        self._counts.sample(used, sum(nodes.present))
        self._clock.after(SAMPLE_EVERY_S, self._sample)

    def _look(self, view: View) -> None:
        view.look()
        self._clock.after(self._times.poll_every, partial(self._look, view))

    # --- Creates ------------------------------------------------------------------------------------------------------

    def _one_comes(self) -> None:
        self._clock.after(self._chances["arrivals"].expovariate(self._scene.rate), self._one_comes)
        self._comes()

    def _burst_comes(self) -> None:
        self._clock.after(self._chances["bursts"].expovariate(1 / self._scene.burst_every_s), self._burst_comes)
        for _ in range(self._scene.burst_size):
            self._comes()

    def _comes(self) -> None:
        at = self._chances["templates"].random() * self._shares[-1]
        template = next(number for number, sum_ in enumerate(self._shares) if at < sum_)
        counted = self._clock.now >= self._scene.warm_up_s
        self._counts.arrivals += counted
        self._arrived += 1
        self._place(Request(self._clock.now, template, self._arrived % self._scene.entries, counted))

    def _place(self, request: Request) -> None:
        view, nodes, template = self._views[request.manager], self._nodes, request.template
        node = self._policies[request.manager].choose(view, template, lambda one: nodes.has_room(one, template))
        if node is None:
            self._refuse(request, "full")
            return
        self._counts.asked += request.counted
        expected = view.warm[template][node] > 0
        if not nodes.up[node]:  # no answer until its loss is noticed
            self._clock.at(self._down_since[node] + self._times.lost_after, partial(self._place, request))
        elif nodes.warm[template][node]:
            self._claim(request, node)
        elif expected:  # the node has no member any more
            self._counts.stale += request.counted
            if self._scene.on_empty == MAKE and nodes.has_room(node, template):
                self._make(request, node, self._clock.now)
                self._raft.write(self._clock.now, 1 + OWN_WRITES_AT_START)
            else:
                view.found_empty(node, template)
                self._clock.after(self._times.ask, partial(self._place, request))
        else:
            self._book(request, node)

    def _claim(self, request: Request, node: int) -> None:
        nodes, life = self._nodes, self._nodes.life[node]
        self._views[request.manager].placed(node, request.template)
        nodes.warm[request.template][node] -= 1
        nodes.used[node] += 1
        self._begin_makes(node)
        took = self._times.claim.draw(self._chances["makes"])
        self._clock.after(took, partial(self._serve, request, node, life))

    def _book(self, request: Request, node: int) -> None:
        """A lease first. The policy has chosen a node with room: nothing can have come between."""
        manager = request.manager
        if not self._raft.leads(self._clock.now):
            self._refuse(request, "no leader")
            return
        if self._bookings[manager] >= self._times.bookings_at_a_time:
            self._lines[manager].append(request)
            return
        self._bookings[manager] += 1
        assigned = self._raft.write(self._clock.now) + CONSENSUS[self._scene.managers].assigned
        self._raft.write(self._clock.now, OWN_WRITES_AT_START)
        self._clock.at(assigned, partial(self._booked, manager))
        if assigned - self._clock.now > self._times.assigned_at_most:
            self._raft.write(self._clock.now, 1 + OWN_WRITES_AT_END)
            self._refuse(request, "late")
            return
        self._make(request, node, assigned)

    def _booked(self, manager: int) -> None:
        self._bookings[manager] -= 1
        while self._lines[manager] and self._bookings[manager] < self._times.bookings_at_a_time:
            self._place(self._lines[manager].popleft())  # which may get a member by now, and book nothing

    def _make(self, request: Request, node: int, begins: float) -> None:
        nodes, template = self._nodes, request.template
        request.cold = True
        self._views[request.manager].placed(node, template)
        nodes.reserve(node, template)
        nodes.used[node] += 1
        self._clock.at(begins, partial(self._queue, request, node, nodes.life[node]))

    def _queue(self, request: Request, node: int, life: int) -> None:
        nodes = self._nodes
        if nodes.life[node] != life:
            self._fail(request)
            return
        if len(nodes.waiting[node]) >= self._scene.max_waiting:
            nodes.used[node] -= 1
            nodes.release(node, request.template)
            self._raft.write(self._clock.now, 1 + OWN_WRITES_AT_END)
            self._refuse(request, "busy")
            return
        nodes.waiting[node].append(Making(request.template, request))
        self._begin_makes(node)

    def _begin_makes(self, node: int) -> None:
        nodes, times = self._nodes, self._times
        while (making := nodes.next_to_make(node)) is not None:
            crowd = max(1.0, nodes.running[node] * times.create_cores / self._scene.cpus)
            took = times.cold.draw(self._chances["makes"]) * crowd
            self._clock.after(took, partial(self._made, making, node, nodes.life[node]))

    def _made(self, making: Making, node: int, life: int) -> None:
        nodes, request = self._nodes, making.request
        if nodes.life[node] != life:
            if request is not None:
                self._fail(request)
            return
        nodes.running[node] -= 1
        if request is not None:
            self._serve(request, node, life)
        else:
            nodes.starting[making.template][node] -= 1
            nodes.warm[making.template][node] += 1
            self._raft.write(self._clock.now, 1 + OWN_WRITES_AT_START)
        self._begin_makes(node)

    # --- Answers ------------------------------------------------------------------------------------------------------

    def _serve(self, request: Request, node: int, life: int) -> None:
        """The answer. Its label is written behind, and what its manager knows of the node is renewed."""
        if self._nodes.life[node] != life:
            self._fail(request)
            return
        self._raft.write(self._clock.now)
        self._views[request.manager].read(node)
        if request.counted:
            self._counts.latencies_s.append(self._clock.now - request.arrived)
            self._counts.hits += not request.cold
        lasts = self._scene.life.draw(self._chances["lives"]) + self._times.kill
        self._clock.after(lasts, partial(self._ends, node, request.template, life))

    def _refuse(self, request: Request, reason: str) -> None:
        self._counts.refused[reason] += request.counted

    def _fail(self, request: Request) -> None:
        self._counts.failed += request.counted

    def _ends(self, node: int, template: int, life: int) -> None:
        nodes = self._nodes
        if nodes.life[node] != life:
            return
        self._counts.kills += 1
        nodes.used[node] -= 1
        nodes.release(node, template)
        self._raft.write(self._clock.now, 1 + OWN_WRITES_AT_END)
        self._begin_makes(node)

    # --- Failures -----------------------------------------------------------------------------------------------------

    def _one_fails(self) -> None:
        chance = self._chances["failures"]
        self._clock.after(chance.expovariate(self._scene.nodes / self._scene.mtbf_s), self._one_fails)
        node = chance.randrange(self._scene.nodes)  # drawn whether it is up or not: the same nodes for every policy
        if not self._nodes.up[node]:
            return
        self._counts.lost += self._nodes.used[node]
        for making in self._nodes.waiting[node]:
            if making.request is not None:
                self._fail(making.request)
        self._nodes.fail(node)
        self._down_since[node] = self._clock.now
        self._clock.after(self._times.lost_after, partial(self._noticed, node))
        self._clock.after(self._scene.repair_s, partial(self._returns, node))

    def _noticed(self, node: int) -> None:
        leases = self._nodes.lose(node)
        for view in self._views:
            view.lose(node)
        self._raft.write(self._clock.now, leases * (1 + OWN_WRITES_AT_END))

    def _returns(self, node: int) -> None:
        self._nodes.come_back(node)
        self._begin_makes(node)
