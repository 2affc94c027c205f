"""One sandbox takes all that it can get, or somebody outside holds the gateway's connections: nobody else is hurt.

A neighbour's page and the API are asked all the time. None of these requests may be lost or answered wrongly; by how
much they became slower is printed at the end and is no condition, since it depends on the machine.
"""

from __future__ import annotations

import json
import shlex
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import pytest

from tests.host.attack.bombs import LIMITED, MIB
from tests.host.attack.seats import FOUND, Seats, bring, ran, seated
from tests.host.attack.surroundings import INTERNET, around
from tests.host.machine import Machine, eventually
from tests.host.neighbour import Neighbour
from tests.host.wire import Edge

SECONDS = 3
QUIET = 20  # answers before the attack, for a median
DISK = "--disk 128m"  # so small that it is full, and out of inodes, soon
FLOWS = 20_000
LOG_MB = 60  # more than the engine keeps of it
WELL = {"neighbour": "well\n", "API": "ok\n"}
More = Callable[[], None]
Watch = Callable[[], AbstractContextManager[More]]


@pytest.fixture(scope="module")
def seats(machine: Machine, moment: str, template: str) -> Iterator[Seats]:
    """With a page to ask the victim for, and a small disk to fill."""
    with seated(machine, template, DISK) as made:
        made.victim.run("echo well >index.html")
        made.victim.serve("python3 -m http.server 8000")
        yield made


@pytest.fixture
def watch(seats: Seats, request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Watch:
    """A block during which the neighbour and the API are asked; checks the answers.

    What it gives waits until each has been asked QUIET times more.
    """
    api = f"https://api.{seats.machine.settings.domain}/health"

    @contextmanager
    def watched() -> Iterator[More]:
        with ExitStack() as stack:
            asked = {
                name: stack.enter_context(Neighbour(seats.machine, url))
                for name, url in {"neighbour": seats.victim.url(), "API": api}.items()
            }

            def counted() -> dict[str, int]:
                return {name: len(one.times_s) for name, one in asked.items()}

            def more(answers: int = QUIET) -> None:
                goal = {name: count + answers for name, count in counted().items()}
                eventually(counted, lambda seen: all(seen[name] >= goal[name] for name in goal), 120, "answers")

            more()
            begun = counted()
            yield more
            more(1)  # that which was on its way is of the attack
            ended = counted()
        assert {name: set(one.answers) for name, one in asked.items()} == {name: {well} for name, well in WELL.items()}
        for name, one in asked.items():
            quiet, during = one.times_s[: begun[name]], one.times_s[begun[name] : ended[name]]
            row = {"attack": request.node.name, "asked": name, "answers": len(one.answers)}
            row |= {"quiet_ms": statistics.median(quiet) * 1000, "during_ms": statistics.median(during) * 1000}
            record_property("latency", row | {"slowest_ms": max(during) * 1000})

    return watched


def bomb(seats: Seats, name: str, *words: str, user: str = "user") -> dict[str, int]:
    """Sets one off. What it was given and refused; empty where a limit ended gVisor, and so the whole sandbox."""
    line = shlex.join(["timeout", "120", "python3", bring(seats.attacker, "bombs.py"), name, str(SECONDS), *words])
    said = ran(seats.attacker, line, user, check=False)
    print(f"{name}: {said}")
    if seats.gvisor and not said:
        return {}
    return dict(json.loads(said))


def alive(seats: Seats) -> None:
    """Its own agent comes through, too."""
    patience_s = 90 if seats.gvisor else 10
    look = "echo alive"
    eventually(
        lambda: seats.attacker.run(look, check=False).stdout, lambda said: said == "alive\n", patience_s, "attacker"
    )


@pytest.mark.parametrize("name", LIMITED)
def test_what_one_sandbox_takes_the_others_do_not_miss(seats: Seats, watch: Watch, name: str) -> None:
    with watch():
        said = bomb(seats, name)
    assert not said or said["refused"] > 0, "it never came to its limit"
    alive(seats)


def test_the_log_of_a_sandbox_is_bounded(seats: Seats, watch: Watch) -> None:
    with watch():
        said = bomb(seats, "log", str(LOG_MB * MIB), user="root")
    assert said["taken"] > LOG_MB * MIB
    container = seats.attacker.inspect()["Id"]
    root = seats.machine.out("docker info --format '{{.DockerRootDir}}'")
    size = int(seats.machine.out(f"du --summarize --block-size=1M {root}/containers/{container}").split()[0])
    assert size < 40
    alive(seats)


def test_a_flood_of_connections_leaves_the_host_reachable(seats: Seats, watch: Watch, moment: str) -> None:
    """Each takes an entry in the host's table; after a restart or reboot as many as it has room for, half a minute."""
    room = seats.machine.out("sysctl -n net.netfilter.nf_conntrack_max")
    wanted = FLOWS if moment == FOUND else int(room)
    with around(seats.machine), watch():
        said = bomb(seats, "connections", INTERNET, str(wanted))
        table = seats.machine.out("sysctl -n net.netfilter.nf_conntrack_count")
    print(f"{said['taken']} packets of as many flows; then the host's table had {table} entries of {room}")
    assert said["taken"] > wanted and int(table) > FLOWS
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
    with ExitStack() as crowd, watch() as more:
        for number in range(300):
            name = names[number % 3]
            wire = crowd.enter_context(edge.wire(name))
            wire.send(beginnings[number % 4].format(name))
        more()
