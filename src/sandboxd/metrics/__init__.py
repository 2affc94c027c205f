"""What the host looks like now, for Prometheus: read when somebody asks, with what was counted meanwhile.

One module for each group of parts; a part is a function that reads and gives families of series. One that fails leaves
out its own, and is named in `sandboxd_scrape_error`. Nothing here asks the engine about single sandboxes.
"""

import logging
import threading
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from sandboxd.api.services import Services
from sandboxd.metrics import edge, host, population

log = logging.getLogger(__name__)

Part = Callable[[], Iterable[Metric]]


class Metrics(CollectorRegistry):
    """All series, as a registry of the library's that has nothing registered but reads anew."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._counted = services.sandboxes.figures.registry
        self._parts: dict[str, Part] = {
            **population.parts(services),
            **edge.parts(services),
            **host.parts(services),
        }
        self._one_at_a_time = threading.Lock()

    def page(self, accept: str) -> tuple[bytes, str]:
        """The text and its type: what the header `Accept` of the request prefers of those that Prometheus knows."""
        encode, content_type = choose_encoder(accept)
        with self._one_at_a_time:
            return encode(self), content_type

    def collect(self) -> Iterable[Metric]:
        yield from self._counted.collect()
        errors = GaugeMetricFamily(
            "sandboxd_scrape_error",
            "1 for a part whose series are missing, since it could not be read.",
            labels=["part"],
        )
        for name, part in self._parts.items():
            try:
                found = list(part())
            except Exception as error:  # whatever it is: the rest is worth as much as before
                log.warning("metrics: %s could not be read: %s", name, error)
                found = []
                errors.add_metric([name], 1)
            else:
                errors.add_metric([name], 0)
            yield from found
        yield errors
