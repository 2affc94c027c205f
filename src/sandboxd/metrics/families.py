"""Series of one kind, from values. No effects."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

Key = TypeVar("Key", bound=tuple[str, ...])


def gauge(name: str, text: str, labels: Iterable[str], values: Mapping[Key, float]) -> Metric:
    """`values` by the values of the labels, in their order; without labels by ()."""
    made = GaugeMetricFamily(name, text, labels=list(labels))
    for key, value in values.items():
        made.add_metric(list(key), value)
    return made


def counter(name: str, text: str, labels: Iterable[str], values: Mapping[Key, float]) -> Metric:
    """The same for what only grows; `_total` is added to the name."""
    made = CounterMetricFamily(name, text, labels=list(labels))
    for key, value in values.items():
        made.add_metric(list(key), value)
    return made


class Rising:
    """Counters of which the source takes back a little now and then: Prometheus would believe in a new beginning."""

    def __init__(self) -> None:
        self._highest: dict[tuple[str, ...], float] = {}

    def of(self, values: Mapping[Key, float]) -> dict[Key, float]:
        for key, value in values.items():
            self._highest[key] = max(value, self._highest.get(key, value))
        return {key: self._highest[key] for key in values}
