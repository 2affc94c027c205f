"""Parts that the daemon itself knows: its sandboxes, pools, health. Reads the ledger."""

import platform
from collections import Counter
from collections.abc import Callable, Iterable

from prometheus_client.core import Metric

from sandboxd import __version__
from sandboxd.api.services import Services
from sandboxd.comparison import SOURCE
from sandboxd.metrics.families import Rising, counter, gauge
from sandboxd.records import OPEN


def parts(services: Services) -> dict[str, Callable[[], Iterable[Metric]]]:
    rising = Rising()
    return {
        "daemon": lambda: daemon(services),
        "sandboxes": lambda: sandboxes(services),
        "pools": lambda: pools(services, rising),
    }


def sandboxes(services: Services) -> Iterable[Metric]:
    figures, ledger = services.sandboxes.figures, services.sandboxes.ledger
    found = {(state, name): 0 for state in OPEN for name in services.sandboxes.config.templates}
    for (state, template), count in ledger.population().items():
        key = state, figures.template(template)
        found[key] = found.get(key, 0) + count
    yield gauge("sandbox_instances", "Sandboxes by state and template.", ["state", "template"], found)
    limit = services.sandboxes.config.max_sandboxes
    yield gauge("sandbox_instances_limit", "The setting max_sandboxes; 0 for no limit.", [], {(): limit})
    yield gauge("sandbox_routes", "Sandboxes that the gateway leads to.", [], {(): len(ledger.routes())})


def pools(services: Services, rising: Rising) -> Iterable[Metric]:
    found = services.pool.status().pools

    def by_template(name: str, text: str, values: dict[str, float]) -> Metric:
        return gauge(name, text, ["template"], {(template,): value for template, value in values.items()})

    yield by_template(
        "sandbox_pool_size",
        "Members that the warm pool shall have; 0 while it is off.",
        {one.template: one.size if one.enabled else 0 for one in found},
    )
    yield by_template(
        "sandbox_pool_warm", "Members that wait to be claimed.", {one.template: one.warm for one in found}
    )
    yield by_template(
        "sandbox_pool_starting", "Members that are being made.", {one.template: one.starting for one in found}
    )
    hits = rising.of({(one.template, "hit"): one.hits for one in found})
    misses = rising.of({(one.template, "miss"): one.misses for one in found})
    text = "Claims that found a warm member (hit), and those that did not (miss)."
    yield counter("sandbox_pool_claims", text, ["template", "result"], {**hits, **misses})


def daemon(services: Services) -> Iterable[Metric]:
    reconciler, audit = services.reconciler, services.sandboxes.audit
    versions = {(__version__, platform.python_version()): 1}
    yield gauge("sandboxd_build_info", "The release that runs.", ["version", "python"], versions)
    if reconciler.compared_at:
        text = "When sandboxes were last compared with the ledger as a whole."
        yield gauge("sandboxd_reconcile_timestamp_seconds", text, [], {(): reconciler.compared_at})
        text = "How long that took."
        yield gauge("sandboxd_reconcile_duration_seconds", text, [], {(): reconciler.compared_s})
    # One word for all sandboxes: their ids would be ever new series.
    troubles = services.health.troubles()
    sources = Counter("sandboxes" if source.startswith(SOURCE) else source for source in troubles)
    yield gauge("sandboxd_troubles", "What the daemon knows to be wrong.", [], {(): sources.total()})
    by_source = {(source,): count for source, count in sources.items()}
    yield gauge("sandboxd_trouble", "The same by what it is about; GET /health says more.", ["source"], by_source)
    text = "Records of the audit log that could not be written."
    yield counter("sandboxd_audit_lost", text, [], {(): audit.log.lost})
