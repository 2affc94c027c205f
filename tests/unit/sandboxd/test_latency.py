"""Percentiles of the last claims."""

from sandboxd.latency import KEPT, Latencies


def test_percentiles_are_figures_that_were_measured() -> None:
    latencies = Latencies()
    assert latencies.percentile_ms(50) is None
    latencies.add(0.01234)
    assert latencies.percentile_ms(50) == latencies.percentile_ms(95) == 12.3
    for number in range(2, 101):
        latencies.add(number)
    assert (latencies.percentile_ms(50), latencies.percentile_ms(95)) == (50_000, 95_000)


def test_old_ones_are_forgotten() -> None:
    latencies = Latencies()
    for seconds in (5.0, 0.001):
        for _ in range(KEPT):
            latencies.add(seconds)
    assert latencies.percentile_ms(100) == 1.0
