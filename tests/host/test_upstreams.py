"""Servers in a sandbox that are broken or mean harm themselves only. A neighbour and the API are asked meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.host.machine import Machine, Sandbox, eventually
from tests.host.neighbour import Neighbour
from tests.host.wire import Edge, Ended, Http2, get, plays, steps

pytestmark = pytest.mark.disruptive

BROWSER = ("Accept: text/html", "Sec-Fetch-Mode: navigate")
MIB = 1 << 20
# Traefik lets a client have 250 streams on a connection of HTTP/2. The gateway's own limits: see its configuration.
STREAMS, CONNECTIONS = 250, 14
HALF = ("send", "HTTP/1.1 200 OK\r\nX: ")


@dataclass(frozen=True)
class Stage:
    machine: Machine
    edge: Edge
    mean: Sandbox
    other: Sandbox

    @property
    def name(self) -> str:
        return self.edge.host(self.mean)

    def memory_mib(self) -> dict[str, int]:
        """Of Traefik and of the gateway, without what they share with others."""
        found = {}
        for program in ("traefik", "haproxy"):
            files = f"for one in $(pgrep -x {program}); do cat /proc/$one/status; done"
            sizes = self.machine.out(f"{files} | awk '/^RssAnon/ {{print $2}}'").split()
            found[program] = sum(map(int, sizes)) // 1024
        return found


@pytest.fixture(scope="module")
def stage(machine: Machine) -> Iterator[Stage]:
    with machine.sandbox() as mean, machine.sandbox() as other:
        other.run("echo well >index.html")
        other.serve("python3 -m http.server 8000")
        yield Stage(machine, Edge(machine), plays(mean, "mean"), other)


@pytest.fixture(autouse=True)
def undisturbed(stage: Stage) -> Iterator[None]:
    """Whatever a test does to one sandbox. `pytest -rP` shows how long the slowest answers took."""
    health = f"https://api.{stage.edge.domain}/health"
    with Neighbour(stage.machine, stage.other.url()) as neighbour, Neighbour(stage.machine, health) as api:
        yield
        for one in (neighbour, api):
            eventually(lambda one=one: len(one.answers), lambda count: count > 3, 30, "answers")  # type: ignore[misc]
    print(f"slowest answer of the neighbour {neighbour.slowest_s:.3f} s, of the API {api.slowest_s:.3f} s")
    assert (set(neighbour.answers), set(api.answers)) == ({"well\n"}, {"ok\n"})


@pytest.mark.parametrize(
    "played",
    [
        [("close",)],
        [("reset",)],
        [HALF, ("close",)],
        [HALF, ("reset",)],
        [HALF, ("repeat", "a" * 1000, 20)],
        [("send", "HTTP/1.1 200 OK\r\n"), ("repeat", "a: b\r\n", 300), ("send", "\r\n")],
        [("send", "not HTTP at all\r\n\r\n")],
        [("send", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")],
        [("send", "HTTP/1.1 101 Switching Protocols\r\n\r\n")],
    ],
)
def test_an_answer_that_is_none_is_said_in_our_words(stage: Stage, played: list[tuple[str, ...]]) -> None:
    answer = stage.edge.ask(stage.name, steps(*played))
    wanted = {"sandboxId": stage.mean.id, "message": "The server in the sandbox gave no valid answer", "port": 8000}
    assert (answer.status, answer.json()) == (502, {**wanted, "code": 502})
    assert answer.all("content-type") == ["application/json"]
    page = stage.edge.ask(stage.name, steps(*played), *BROWSER)
    assert page.status == 502 and page.all("content-type") == ["text/html; charset=utf-8"]
    assert stage.mean.id in page.body.decode() and "no valid answer" in page.body.decode()


@pytest.mark.parametrize(
    "played",
    [
        [("send", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nok"), ("wait", 0.2), ("close",)],
        [("send", "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nok"), ("wait", 0.2), ("reset",)],
        [("send", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"), ("wait", 0.2), ("close",)],
        [
            ("send", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"),
            ("wait", 0.2),
            ("send", "zz\r\n"),
        ],
    ],
)
def test_an_answer_that_stops_is_not_made_whole(stage: Stage, played: list[tuple[str, ...]]) -> None:
    with pytest.raises(Ended):
        stage.edge.ask(stage.name, steps(*played))


def test_nobody_waits_and_nothing_grows_for_what_does_not_end(stage: Stage) -> None:
    """Heads that stop, bodies without an end that nobody reads, bodies that the server does not read."""
    before = stage.memory_mib()
    head = "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"
    endless = get(stage.name, steps(("send", head), ("stream", 99_999_999_999)))
    deaf = f"POST {steps(('wait', 60))} HTTP/1.1\r\nHost: {stage.name}\r\nContent-Length: 99999999999\r\n\r\n"
    with ExitStack() as crowd:
        for number in range(30):
            wire = crowd.enter_context(stage.edge.wire(stage.name))
            wire.send((endless, deaf, get(stage.name, steps(HALF, ("hold",))))[number % 3])
            if number % 3 == 1:
                wire.socket.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    while True:
                        wire.send(bytes(MIB))
        assert stage.edge.ask(stage.name, "/").json()["who"] == "mean"
        after = stage.memory_mib()
    assert all(after[program] - before[program] < 200 for program in before), (before, after)


def test_no_sandbox_takes_all_connections(stage: Stage) -> None:
    """Thousands of requests that are never answered: at some number the sandbox is refused more, and nobody else is."""
    before = stage.memory_mib()
    pseudo = {"method": "GET", "scheme": "https", "path": steps(("hold",)), "authority": stage.name}
    fields = [(f":{name}", value) for name, value in pseudo.items()]
    with ExitStack() as crowd:
        for _ in range(CONNECTIONS):
            connection = Http2(crowd.enter_context(stage.edge.connection(stage.name, "h2")))
            for _ in range(STREAMS):
                connection.open(fields)
        refused = eventually(
            lambda: stage.edge.ask(stage.name, "/"), lambda answer: answer.status == 429, 60, "refusal"
        )
        assert refused.json()["code"] == 429 and refused.all("retry-after") == ["5"]
        assert stage.edge.ask(stage.edge.host(stage.other), "/").body == b"well\n"
        after = stage.memory_mib()
    assert all(after[program] - before[program] < 500 for program in before), (before, after)
    eventually(lambda: stage.edge.ask(stage.name, "/").status, lambda status: status == 200, 60, "end of the refusals")
