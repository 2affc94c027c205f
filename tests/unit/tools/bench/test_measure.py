"""Samples, percentiles, goals and rows."""

import pytest

from tools.bench.host.measure import Goal, Samples, percentile, row


def test_percentile_is_by_nearest_rank() -> None:
    assert percentile([float(value) for value in range(1, 101)]) == 95
    assert percentile([3.0, 1.0, 2.0]) == 3
    assert percentile([7.0]) == 7


def test_a_failure_counts_as_an_attempt_and_gives_no_value() -> None:
    samples = Samples()
    assert samples.time(lambda: "made") == "made"
    assert samples.time(lambda: 1 / 0) is None
    summary = samples.summary()
    assert summary is not None
    assert (samples.count, samples.failed, summary["success"]) == (2, 1, 0.5)
    assert "division" in samples.last_error


def test_a_ctrl_c_is_no_failure() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    samples = Samples()
    with pytest.raises(KeyboardInterrupt):
        samples.time(interrupted)
    assert samples.count == 0


def test_a_row_compares_medians() -> None:
    made = row("init", Samples([10, 20, 30]), Samples([100, 200, 300]), "docker run -d", Goal(median=20, p95=25))
    assert (made["n"], made["ratio"], made["goal"], made["met"]) == (3, 0.1, "median <= 20, p95 <= 25", False)
    assert made["ours"] == {"median": 20, "p95": 30, "success": 1.0}


def test_a_row_without_a_peer_has_no_ratio_and_a_goal_about_it_is_open() -> None:
    made = row("init", Samples([10.0]), goal=Goal(ratio=1.2))
    assert (made["peer"], made["ratio"], made["met"]) == (None, None, None)


def test_a_side_that_always_failed_has_no_figures() -> None:
    made = row("init", Samples(failed=3), Samples([1.0]), goal=Goal(median=1))
    assert made["ours"] == {"median": None, "p95": None, "success": 0.0}
    assert (made["ratio"], made["met"]) == (None, None)


def test_what_was_not_measured_is_no_row() -> None:
    with pytest.raises(ValueError, match="init: nothing was measured"):
        row("init", Samples())


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (Goal(ratio=0.7, at_least=True), True),
        (Goal(ratio=0.9, at_least=True), False),
        (Goal(text="none lost", met=False), False),
        (Goal(ratio=0.8), True),
    ],
)
def test_goals(goal: Goal, met: bool) -> None:
    assert row("requests", Samples([80.0]), Samples([100.0]), goal=goal)["met"] is met
