"""Members of pools: what a reading knows, without what is taken or gone."""

import pytest

from fleet.index import Index
from fleet.warm import WarmMembers
from tests.unit.fleet.test_index import index, now, told

__all__ = ["index"]


@pytest.fixture
def members(index: Index) -> WarmMembers:
    """Two of `base` on b, none on a."""
    index._take("a", told(), now(index))
    index._take("b", told(warm=("w1", "w2")), now(index))
    return WarmMembers(index)


def test_each_is_taken_once(members: WarmMembers) -> None:
    assert members.take("a", "base") == members.take("b", "other") == ""
    assert {members.take("b", "base"), members.take("b", "base")} == {"w1", "w2"}
    assert members.take("b", "base") == ""
    assert members.of("b", "base") == {"w1", "w2"}, "they may be there"


def test_one_whose_claim_has_come_to_nothing_can_be_taken_again(members: WarmMembers) -> None:
    first, second = members.take("b", "base"), members.take("b", "base")
    members.let_go("b", "base", first)
    assert members.take("b", "base") == first != second


def test_where_none_is_left_is_read_soon_and_counts_only_new_ones(members: WarmMembers, index: Index) -> None:
    members.none_left("b", "base")
    assert members.of("b", "base") == set() and members.take("b", "base") == ""
    assert index._wake["b"].is_set() and not index._wake["a"].is_set()
    index._take("b", told(warm=("w2", "w3")), now(index))
    assert members.of("b", "base") == {"w3"} and members.take("b", "base") == "w3"


def test_one_that_was_taken_and_has_gone_is_forgotten(members: WarmMembers, index: Index) -> None:
    taken = {members.take("b", "base"), members.take("b", "base")}
    index._take("b", told(), now(index))
    assert members.take("b", "base") == ""
    index._take("b", told(warm=tuple(taken)), now(index))
    assert members.take("b", "base") in taken
