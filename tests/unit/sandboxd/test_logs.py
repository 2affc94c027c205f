"""A log, read to its end or followed through restarts."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from sandboxd import logs
from sandboxd.errors import EngineDown, EngineError
from sandboxd.history import Event
from sandboxd.logs import Log, Wish
from sandboxd.records import Claim, Sandbox
from tests.unit.sandboxd.conftest import World, until
from tests.unit.sandboxd.fake_engine import START, FakeLog, down, refusal

Follow = Callable[..., "Following"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "POLL_S", 0.005)


@pytest.fixture
def row(world: World) -> Sandbox:
    made = world.sandboxes.create(world.config.templates["base"], Claim())
    world.engine.logged[made.id] = FakeLog()
    return made


@pytest.fixture
def written(world: World, row: Sandbox) -> FakeLog:
    return world.engine.logged[row.id]


def reading(world: World, row: Sandbox, wish: Wish) -> list[tuple[str, str]]:
    return [(event.kind, event.text) for event in Log(world.ledger, world.engine, row, wish).read()]


def test_the_last_lines(world: World, row: Sandbox, written: FakeLog) -> None:
    for number in range(5):
        written.write(START + number, f"line {number}")
    assert reading(world, row, Wish(2, False, False)) == [("line", "line 3"), ("line", "line 4")]
    assert len(reading(world, row, Wish(None, False, False))) == 5
    assert reading(world, row, Wish(0, False, False)) == []


def test_lines_and_events_in_the_order_of_time(world: World, row: Sandbox, written: FakeLog) -> None:
    written.write(START - 1, "while it is made")
    written.write(START + 1, "in use")
    kinds = [kind for kind, _ in reading(world, row, Wish(None, False, True))]
    assert kinds == ["line", "created", "claimed", "line"]


def test_of_a_sandbox_that_is_gone_there_are_events_only(world: World, row: Sandbox) -> None:
    world.sandboxes.remove(row, "removed by request")
    closed = world.ledger.get(row.slot)
    assert closed is not None
    assert [kind for kind, _ in reading(world, closed, Wish(None, True, True))] == ["created", "claimed", "ended"]


def test_docker_that_is_down_is_an_error(world: World, row: Sandbox) -> None:
    world.engine.fail["log"] = down()
    with pytest.raises(EngineDown):
        reading(world, row, Wish(None, False, False))


class Following:
    """A log that is followed by a thread of its own."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.seen: queue.Queue[Event | Exception | None] = queue.Queue()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            for event in self.log.read():
                self.seen.put(event)
            self.seen.put(None)
        except Exception as error:
            self.seen.put(error)

    def next(self) -> tuple[str, str]:
        event = self.seen.get(timeout=15)
        assert isinstance(event, Event), event
        return event.kind, event.text

    def ended(self) -> bool:
        return self.seen.get(timeout=15) is None


@pytest.fixture
def follow(world: World, row: Sandbox, written: FakeLog) -> Iterator[Follow]:
    started: list[Following] = []

    def start(events: bool = False, lines: int | None = None) -> Following:
        started.append(Following(Log(world.ledger, world.engine, row, Wish(lines, True, events))))
        return started[-1]

    yield start
    for one in started:
        one.log.stop()
        one.thread.join(15)
        assert not one.thread.is_alive()


def test_what_is_written_later_comes_once(written: FakeLog, follow: Follow) -> None:
    written.write(START, "before")
    following = follow()
    assert following.next() == ("line", "before")
    written.write(START + 0.000001, "a moment later")
    assert following.next() == ("line", "a moment later")
    following.log.stop()
    assert following.ended()


def test_a_stop_before_anything_was_read(world: World, row: Sandbox) -> None:
    log = Log(world.ledger, world.engine, row, Wish(None, True, False))
    log.stop()
    assert list(log.read()) == []


@pytest.mark.parametrize("events", [False, True])
def test_it_goes_on_after_a_restart(world: World, row: Sandbox, written: FakeLog, follow: Follow, events: bool) -> None:
    written.write(START + 1, "first boot")
    following = follow(events)
    heard = [following.next() for _ in range(3 if events else 1)]
    assert ("line", "first boot") in heard
    world.engine.stop(row.id)
    written.end()
    booted = "2027-01-15T08:00:30.000000000Z"
    world.engine.containers[row.id] = replace(world.engine.containers[row.id], running=True, booted=booted)
    world.ledger.set_boot(row.slot, row.address, booted, row.image_id)
    if events:
        assert following.next() == ("restarted", "its container was started again")
    written.write(START + 31, "second boot")
    assert following.next() == ("line", "second boot")


def test_it_ends_with_the_sandbox_and_says_why(world: World, row: Sandbox, written: FakeLog, follow: Follow) -> None:
    following = follow()
    world.sandboxes.remove(row, "timeout reached")
    written.end()
    assert following.next() == ("ended", "timeout reached")
    assert following.ended()


def test_one_that_ends_before_it_is_followed(world: World, row: Sandbox, written: FakeLog, follow: Follow) -> None:
    """Whoever follows has read the row while it ran, and comes late: Docker's answer ends at once."""
    world.sandboxes.remove(row, "timeout reached")
    written.end()
    following = follow()
    assert following.next() == ("ended", "timeout reached")
    assert following.ended()


def test_an_engine_that_restarts_is_waited_for(world: World, row: Sandbox, written: FakeLog, follow: Follow) -> None:
    following = follow()
    world.engine.fail["container"] = down()
    written.end()
    until(lambda: "container" not in world.engine.fail, "a look while Docker was down")
    written.write(time.time() + 60, "still there")  # since nothing was written before, all from now on is wanted
    assert following.next() == ("line", "still there")


def test_an_engine_that_does_not_come_back(
    world: World, row: Sandbox, written: FakeLog, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "DOCKER_BACK_S", 0.0)
    monkeypatch.setattr(world.engine, "container", lambda _: (_ for _ in ()).throw(down()))
    following = follow()
    written.end()
    assert isinstance(following.seen.get(timeout=15), EngineDown)


def test_a_refusal_while_it_waits(world: World, row: Sandbox, written: FakeLog, follow: Follow) -> None:
    world.engine.fail["container"] = refusal()
    following = follow()
    written.end()
    assert isinstance(following.seen.get(timeout=15), EngineError)
