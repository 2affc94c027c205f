"""The order of events."""

from tools.fleetsim.clock import Clock


def test_events_come_by_their_time_and_then_as_they_were_said() -> None:
    clock, seen = Clock(), list[tuple[str, float]]()

    def happens(what: str) -> None:
        seen.append((what, clock.now))
        if what == "first":
            clock.after(1.0, lambda: happens("third"))

    clock.at(3.0, lambda: happens("late"))
    clock.at(1.0, lambda: happens("first"))
    clock.at(2.0, lambda: happens("second"))
    clock.run(2.0)
    assert seen == [("first", 1.0), ("second", 2.0), ("third", 2.0)]
    clock.run(9.0)
    assert seen[3:] == [("late", 3.0)]
