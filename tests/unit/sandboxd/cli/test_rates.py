"""Two looks make rates."""

from typing import Any

from sandboxd.cli.rates import with_rates

NOTHING = {
    "cpu_percent": None,
    "cpu_percent_of_limit": None,
    "received_bytes_per_s": None,
    "sent_bytes_per_s": None,
}


def look(clock: float, *sandboxes: dict[str, Any]) -> dict[str, Any]:
    return {"at": 1.8e9 + clock, "clock": clock, "sandboxes": list(sandboxes)}


def sandbox(name: str, cpu_ns: int, received: int = 0, sent: int = 0, limit: float | None = 2.0) -> dict[str, Any]:
    network = {"received_bytes": received, "sent_bytes": sent}
    return {"sandboxID": name, "usage": {"cpu_ns": cpu_ns, "cpu_limit": limit}, "network": network}


def stopped(name: str) -> dict[str, Any]:
    return {"sandboxID": name, "usage": None, "network": None}


def rates(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    (row,) = with_rates(before, after)
    return dict(row["rates"])


def test_differences_by_time() -> None:
    before, after = look(10, sandbox("a", 5_000_000_000, 100, 10)), look(12, sandbox("a", 8_000_000_000, 2100, 110))
    assert rates(before, after) == {
        "cpu_percent": 150.0,
        "cpu_percent_of_limit": 75.0,
        "received_bytes_per_s": 1000.0,
        "sent_bytes_per_s": 50.0,
    }


def test_what_was_there_stays() -> None:
    one = sandbox("a", 1)
    (row,) = with_rates(look(1, one), look(2, one))
    assert {key: row[key] for key in one} == one


def test_without_a_limit_there_is_no_part_of_it() -> None:
    found = rates(look(1, sandbox("a", 0, limit=None)), look(2, sandbox("a", 10**9, limit=None)))
    assert (found["cpu_percent"], found["cpu_percent_of_limit"]) == (100.0, None)


def test_a_new_one_has_none_yet() -> None:
    assert rates(look(1), look(2, sandbox("a", 5))) == NOTHING


def test_counters_that_began_again() -> None:
    assert rates(look(1, sandbox("a", 5, 5, 5)), look(2, sandbox("a", 4, 4, 4))) == NOTHING


def test_one_that_stopped_or_started() -> None:
    assert rates(look(1, sandbox("a", 5)), look(2, stopped("a"))) == NOTHING
    assert rates(look(1, stopped("a")), look(2, sandbox("a", 5))) == NOTHING


def test_the_same_look_twice() -> None:
    same = look(1, sandbox("a", 5))
    assert rates(same, same) == NOTHING
