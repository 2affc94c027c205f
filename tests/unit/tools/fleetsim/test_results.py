"""Percentiles and samples."""

import pytest

from tools.fleetsim.results import Counts, mean, percentile


@pytest.mark.parametrize(("percent", "value"), [(0, 1), (50, 50), (95, 95), (99, 99), (99.5, 100), (100, 100)])
def test_percentiles_by_nearest_rank(percent: float, value: float) -> None:
    assert percentile([float(number) for number in range(1, 101)], percent) == value


def test_of_nothing_there_is_nothing() -> None:
    counts = Counts()
    counts.sample([], 0)
    assert percentile([], 50) == mean([]) == mean(counts.means) == 0


def test_a_sample_has_mean_spread_and_most() -> None:
    counts = Counts()
    counts.sample([1, 1, 4], 9)
    assert (
        counts.means == [2.0]
        and counts.deviations == [pytest.approx(2**0.5)]
        and (counts.mosts, counts.present) == ([4], [9])
    )
