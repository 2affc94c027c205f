"""Time that runs: the same from the same seed, nothing lost on the way, and what queueing theory knows already."""

import math
from dataclasses import replace
from typing import Any

import pytest

from tools.fleetsim.distributions import Distribution, Exponential, Fixed, Pareto
from tools.fleetsim.policies import POLICIES
from tools.fleetsim.results import Result
from tools.fleetsim.scene import MAKE, Scene, Template
from tools.fleetsim.simulation import simulated
from tools.fleetsim.times import Times

ROUGH = Scene(
    nodes=12,
    templates=(Template("base", 2048, 2.0, 3, 4), Template("browser", 8192, 4.0, 1)),
    rate=0.25,
    burst_every_s=90.0,
    burst_size=20,
    life=Pareto(300.0, 1.5),
    mtbf_s=3600.0,
    repair_s=60.0,
    leaderless=((700.0, 23.0), (900.0, 12.0)),
    warm_up_s=300.0,
    duration_s=900.0,
    entries=3,
)


def erlang_b(servers: int, load: float) -> float:
    """The share of calls that find all servers busy."""
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = load * blocked / (number + load * blocked)
    return blocked


def erlang_c(servers: int, load: float) -> float:
    """The share of calls that wait."""
    blocked = erlang_b(servers, load)
    return blocked / (1 - load / servers * (1 - blocked))


def longer(servers: int, load: float, service_s: float, seconds: float) -> float:
    """The share that takes longer than this, waiting and service together, in M/M/c."""
    waits, spare, rate = erlang_c(servers, load), servers - load - 1, 1 / service_s
    return math.exp(-rate * seconds) * (1 + waits * (1 - math.exp(-rate * seconds * spare)) / spare)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_seed_gives_the_same_result(policy: str) -> None:
    assert simulated(ROUGH, policy) == simulated(ROUGH, policy)


def test_another_seed_gives_another() -> None:
    assert simulated(ROUGH, "random") != simulated(replace(ROUGH, seed=2), "random")


def test_every_policy_gets_the_same_creates() -> None:
    assert len({simulated(ROUGH, policy).arrivals for policy in POLICIES}) == 1


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("policy", POLICIES)
def test_nothing_is_lost_on_the_way(policy: str, seed: int) -> None:
    found = simulated(replace(ROUGH, seed=seed), policy)
    assert found.arrivals == found.served + sum(found.refused.values()) + found.failed + found.waiting
    assert found.arrivals > 300 and 0 < found.hits <= found.served and found.lost > 0 and 0 <= found.waiting < 100
    assert 0 < found.p50_ms <= found.p95_ms <= found.p99_ms


@pytest.mark.parametrize(
    ("life", "load"),
    [(Exponential(100.0), 6.0), (Exponential(100.0), 15.0), (Pareto(100.0, 2.2), 10.0), (Fixed(100.0), 10.0)],
)
def test_a_full_fleet_refuses_what_erlang_says(life: Distribution, load: float) -> None:
    """M/G/c/c: ten places on five nodes. How long sandboxes live matters by its mean alone."""
    times = Times(cold=Fixed(0.1), kill=0.0)
    held_s = life.mean + 0.07 + 0.1
    scene = Scene(
        nodes=5, cpus=4.0, templates=(Template("base", 2048, 2.0, 0),), rate=load / held_s, life=life, managers=3,
        warm_up_s=2000.0, duration_s=120_000.0, times=times,
    )  # fmt: skip
    found = simulated(scene, "random")
    assert found.refused["full"] / found.arrivals == pytest.approx(erlang_b(10, load), abs=0.015)
    assert found.load_mean * 5 == pytest.approx(load * (1 - erlang_b(10, load)), rel=0.03)
    assert found.hits == 0


@pytest.mark.parametrize(("parallel", "load"), [(1, 0.5), (2, 1.2), (4, 2.8)])
def test_creates_wait_on_a_node_as_long_as_erlang_says(parallel: int, load: float) -> None:
    """M/M/c: one node without a pool, which makes so many at a time."""
    mean_s = 10.0
    scene = Scene(
        nodes=1, managers=1, cpus=4096.0, memory_mb=2**30, max_sandboxes=10**6, max_waiting=10**6, parallel=parallel,
        templates=(Template("base", 1, 0.0, 0),), rate=load / mean_s, life=Fixed(1.0),
        times=Times(cold=Exponential(mean_s), create_cores=0.0), warm_up_s=5000.0, duration_s=400_000.0,
    )  # fmt: skip
    found = simulated(scene, "least-loaded")
    placing_s = 0.056
    for share, value_ms, within in ((0.5, found.p50_ms, 0.04), (0.05, found.p95_ms, 0.12), (0.01, found.p99_ms, 0.25)):
        assert longer(parallel, load, mean_s, value_ms / 1000 - placing_s) == pytest.approx(share, rel=within)


def quiet(**changed: Any) -> Result:
    """A fleet with much room, few creates and no failures."""
    return simulated(Scene(**{"nodes": 5, "rate": 0.05, "duration_s": 20_000.0, **changed}), "least-loaded")


def test_with_room_and_time_all_come_from_the_pool_in_what_was_measured() -> None:
    found = quiet(managers=1)
    assert (
        found.hit_rate == 1
        and found.p50_ms == pytest.approx(6.7, abs=0.1)
        and found.p95_ms == pytest.approx(8.1, abs=0.3)
    )
    assert found.stale == found.failed == sum(found.refused.values()) == 0


def test_without_a_pool_all_are_made_anew_in_what_was_measured() -> None:
    found = quiet(templates=(Template("base", 2048, 2.0, 0),))
    assert found.hit_rate == 0 and found.p50_ms == pytest.approx(323 + 70, abs=8)


def test_two_at_a_time_on_two_cores_take_longer_each() -> None:
    alone = quiet(templates=(Template("base", 64, 0.0, 0),), cpus=2.0, rate=0.02)
    crowd = quiet(templates=(Template("base", 64, 0.0, 0),), cpus=2.0, burst_every_s=300.0, burst_size=50, rate=0.0)
    assert alone.p50_ms == pytest.approx(393, abs=8) and crowd.p99_ms > 5 * 0.4 * 1000


def test_the_least_loaded_are_loaded_more_evenly_than_any() -> None:
    scene = Scene(nodes=30, rate=0.5)
    assert simulated(scene, "least-loaded").load_deviation < simulated(scene, "two-choices").load_deviation
    assert simulated(scene, "two-choices").load_deviation < simulated(scene, "random").load_deviation


def test_six_writes_in_the_life_of_a_sandbox() -> None:
    found = quiet(rate=0.2, life=Fixed(30.0))
    assert found.raft_writes_per_s == pytest.approx(6 * 0.2, rel=0.05)
    assert found.raft_busy == pytest.approx(6 * 0.2 * 0.0031, rel=0.05)


@pytest.mark.parametrize("pool", [0, 3])
def test_more_writes_than_the_leader_can_do_stop_what_has_to_be_booked_first(pool: int) -> None:
    scene = Scene(
        nodes=200, rate=70.0, life=Fixed(20.0), templates=(Template("base", 2048, 2.0, pool),), warm_up_s=60.0,
        duration_s=60.0,
    )  # fmt: skip
    found = simulated(scene, "random-warm")
    if pool:
        assert found.raft_busy > 1 and found.hit_rate == 1 and found.p99_ms < 10
    else:
        assert found.served < 0.9 * found.arrivals and found.p50_ms > 1000


@pytest.mark.parametrize("policy", POLICIES)
def test_nobody_waits_for_ever(policy: str) -> None:
    scene = Scene(
        nodes=50, rate=0.001, burst_every_s=400.0, burst_size=300, life=Fixed(100.0), leaderless=((1000.0, 5.0),),
        warm_up_s=0.0, duration_s=20_000.0, seed=5,
    )  # fmt: skip
    found = simulated(scene, policy)
    assert found.waiting == 0 and found.arrivals > 5000 and 0 < found.hit_rate < 1


def test_without_a_leader_pools_go_on_and_new_ones_are_refused() -> None:
    gap = ((2000.0, 600.0),)
    assert quiet(leaderless=gap).hit_rate == 1 and sum(quiet(leaderless=gap).refused.values()) == 0
    found = quiet(leaderless=gap, templates=(Template("base", 2048, 2.0, 0),))
    assert found.refused["no leader"] == pytest.approx(0.05 * 600, abs=15)
    assert sum(found.refused.values()) == found.refused["no leader"]


def test_who_asks_a_node_that_died_just_now_waits_until_that_is_noticed() -> None:
    found = simulated(Scene(nodes=3, rate=2.0, life=Fixed(5.0), mtbf_s=120.0, repair_s=30.0), "round-robin")
    assert 100 < found.p99_ms <= 3100 and found.failed < 0.02 * found.arrivals and found.lost > 0


def test_managers_that_look_seldom_ask_in_vain() -> None:
    scene = Scene(nodes=10, rate=0.0, burst_every_s=300.0, burst_size=25, entries=3, duration_s=10_000.0)
    makes, asks = simulated(replace(scene, on_empty=MAKE), "least-loaded"), simulated(scene, "least-loaded")
    assert makes.stale > 0 and asks.stale > 0 and makes.hit_rate < 0.95 < asks.hit_rate
    assert simulated(replace(scene, entries=1), "least-loaded").stale == 0


def test_what_managers_ask_and_read() -> None:
    found = quiet(managers=3)
    assert found.calls_to_nodes_per_s == pytest.approx(3 * 5 / 2 + 3 * 0.05, rel=0.02)
    assert found.calls_to_managers_per_s == pytest.approx(0.1, rel=0.1)
    present = 5 * (found.load_mean + 3)
    assert found.bytes_of_nodes_per_round == pytest.approx(5 * 600 + present * 570, rel=0.01)
    assert found.bytes_of_leases_per_round == pytest.approx(present * 1967, rel=0.01)
