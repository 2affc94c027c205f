"""Work that hangs: whoever asked is told, and not many threads are left behind."""

import threading

import pytest

from sandboxd.errors import Conflict, HostError
from sandboxd.patience import LEFT_MOST, TRY_S, NoAnswer, Patience, is_awaited
from tests.unit.sandboxd.conftest import until


def test_what_the_work_returns_or_raises() -> None:
    patience = Patience(15, "does not answer")
    assert patience.run(lambda: 1) == 1

    def refuse() -> None:
        raise Conflict("in use")

    with pytest.raises(Conflict, match="in use"):
        patience.run(refuse)


def test_work_that_hangs_is_left_behind_and_done_later() -> None:
    released, done = threading.Event(), threading.Event()

    def hang() -> None:
        released.wait()
        done.set()

    with pytest.raises(HostError, match="does not answer"):
        Patience(0.01, "does not answer").run(hang)
    released.set()
    assert done.wait(15)


def test_work_that_is_left_behind_knows_that_nobody_waits() -> None:
    asked, released, found = threading.Event(), threading.Event(), list[bool]()
    done = threading.Event()

    def hang() -> None:
        found.append(is_awaited())
        asked.set()
        released.wait(15)
        found.append(is_awaited())
        done.set()

    with pytest.raises(NoAnswer):
        Patience(0.01, "does not answer").run(hang)
    assert asked.wait(15)
    released.set()
    assert done.wait(15) and found[-1] is False
    assert Patience(15, "does not answer").run(is_awaited) and is_awaited(), "what another one was told is its own"


def test_while_many_hang_no_more_are_begun_but_one_now_and_then() -> None:
    now, began, released = 1000.0, [], threading.Event()
    patience = Patience(0.01, "does not answer", lambda: now)

    def hang() -> None:
        began.append(now)
        released.wait()

    def ask(times: int, begun: int) -> None:
        for _ in range(times):
            with pytest.raises(HostError, match="does not answer"):
                patience.run(hang)
        until(lambda: len(began) == begun, "others are begun")

    ask(LEFT_MOST + 5, LEFT_MOST)
    now += TRY_S
    ask(5, LEFT_MOST + 1)
    now += TRY_S
    patience.wait_s = 15  # for what does not hang
    assert patience.run(lambda: "there again") == "there again", "who is tried gets the answer"
    released.set()
    threads = [thread for thread in threading.enumerate() if thread.name == "patience"]
    for thread in threads:
        thread.join(15)
    assert patience.run(lambda: 1) == patience.run(lambda: 1) == 1
