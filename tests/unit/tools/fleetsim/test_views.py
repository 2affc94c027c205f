"""What a manager knows, and what it does not know yet."""

import pytest

from tools.fleetsim.nodes import Nodes
from tools.fleetsim.scene import Scene
from tools.fleetsim.views import View


@pytest.fixture
def nodes() -> Nodes:
    made = Nodes(Scene(nodes=3))
    for node in range(3):
        made.fill(node)
    return made


def test_it_knows_the_last_look_and_its_own_doings(nodes: Nodes) -> None:
    view, other = View(nodes), View(nodes)
    nodes.warm[0][1], nodes.used[1] = 2, 1
    view.placed(1, 0)
    assert (view.warm[0], view.used) == ([3, 2, 3], [0, 1, 0])
    assert (other.warm[0], other.used) == ([3, 3, 3], [0, 0, 0])
    other.read(1)
    assert (other.warm[0], other.used) == ([3, 2, 3], [0, 1, 0])
    nodes.warm[0][0], nodes.used[0] = 1, 2
    other.look()
    assert (other.warm[0], other.used) == ([1, 2, 3], [2, 1, 0])


def test_it_learns_that_a_pool_is_empty(nodes: Nodes) -> None:
    view = View(nodes)
    view.found_empty(2, 0)
    assert view.warm[0] == [3, 3, 0]
    view.placed(2, 0)  # made anew there: nothing is taken from a pool that has nothing
    assert view.warm[0] == [3, 3, 0] and view.used == [0, 0, 1]


def test_who_does_not_answer_is_as_before_until_the_loss_is_noticed(nodes: Nodes) -> None:
    view = View(nodes)
    view.placed(0, 0)
    nodes.fail(0)
    view.look()
    assert view.warm[0] == [2, 3, 3] and view.used[0] == 1 and not view.lost[0]
    nodes.lose(0)
    view.lose(0)
    view.look()
    assert view.warm[0] == [0, 3, 3] and view.lost[0]
