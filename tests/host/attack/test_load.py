"""One sandbox takes all that it can get, or somebody outside holds the gateway's connections: nobody else is hurt.

A neighbour's page and the API are asked all the time. None of these requests may be lost or answered wrongly; by how
much they became slower is printed at the end and is no condition, since it depends on the machine.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import pytest

from tests.host.attack.bombs import BOMBS
from tests.host.attack.seats import Seats, bring, command, seated
from tests.host.attack.surroundings import INTERNET, around
from tests.host.machine import Machine, Sandbox, eventually
from tests.host.neighbour import Neighbour
from tests.host.wire import Edge

SECONDS = 10
QUIET = 20  # answers before the attack, and at least so many during it, for a median
WELL = {"neighbour": "well\n", "API": "ok\n"}
Watch = Callable[[], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def seats(machine: Machine, template: str) -> Iterator[Seats]:
    """Not those of a moment: what they do takes long, and does not depend on it."""
    with seated(machine, template) as made:
        made.victim.run("echo well >index.html")
        made.victim.serve("python3 -m http.server 8000")
        yield made


@pytest.fixture
def watch(seats: Seats, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Watch:
    """A block during which the neighbour and the API are asked; checks the answers."""
    api = f"https://api.{seats.machine.settings.domain}/health"

    @contextmanager
    def watched() -> Iterator[None]:
        with ExitStack() as stack:
            asked = {
                name: stack.enter_context(Neighbour(seats.machine, url))
                for name, url in {"neighbour": seats.victim.url(), "API": api}.items()
            }

            def more(than: dict[str, int]) -> None:
                goal = {name: count + QUIET for name, count in than.items()}
                eventually(
                    lambda: {name: len(one.answers) for name, one in asked.items()},
                    lambda seen: all(seen[name] >= goal[name] for name in goal),
                    120,
                    "answers",
                )

            more(dict.fromkeys(asked, 0))
            begun = {name: len(one.answers) for name, one in asked.items()}
            yield
            more(begun)
        assert {name: set(one.answers) for name, one in asked.items()} == {name: {well} for name, well in WELL.items()}
        for name, one in asked.items():
            quiet, during = (statistics.median(t) for t in (one.times_s[: begun[name]], one.times_s[begun[name] :]))
            row = {"attack": request.node.name, "asked": name, "quiet_ms": quiet * 1000, "during_ms": during * 1000}
            record_property("latency", row | {"slowest_ms": one.slowest_s * 1000, "answers": len(one.answers)})

    return watched


def bomb(sandbox: Sandbox, name: str, *words: str) -> str:
    """Runs one for SECONDS; how it ends is not looked at, since the limits may have ended it."""
    line = command(bring(sandbox, "bombs.py"), name, str(SECONDS), *words, user="root" if name == "log" else "user")
    return sandbox.run(line, check=False).stdout.strip()


@pytest.mark.parametrize("name", [name for name in BOMBS if name != "connections"])
def test_what_one_sandbox_takes_the_others_do_not_miss(seats: Seats, watch: Watch, name: str) -> None:
    with watch():
        bomb(seats.attacker, name)
    assert seats.attacker.out("echo alive") == "alive", "its own agent comes through, too"


def test_the_log_of_a_sandbox_is_bounded(seats: Seats) -> None:
    """Whatever the log bomb has said before: here it is said again, and more than fits."""
    bomb(seats.attacker, "log")
    container = seats.attacker.inspect()["Id"]
    root = seats.machine.out("docker info --format '{{.DockerRootDir}}'")
    size = int(seats.machine.out(f"du --summarize --block-size=1M {root}/containers/{container}").split()[0])
    assert size < 40


def test_a_flood_of_connections_leaves_the_host_reachable(seats: Seats, watch: Watch) -> None:
    """More flows than the host's table of connections may have been made for one sandbox."""
    with around(seats.machine), watch():
        flows = bomb(seats.attacker, "connections", INTERNET)
        table = seats.machine.out("sysctl -n net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max")
    print(f"{flows} packets of as many flows; then the host's table had {' of '.join(table.split())}")
    assert seats.machine.out("docker-sandbox list --json")


def test_connections_that_say_nothing_or_a_little_hold_nobody_up(seats: Seats, watch: Watch) -> None:
    """Heads that are never finished, bodies that never come: 300 of them at the same time."""
    edge = Edge(seats.machine)
    names = [edge.host(seats.attacker), edge.host(seats.victim), f"api.{edge.domain}"]
    beginnings = [
        "",
        "GET / HTTP/1.1\r\nHost: {}\r\nX-Slow: ",
        "POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 1000000\r\n\r\nx",
        "POST / HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    ]
    with ExitStack() as crowd, watch():
        for number in range(300):
            name = names[number % 3]
            wire = crowd.enter_context(edge.wire(name))
            wire.send(beginnings[number % 4].format(name))
