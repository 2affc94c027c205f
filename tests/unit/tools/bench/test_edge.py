"""What is read from wrk, and how an answer is waited for."""

import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tools.bench.host.edge import parse_median, parse_wrk, router, until_answered
from tools.bench.host.machine import Unexpected

REPORT = """Running 8s test @ https://127.0.0.1/
  1 threads and 32 connections
  Latency Distribution
     50%  812.00us
     75%    1.02ms
  81234 requests in 8.00s, 3.10MB read
Requests/sec:  10154.25
Transfer/sec:    396.65KB
"""


def test_wrk_tells_requests_per_second() -> None:
    assert parse_wrk(REPORT) == 10154.25


def test_wrk_tells_the_median_in_either_unit() -> None:
    assert parse_median(REPORT) == 812
    assert parse_median(REPORT.replace("812.00us", "  1.25ms")) == 1250
    with pytest.raises(Unexpected, match="wrk said"):
        parse_median("Requests/sec:  1.0\n")


def test_errors_are_no_requests() -> None:
    with pytest.raises(Unexpected, match="responses: 12"):
        parse_wrk(REPORT + "  Non-2xx or 3xx responses: 12\n")
    with pytest.raises(Unexpected, match="wrk said: unable to connect"):
        parse_wrk("unable to connect")


def test_the_router_leads_straight_to_the_server() -> None:
    text = router("bench-alone.example.com", "10.200.0.2")
    assert "Host(`bench-alone.example.com`)" in text and "http://10.200.0.2:8000" in text


def test_an_answer_is_waited_for() -> None:
    statuses = [502, 502, 200]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses.pop(0))
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        until_answered(lambda: HTTPConnection("127.0.0.1", server.server_port, timeout=30), "/")
        server.shutdown()
        thread.join()
    assert statuses == []
