"""A sandbox's life, and where one is found that is gone."""

import pytest

from sandboxd.errors import Conflict, NotFound
from sandboxd.history import Event, find, history
from sandboxd.records import Claim, Sandbox
from tests.unit.sandboxd.conftest import World
from tests.unit.sandboxd.fake_engine import START


def made(world: World, **claim: str) -> Sandbox:
    world.now[0] += 1
    return world.sandboxes.create(world.config.templates["base"], Claim(**claim))  # type: ignore[arg-type]


def kinds(events: list[Event]) -> list[str]:
    return [event.kind for event in events]


def present(world: World, row: Sandbox) -> Sandbox:
    found = world.ledger.get(row.slot)
    assert found is not None
    return found


def test_a_cold_create_that_is_in_use(world: World) -> None:
    events = history(made(world, name="demo"), START)
    assert events == [
        Event(START + 1, "created", "made when it was asked for: template base, image sha256:1"),
        Event(START + 1, "claimed", "in use from now on as 'demo'"),
    ]


def test_a_member_of_the_pool_that_was_claimed_later(world: World) -> None:
    world.sandboxes.create_member(world.config.templates["base"], lambda: True)
    world.now[0] += 60
    row = world.sandboxes.claim(world.config.templates["base"], Claim())
    assert row is not None
    created, claimed = history(row, world.now[0])
    assert created.text.startswith("made in advance, for the pool") and created.at == START
    assert claimed == Event(START + 60, "claimed", "in use from now on")


def test_a_restart(world: World) -> None:
    row = made(world)
    world.ledger.set_boot(row.slot, row.address, "2027-01-15T08:00:30.500000000Z", row.image_id)
    assert history(present(world, row), START)[-1] == Event(
        START + 30.5, "restarted", "its container was started again"
    )


def test_an_end(world: World) -> None:
    row = made(world)
    world.ledger.set_removing(row.slot, "timeout reached")
    assert history(present(world, row), START + 7)[-1] == Event(START + 7, "ended", "timeout reached"), "under way"
    world.ledger.set_gone(row.slot, START + 9)
    events = history(present(world, row), START + 100)
    assert kinds(events) == ["created", "claimed", "ended"] and events[-1] == Event(
        START + 9, "ended", "timeout reached"
    )


def test_a_create_that_failed_was_never_in_use(world: World) -> None:
    world.dead.add("10.200.0.1")
    with pytest.raises(Exception, match="does not answer"):
        made(world)
    (row,) = world.ledger.rows("gone")
    events = history(row, START)
    assert kinds(events) == ["created", "ended"] and "create failed" in events[-1].text


def test_one_in_use_is_found_before_those_that_are_gone(world: World) -> None:
    gone, used = made(world), made(world)
    world.sandboxes.remove(gone, "removed by request")
    assert find(world.ledger, "0000").id == used.id
    assert find(world.ledger, gone.id).state == "gone"


def test_several_that_fit_are_named(world: World) -> None:
    rows = [made(world), made(world)]
    with pytest.raises(Conflict, match=f"{rows[0].id}, {rows[1].id}"):
        find(world.ledger, "0000")
    for row in rows:
        world.sandboxes.remove(row, "removed by request")
    with pytest.raises(Conflict, match=f"{rows[0].id}, {rows[1].id}"):
        find(world.ledger, "0000")


@pytest.mark.parametrize("prefix", ["", "ffff"])
def test_one_that_never_was(world: World, prefix: str) -> None:
    made(world)
    with pytest.raises(NotFound, match=f"'{prefix}' not found"):
        find(world.ledger, prefix)


def test_a_pool_member_is_nobodys_sandbox_yet(world: World) -> None:
    world.sandboxes.create_member(world.config.templates["base"], lambda: True)
    with pytest.raises(NotFound):
        find(world.ledger, "0000")
