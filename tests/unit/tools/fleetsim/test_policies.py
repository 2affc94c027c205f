"""Who gets a create."""

from collections import Counter
from random import Random

import pytest

from tools.fleetsim.nodes import Nodes
from tools.fleetsim.policies import POLICIES
from tools.fleetsim.scene import Scene
from tools.fleetsim.views import View


def view(warm: list[int], used: list[int]) -> View:
    made = View(Nodes(Scene(nodes=len(warm), managers=1)))
    made.warm, made.used = [warm], used
    return made


def chosen(policy: str, seen: View, room: list[bool], times: int = 400) -> Counter[int | None]:
    one = POLICIES[policy](Random(3))
    return Counter(one.choose(seen, 0, lambda node: room[node] and not seen.lost[node]) for _ in range(times))


ALL = [True] * 4


def test_least_loaded_takes_the_least_loaded_of_those_with_a_member() -> None:
    seen = view([1, 0, 1, 1], [5, 0, 2, 2])
    assert set(chosen("least-loaded", seen, ALL)) == {2}
    found = chosen("least-by-chance", seen, ALL)
    assert set(found) == {2, 3} and min(found.values()) > 100


def test_least_loaded_without_members_takes_the_least_loaded_with_room() -> None:
    assert set(chosen("least-loaded", view([0] * 4, [5, 0, 2, 1]), [True, False, True, True])) == {3}


def test_two_warm_prefers_the_less_loaded_of_those_with_a_member() -> None:
    found = chosen("two-warm", view([1, 0, 1, 1], [9, 0, 2, 1]), ALL)
    assert set(found) == {0, 2, 3} and found[3] > found[2] > found[0]


def test_random_warm_takes_any_of_those_with_a_member() -> None:
    found = chosen("random-warm", view([1, 0, 1, 1], [9, 0, 2, 1]), ALL)
    assert set(found) == {0, 2, 3} and min(found.values()) > 80


def test_random_takes_any() -> None:
    found = chosen("random", view([1, 0, 1, 1], [9, 0, 2, 1]), ALL)
    assert set(found) == {0, 1, 2, 3} and min(found.values()) > 60


def test_in_turn_goes_around_past_what_is_full() -> None:
    one, seen = POLICIES["round-robin"](Random(3)), view([0, 0, 1, 0], [0, 0, 9, 0])
    found = [one.choose(seen, 0, lambda node: node != 1 and node != 2) for _ in range(9)]
    assert set(found) == {0, 2, 3} and found[:3] == found[3:6] == found[6:]
    assert "023" in "".join(map(str, found))


def test_two_choices_prefers_members_and_then_the_less_loaded() -> None:
    found = chosen("two-choices", view([1, 0, 1, 0], [9, 0, 2, 1]), ALL)
    assert found[2] > found[0] > found[1] and found[3] < found[0]


@pytest.mark.parametrize("policy", POLICIES)
def test_nobody_gets_it_when_nobody_can(policy: str) -> None:
    assert set(chosen(policy, view([0] * 4, [1] * 4), [False] * 4)) == {None}


@pytest.mark.parametrize("policy", POLICIES)
def test_the_only_one_that_can_is_found_and_who_is_lost_gets_none(policy: str) -> None:
    seen = view([0] * 40, [1] * 40)
    assert set(chosen(policy, seen, [node == 17 for node in range(40)], 20)) == {17}
    seen.lost[17] = True
    assert set(chosen(policy, seen, [node in (17, 21) for node in range(40)], 20)) == {21}
