"""The leader's queue."""

import pytest

from tools.fleetsim.raft import Raft
from tools.fleetsim.times import CONSENSUS, Consensus

EACH = Consensus(each=1.0, more=0.5, assigned=0.0)


@pytest.mark.parametrize(("managers", "seconds"), [(1, 0.002), (3, 0.005)])
def test_a_write_alone_takes_what_was_measured(managers: int, seconds: float) -> None:
    assert Raft(CONSENSUS[managers], ()).write(10.0) == pytest.approx(10 + seconds)


def test_twelve_at_once_take_what_was_measured() -> None:
    raft = Raft(CONSENSUS[3], ())
    assert max(raft.write(0.0) for _ in range(12)) == pytest.approx(0.037, abs=0.003)


def test_writes_wait_for_each_other_and_not_for_answers() -> None:
    raft = Raft(EACH, ())
    assert [raft.write(0.0), raft.write(0.0, 2), raft.write(10.0), raft.write(10.0, 0)] == [1.5, 3.5, 11.5, 10.0]
    assert (raft.writes, raft.busy_s, raft.longest_wait_s) == (4, 4.0, 1.0)


def test_without_a_leader_they_wait_for_the_next_one() -> None:
    raft = Raft(EACH, [(20.0, 5.0), (4.0, 2.0)])
    assert [raft.leads(at) for at in (3.9, 4.0, 5.9, 6.0, 20.0, 25.0)] == [True, False, False, True, False, True]
    assert [raft.write(4.5), raft.write(5.0), raft.write(24.0)] == [7.5, 8.5, 26.5]


def test_it_counts_anew() -> None:
    raft = Raft(EACH, ())
    raft.write(0.0, 3)
    raft.forget()
    assert (raft.writes, raft.busy_s) == (0, 0.0) and raft.write(0.0) == 4.5
