"""One thread at a time works on a slot."""

import threading

import pytest

from sandboxd.errors import Conflict
from sandboxd.slotlocks import SlotLocks


def test_the_next_one_waits_for_the_one_before() -> None:
    locks, order = SlotLocks(), []
    entered = threading.Event()

    def second() -> None:
        entered.set()
        with locks.hold("a"):
            order.append("second")

    with locks.hold("a"):
        thread = threading.Thread(target=second)
        thread.start()
        entered.wait(30)
        with locks.hold("b"):  # another slot is free
            order.append("first")
        assert locks.held("a") and not locks.held("b")
    thread.join(30)
    assert order == ["first", "second"] and not locks.held("a")


def test_a_failure_lets_it_go() -> None:
    locks = SlotLocks()
    with pytest.raises(ZeroDivisionError), locks.hold("a"):
        raise ZeroDivisionError
    assert not locks.held("a")


def test_who_waits_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandboxd.slotlocks.DEADLINE_S", 0.01)
    locks = SlotLocks()
    with locks.hold("a"), pytest.raises(Conflict, match="slot a is being changed"), locks.hold("a"):
        pass
    assert not locks.held("a")
