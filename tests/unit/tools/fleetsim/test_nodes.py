"""Reservations, pools, and whose turn it is to be made."""

from tools.fleetsim.nodes import Making, Nodes, Request
from tools.fleetsim.scene import Scene, Template

BASE, BROWSER = Template("base", 2048, 2.0, 2), Template("browser", 4096, 2.0, 2)


def nodes(**changed: object) -> Nodes:
    return Nodes(Scene(**{"nodes": 3, "memory_mb": 16384, "cpus": 8.0, "templates": (BASE, BROWSER), **changed}))  # type: ignore[arg-type]


def test_pools_are_filled_as_far_as_there_is_room() -> None:
    made = nodes(cpus=5.0)
    assert made.fill(0) == 2 and [numbers[0] for numbers in made.warm] == [2, 0]
    assert (made.free_mb[0], made.free_cpus[0], made.present[0]) == (16384 - 2 * 2048, 1.0, 2)
    assert not made.has_room(0, 0) and made.has_room(1, 0)


def test_memory_processors_and_number_each_are_a_limit() -> None:
    assert nodes(memory_mb=4096).fill(0) == 2
    assert nodes(cpus=2.0).fill(0) == 1
    assert nodes(max_sandboxes=3).fill(0) == 3


def test_what_is_released_is_there_again() -> None:
    made = nodes()
    made.fill(0)
    made.release(0, 1)
    assert (made.free_mb[0], made.free_cpus[0], made.present[0]) == (16384 - 2 * 2048 - 4096, 2.0, 3)


def test_requests_go_before_pools_and_the_emptiest_pool_first() -> None:
    made = nodes(parallel=3)
    request = Making(0, Request(0.0, 0, 0, True))
    made.waiting[0].append(request)
    made.warm[0][0] = 1
    assert [made.next_to_make(0) for _ in range(4)] == [request, Making(1, None), Making(0, None), None]
    assert made.running[0] == 3 and [numbers[0] for numbers in made.starting] == [1, 1]


def test_a_full_pool_wants_nothing() -> None:
    made = nodes()
    made.fill(0)
    assert made.next_to_make(0) is None and made.running[0] == 0


def test_a_node_that_fails_is_empty_and_has_no_room_once_that_is_noticed() -> None:
    made = nodes()
    made.fill(0)
    made.waiting[0].append(Making(0, None))
    made.fail(0)
    assert not made.up[0] and made.life[0] == 1 and not made.waiting[0] and made.warm[0][0] == 0
    assert made.present[0] == 4 and made.next_to_make(0) is None
    assert made.lose(0) == 4 and made.present[0] == 0 and not made.has_room(0, 0)
    made.come_back(0)
    assert made.has_room(0, 0) and made.free_mb[0] == 16384 and made.next_to_make(0) == Making(0, None)
