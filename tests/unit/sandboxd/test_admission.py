"""How many are made at the same time, and who goes first."""

import threading
from functools import partial

import pytest

from sandboxd.admission import Admission
from sandboxd.errors import HostBusy
from tests.unit.sandboxd.conftest import until


def test_never_more_than_allowed_at_once() -> None:
    """Each pair that is inside leaves only when told, so a third would have all the time to come in."""
    admission, leave = Admission(2), threading.Semaphore(0)
    inside: set[int] = set()
    gone: list[int] = []

    def work(number: int) -> None:
        with admission.for_claim() if number % 2 else admission.for_pool():
            inside.add(number)
            assert leave.acquire(timeout=5)
            inside.discard(number)
        gone.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for finished in range(0, 12, 2):
        until(partial(lambda number: (len(gone), len(inside)) == (number, 2), finished), "two inside")
        leave.release(2)
    for thread in threads:
        thread.join(5)
    assert len(gone) == 12 and not inside


def test_a_place_that_is_left_over_goes_to_the_pool() -> None:
    """Two places came free, the pool looked first and gave way to the claimer: it must look again after him."""
    admission, leave = Admission(2), threading.Event()
    inside: list[str] = []

    def enter(who: str) -> None:
        with admission.for_claim() if who == "claim" else admission.for_pool():
            inside.append(who)
            assert leave.wait(30), "longer than the test looks"

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
        thread.join(5)


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
    pool.join(5)
    claim.join(5)
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
    waiting.join(5)


def test_a_failure_inside_gives_the_place_back() -> None:
    admission = Admission(1)
    for _ in range(3):
        with pytest.raises(RuntimeError), admission.for_claim():
            raise RuntimeError
