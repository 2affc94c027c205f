"""Parts about the way in: what HAProxy has counted, and how long the certificate holds that Traefik serves."""

import time
from collections.abc import Callable, Iterable

from prometheus_client.core import Metric

from sandboxd.api.services import Services
from sandboxd.doctor.certificates import Certificate, served
from sandboxd.metrics.families import counter, gauge

CODES = ("1xx", "2xx", "3xx", "4xx", "5xx", "other")
SIDES = {"0": "frontend", "1": "backend"}  # the column `type` of HAProxy
CERTIFICATE_S, FAILED_S = 600.0, 60.0  # so long it is not looked at again: each time is a handshake and a process


def parts(services: Services) -> dict[str, Callable[[], Iterable[Metric]]]:
    return {"gateway": lambda: gateway(services), "certificate": Watched(services).read}


def gateway(services: Services) -> Iterable[Metric]:
    rows = [row for row in services.sandboxes.gateway.statistics() if row["type"] in SIDES]

    def of(column: str) -> dict[tuple[str, ...], float]:
        return {(SIDES[row["type"]], row["pxname"]): float(row[column]) for row in rows if row.get(column)}

    codes = {(*key, code): value for code in CODES for key, value in of(f"hrsp_{code}").items()}
    labels = ["side", "proxy"]
    yield counter(
        "sandbox_gateway_responses", "Answers of the gateway by class of their code.", [*labels, "code"], codes
    )
    yield gauge("sandbox_gateway_current_sessions", "Sessions that are open in the gateway.", labels, of("scur"))
    yield counter("sandbox_gateway_sessions", "Sessions of the gateway.", labels, of("stot"))
    text = "Connections to sandboxes, or to the API, that could not be made."
    yield counter("sandbox_gateway_connection_errors", text, labels, of("econ"))
    yield counter("sandbox_gateway_received_bytes", "Bytes from clients.", labels, of("bin"))
    yield counter("sandbox_gateway_sent_bytes", "Bytes to clients.", labels, of("bout"))


class Watched:
    """The certificate as it was seen last."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._seen: Certificate | OSError | None = None
        self._until = 0.0

    def read(self) -> Iterable[Metric]:
        if self._seen is None or time.monotonic() >= self._until:
            try:
                self._seen, kept_s = (
                    served(self._services.effects, self._services.sandboxes.config.domain),
                    CERTIFICATE_S,
                )
            except OSError as error:
                self._seen, kept_s = error, FAILED_S
            self._until = time.monotonic() + kept_s
        if isinstance(self._seen, OSError):
            raise self._seen
        text = "The end of the certificate that is served for sandboxes."
        return [gauge("sandbox_certificate_not_after_timestamp_seconds", text, [], {(): self._seen.not_after})]
