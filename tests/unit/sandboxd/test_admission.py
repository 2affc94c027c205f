"""How many are made at the same time, and who goes first."""

import threading
import time

import pytest

from sandboxd.admission import Admission
from sandboxd.errors import HostBusy
from tests.unit.sandboxd.test_pool import until


def test_never_more_than_allowed_at_once() -> None:
    admission, lock = Admission(2), threading.Lock()
    inside: list[int] = [0]
    most: list[int] = [0]

    def work() -> None:
        with admission.for_claim():
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            time.sleep(0.002)
            with lock:
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert most[0] == 2 and inside[0] == 0


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
