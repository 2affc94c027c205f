"""How many sandboxes a key may have, while some of them are being made."""

import threading

import pytest

from sandboxd.errors import QuotaReached
from sandboxd.quota import Quota
from tests.unit.sandboxd.conftest import World
from tests.unit.sandboxd.e2b.conftest import Public


def test_one_that_is_being_made_counts_once(world: World) -> None:
    """It is in the ledger before its request ends: the second request has to wait to know whether there is room."""
    small = Public(world, "small", max_sandboxes=2)
    quota, (key,) = Quota(world.ledger), world.ledger.keys()
    entered = threading.Event()

    def second() -> None:
        with quota.place(key, ""):
            entered.set()

    thread = threading.Thread(target=second)
    with quota.place(key, ""):
        small.create()
        thread.start()
        assert not entered.is_set()
    thread.join(30)
    assert entered.is_set()


def test_one_too_many(world: World) -> None:
    small = Public(world, "small", max_sandboxes=1)
    quota, (key,) = Quota(world.ledger), world.ledger.keys()
    refused: list[str] = []

    def second() -> None:
        with pytest.raises(QuotaReached) as caught, quota.place(key, ""):
            pass
        refused.append(str(caught.value))

    thread = threading.Thread(target=second)
    with quota.place(key, ""):
        thread.start()
        small.create()
    thread.join(30)
    assert len(refused) == 1 and "may have 1 sandboxes at a time, and has 1." in refused[0]
