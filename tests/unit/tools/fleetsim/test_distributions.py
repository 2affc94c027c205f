"""Times that are drawn."""

from random import Random
from statistics import fmean, quantiles

import pytest

from tools.fleetsim.distributions import Distribution, Exponential, Fixed, Lognormal, Pareto, parsed
from tools.fleetsim.errors import BadScene

DRAWS = 50_000


def drawn(of: Distribution) -> list[float]:
    chance = Random(7)
    return [of.draw(chance) for _ in range(DRAWS)]


@pytest.mark.parametrize("of", [Fixed(3.0), Exponential(600.0), Pareto(600.0, 2.5), Lognormal(0.3, 0.4)])
def test_the_mean_is_the_one_that_is_said(of: Distribution) -> None:
    assert fmean(drawn(of)) == pytest.approx(of.mean, rel=0.03)


def test_a_measured_time_has_its_median_and_its_95th_percentile() -> None:
    cuts = quantiles(drawn(Lognormal(0.323, 0.374)), n=100)
    assert cuts[49] == pytest.approx(0.323, rel=0.01) and cuts[94] == pytest.approx(0.374, rel=0.01)


def test_a_heavy_tail_has_most_in_few() -> None:
    values = sorted(drawn(Pareto(600.0, 1.2)))
    assert sum(values[-DRAWS // 100 :]) > 0.3 * sum(values) and values[DRAWS // 2] < 300


def test_what_people_write() -> None:
    assert parsed("fixed:5") == Fixed(5.0)
    assert parsed("exponential:600") == Exponential(600.0)
    assert parsed("pareto:600:1.5") == Pareto(600.0, 1.5)


@pytest.mark.parametrize(
    "text",
    ["", "600", "exponential", "exponential:", "exponential:0", "exponential:-1", "exponential:nan", "exponential:inf",
     "exponential:1:2", "pareto:600", "pareto:600:1", "normal:600"],
)  # fmt: skip
def test_what_is_no_distribution_is_named_and_told_how(text: str) -> None:
    with pytest.raises(BadScene, match=r"give fixed:MEAN, exponential:MEAN, or pareto") as caught:
        parsed(text)
    assert repr(text) in str(caught.value)
