"""What is counted while it happens: how long things take, and how often they fail. In memory: a restart begins anew.

What can be asked for when somebody wants to know is not counted here, but read by `sandboxd.metrics`.
"""

import re
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics

from sandboxd.errors import HostFull, SandboxdError

CLAIM_S = (0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0)
CREATE_S = (0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
REQUEST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
OTHER = "other"


class Figures:
    """Labels have few values, whatever people ask for: templates that were made on this host are all `other`."""

    def __init__(self, templates: Iterable[str]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each of ours, which nobody asks for
        self._templates = frozenset(templates)
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._created = Histogram(
            "sandbox_create_duration_seconds",
            "Time to make a sandbox from nothing, waiting for its turn included.",
            ["template"],
            buckets=CREATE_S,
            registry=self.registry,
        )
        self._claimed = Histogram(
            "sandbox_claim_duration_seconds",
            "Time to hand out a sandbox from the warm pool.",
            ["template"],
            buckets=CLAIM_S,
            registry=self.registry,
        )
        self._failures = Counter(
            "sandbox_failures",
            "What was begun with a sandbox and failed, by what it was and why.",
            ["operation", "reason"],
            registry=self.registry,
        )
        self._requests = Histogram(
            "sandboxd_http_request_duration_seconds",
            "Time from a request's arrival to the beginning of its answer.",
            ["api", "method", "route", "status"],
            buckets=REQUEST_S,
            registry=self.registry,
        )
        for name in sorted(
            self._templates
        ):  # series that are there from the beginning: a rate needs a zero to start from
            self._created.labels(name)
            self._claimed.labels(name)

    def template(self, name: str) -> str:
        return name if name in self._templates else OTHER

    def created(self, template: str, seconds: float) -> None:
        self._created.labels(self.template(template)).observe(seconds)

    def claimed(self, template: str, seconds: float) -> None:
        self._claimed.labels(self.template(template)).observe(seconds)

    def failed(self, operation: str, error: SandboxdError) -> None:
        self._failures.labels(operation, reason(error)).inc()

    def requested(self, api: str, method: str, route: str, status: int, seconds: float) -> None:
        """`route` is the path of a route as it is declared, empty for none; `status` 0 for no answer."""
        shown = method if method in METHODS else OTHER
        self._requests.labels(api, shown, route or OTHER, f"{status // 100}xx" if status else "none").observe(seconds)


def reason(error: SandboxdError) -> str:
    """One word: the setting that leaves no room, or what kind of error it is."""
    if isinstance(error, HostFull):
        return error.limit
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__).lower()
