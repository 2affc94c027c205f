"""What HAProxy has counted, and the certificate."""

from tests.unit.sandboxd.metrics.conftest import NOT_AFTER, Observed


def test_answers_by_class_sessions_and_bytes(observed: Observed) -> None:
    assert observed.value("sandbox_gateway_responses_total", side="frontend", proxy="gateway", code="4xx") == 10
    assert observed.value("sandbox_gateway_responses_total", side="backend", proxy="sandboxes", code="5xx") == 3
    assert observed.value("sandbox_gateway_current_sessions", side="frontend", proxy="gateway") == 3
    assert observed.value("sandbox_gateway_sessions_total", side="backend", proxy="sandboxes") == 110
    assert observed.value("sandbox_gateway_received_bytes_total", side="frontend", proxy="gateway") == 4000
    assert observed.value("sandbox_gateway_sent_bytes_total", side="backend", proxy="sandboxes") == 80000
    errors = observed.samples()["sandbox_gateway_connection_errors_total"]
    assert errors == {(("proxy", "sandboxes"), ("side", "backend")): 4}, "a frontend connects to nobody"
    assert observed.world.haproxy.commands[-1] == ["show", "stat", "-1", "3", "-1"]


def test_the_certificate_is_not_looked_at_each_time(observed: Observed) -> None:
    for _ in range(3):
        assert observed.value("sandbox_certificate_not_after_timestamp_seconds") == NOT_AFTER
    (name,) = observed.looks
    assert name.startswith("qa-") and name.endswith(".example.com")


def test_an_edge_that_does_not_answer_is_not_asked_each_time_either(observed: Observed) -> None:
    (observed.root / "down").touch()
    for _ in range(3):
        assert observed.errors() == ["certificate"]
    assert len(observed.looks) == 1
