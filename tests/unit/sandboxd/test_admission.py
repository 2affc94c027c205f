"""How many are made at the same time, who goes first, and what a full host refuses."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest

from sandboxd.admission import Admission
from sandboxd.config import Config
from sandboxd.errors import HostBusy, HostFull
from sandboxd.records import Claim, Sandbox
from tests.unit.sandboxd.conftest import World, living, until


def test_never_more_than_allowed_at_once() -> None:
    """Each pair that is inside leaves only when told, so a third would have all the time to come in."""
    admission, leave = Admission(2), threading.Semaphore(0)
    inside: set[int] = set()
    gone: list[int] = []

    def work(number: int) -> None:
        with admission.for_claim() if number % 2 else admission.for_pool():
            inside.add(number)
            assert leave.acquire(timeout=120), "longer than the test looks"
            inside.discard(number)
        gone.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for finished in range(0, 12, 2):
        until(partial(lambda number: (len(gone), len(inside)) == (number, 2), finished), "two inside")
        leave.release(2)
    for thread in threads:
        thread.join(30)
    assert len(gone) == 12 and not inside


def test_a_place_that_is_left_over_goes_to_the_pool() -> None:
    """Two places came free, the pool looked first and gave way to the claimer: it must look again after him."""
    admission, leave = Admission(2), threading.Event()
    inside: list[str] = []

    def enter(who: str) -> None:
        with admission.for_claim() if who == "claim" else admission.for_pool():
            inside.append(who)
            assert leave.wait(120), "longer than the test looks"

    def asleep(number: int) -> bool:
        return len(admission._changed._waiters) == number  # type: ignore[attr-defined]

    admission._free = 0  # both places are taken, and come free in one step below
    threads = [threading.Thread(target=enter, args=(who,)) for who in ("pool", "claim")]
    for number, thread in enumerate(threads, 1):
        thread.start()
        until(partial(asleep, number), "it waits")
    with admission._changed:
        admission._free = 2
        admission._changed.notify(1)  # the one that waits longest: the pool
    until(partial(asleep, 2), "the pool gives way")
    with admission._changed:
        admission._changed.notify(1)
    try:
        until(lambda: len(inside) == 2, "both inside")
    finally:
        leave.set()
    for thread in threads:
        thread.join(30)


def test_claimers_go_before_the_pool() -> None:
    admission = Admission(1)
    order: list[str] = []

    def enter(who: str) -> None:
        with admission.for_claim() if who == "claim" else admission.for_pool():
            order.append(who)

    with admission.for_claim():
        pool = threading.Thread(target=enter, args=("pool",))
        pool.start()
        claim = threading.Thread(target=enter, args=("claim",))
        claim.start()
        until(lambda: admission._waiting == 1, "the claimer waits")
    pool.join(30)
    claim.join(30)
    assert order == ["claim", "pool"]


def test_too_many_waiting_are_refused_at_once() -> None:
    admission = Admission(1, max_waiting=1)

    def wait() -> None:
        with admission.for_claim():
            pass

    with admission.for_claim():
        waiting = threading.Thread(target=wait)
        waiting.start()
        until(lambda: admission._waiting == 1, "one waits")
        with pytest.raises(HostBusy, match="1 sandboxes wait"), admission.for_claim():
            pass
    waiting.join(30)


def test_a_failure_inside_gives_the_place_back() -> None:
    admission = Admission(1)
    for _ in range(3):
        with pytest.raises(RuntimeError), admission.for_claim():
            raise RuntimeError


def test_how_many_are_inside() -> None:
    admission = Admission(3)
    with admission.for_claim(), admission.for_pool():
        assert admission.inside == 2
    assert admission.inside == 0


def create(world: World) -> Sandbox:
    return world.sandboxes.create(world.config.templates["base"], Claim())


def fill_up(world: World, limit: str) -> None:
    if limit == "memory_reserve_mb":
        world.memory_mb[0] = 1024
    else:
        world.disk_mb["docker" if limit == "docker" else "state"] = 2047


@pytest.mark.parametrize("limit", ["memory_reserve_mb", "state", "docker"])
def test_a_full_host_makes_nothing(world: World, limit: str) -> None:
    """`state` and `docker` are the file systems that disk_reserve_mb looks at."""
    fill_up(world, limit)
    with pytest.raises(HostFull) as error:
        create(world)
    assert error.value.limit == (limit if limit == "memory_reserve_mb" else "disk_reserve_mb")
    assert world.engine.empty() and world.leftovers() == [] and world.ledger.rows() == []
    world.memory_mb[0] = 8192
    world.disk_mb.clear()
    create(world)


def test_exactly_as_many_as_allowed_are_made(config: Config) -> None:
    with living(replace(config, max_sandboxes=5, create_parallelism=4)) as world:

        def attempt(_: int) -> str:
            try:
                return create(world).id
            except HostFull as error:
                return error.limit

        with ThreadPoolExecutor(12) as several:
            answers = list(several.map(attempt, range(12)))
        assert answers.count("max_sandboxes") == 7 and len(set(answers)) == 6
        world.sandboxes.remove(world.ledger.rows("running")[0], "test")
        assert create(world).state == "running", "there is room again"


@pytest.mark.parametrize("limit", ["memory_reserve_mb", "state", "docker"])
def test_a_stopped_one_is_not_started_on_a_full_host(world: World, limit: str) -> None:
    stopped = world.transitions.stop(create(world), "test")
    fill_up(world, limit)
    with pytest.raises(HostFull):
        world.transitions.resume(stopped)
    assert world.ledger.rows("stopped") == [stopped] and not world.engine.containers[stopped.id].running
    world.memory_mb[0] = 8192
    world.disk_mb.clear()
    assert world.transitions.resume(stopped).state == "running"


def test_one_that_was_stopped_counts_already(config: Config) -> None:
    with living(replace(config, max_sandboxes=1)) as world:
        stopped = world.transitions.stop(create(world), "test")
        with pytest.raises(HostFull, match="1 in use"):
            create(world)
        assert world.transitions.resume(stopped).state == "running"


def test_a_paused_one_has_its_memory_already(world: World) -> None:
    paused = world.transitions.pause(create(world))
    world.memory_mb[0] = 0
    assert world.transitions.resume(paused).state == "running"


def test_starts_wait_for_a_place_as_creates_do(world: World) -> None:
    stopped = world.transitions.stop(create(world), "test")
    with world.sandboxes.admission.for_pool(), world.sandboxes.admission.for_pool():
        starting = threading.Thread(target=world.transitions.resume, args=(stopped,))
        starting.start()
        until(lambda: world.sandboxes.admission._waiting == 1, "it waits")
        assert world.ledger.rows("stopped") == [stopped]
    starting.join(30)
    assert [row.id for row in world.ledger.rows("running")] == [stopped.id]
