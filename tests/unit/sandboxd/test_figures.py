"""What is counted, and under which labels."""

import pytest

from sandboxd.errors import EngineDown, HostFull, NotFound, SandboxdError
from sandboxd.figures import Figures, reason


def value(figures: Figures, name: str, **labels: str) -> float | None:
    return figures.registry.get_sample_value(name, labels)


def test_templates_that_people_make_are_one_label() -> None:
    figures = Figures(["base"])
    for name in ("base", "mine", "mine:tag"):
        figures.created(name, 0.3)
        figures.claimed(name, 0.005)
    assert value(figures, "sandbox_create_duration_seconds_count", template="base") == 1
    assert value(figures, "sandbox_create_duration_seconds_count", template="other") == 2
    assert value(figures, "sandbox_claim_duration_seconds_bucket", template="base", le="0.006") == 1
    assert value(figures, "sandbox_claim_duration_seconds_bucket", template="base", le="0.004") == 0


@pytest.mark.parametrize(("status", "shown"), [(200, "2xx"), (404, "4xx"), (503, "5xx"), (0, "none")])
def test_requests(status: int, shown: str) -> None:
    figures = Figures([])
    figures.requested("e2b", "GET", "/sandboxes/{sandbox_id}", status, 0.01)
    labels = {"api": "e2b", "method": "GET", "route": "/sandboxes/{sandbox_id}", "status": shown}
    assert value(figures, "sandboxd_http_request_duration_seconds_count", **labels) == 1


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (EngineDown("x"), "engine_down"),
        (NotFound("x"), "not_found"),
        (HostFull("max_sandboxes", "x"), "max_sandboxes"),
    ],
)
def test_reasons(error: SandboxdError, word: str) -> None:
    assert reason(error) == word


def test_several_in_one_process_count_apart() -> None:
    one, other = Figures(["base"]), Figures(["base"])
    one.created("base", 1)
    assert value(other, "sandbox_create_duration_seconds_count", template="base") == 0
