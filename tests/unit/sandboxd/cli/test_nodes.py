"""`node ls`, `node cordon`, `node drain`, `node activate`, over the API of a real fleet service."""

import json
import subprocess
from collections.abc import Iterator

import pytest

from sandboxd.cli.nodes import table
from tests.unit.fleet.fleets import LOST_S, Fleet, running
from tests.unit.sandboxd.cli.doubles import DEADLINE_S, Cli, write_place


@pytest.fixture(params=[60.0])
def fleet(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """Nobody is lost while a test runs, unless it says how soon."""
    with running(lost_s=request.param) as made:
        yield made


loses = pytest.mark.parametrize("fleet", [LOST_S], indirect=True)


def said(process: "subprocess.Popen[bytes]") -> str:
    """The next line of its messages."""
    assert process.stderr is not None
    return str(process.stderr.readline().decode())


@pytest.fixture
def manager(fleet: Fleet) -> Cli:
    place = write_place(fleet.directory / "config.toml", fleet.config.socket, ("127.0.0.1", 1))
    return Cli(place, fleet.directory)


@loses
def test_ls(fleet: Fleet, manager: Cli) -> None:
    manager.out("init")
    rows = json.loads(manager.out("node", "ls", "--json"))
    assert [(row["name"], row["role"], row["state"]) for row in rows] == [
        ("a", "manager", "ready"),
        ("b", "worker", "ready"),
    ]
    head, first, second = manager.out("node", "ls").splitlines()
    assert head.split()[:4] == ["NODE", "ROLE", "STATE", "SANDBOXES"]
    assert first.split()[:5] == ["a", "manager", "(leader)", "ready", "1"] and "2.0 of 16.0" in first
    fleet.lose("b")
    assert "lost since 20" in manager.out("node", "ls").splitlines()[2] and "ready" in second


def test_cordon_and_activate(fleet: Fleet, manager: Cli) -> None:
    assert manager.out("node", "cordon", "b") == "b is cordoned\n" and fleet.leases.availability("b") == "pause"
    assert json.loads(manager.out("node", "activate", "b", "--json"))["state"] == "ready"


def test_drain_waits(fleet: Fleet, manager: Cli) -> None:
    made = [manager.out("init").strip() for _ in range(2)]
    (there,) = (one for one in made if fleet.where(one).name == "b")
    waiting = manager.start("node", "drain", "b")
    assert said(waiting) == "waiting for the end of 1 sandbox on b; --now does not wait\n"
    assert fleet.leases.availability("b") == "pause"
    manager.out("kill", there)
    out, _ = waiting.communicate(timeout=DEADLINE_S)
    assert (waiting.returncode, out) == (0, b"b is drained\n")


def test_drain_now(fleet: Fleet, manager: Cli) -> None:
    for _ in range(4):
        manager.out("init")
    assert manager.out("node", "drain", "b", "--now") == "b is drained\n"
    assert fleet.nodes["b"].ids() == set()


@loses
def test_a_lost_host_is_not_drained(fleet: Fleet, manager: Cli) -> None:
    for _ in range(2):
        manager.out("init")
    fleet.lose("b")
    done = manager.run("node", "drain", "b")
    assert done.returncode == 1 and b"b is lost since" in done.stderr and fleet.leases.availability("b") == "pause"
    done = manager.run("node", "drain", "b", "--now")
    assert done.returncode == 5 and b"lost: node b unreachable since" in done.stderr


@loses
def test_only_a_lost_host_is_fenced_and_only_by_who_made_sure(fleet: Fleet, manager: Cli) -> None:
    done = manager.run("node", "fenced", "b")
    assert done.returncode == 1 and b"say so with --yes" in done.stderr
    done = manager.run("node", "fenced", "b", "--yes")
    assert done.returncode == 1 and b"node b answers" in done.stderr
    fleet.lose("b")
    assert json.loads(manager.out("node", "fenced", "b", "--yes", "--json")) == {"moved": {}, "waiting": {}}


def test_an_unknown_host(manager: Cli) -> None:
    done = manager.run("node", "cordon", "c")
    assert done.returncode == 3 and b"node 'c' not found. This fleet has: a, b" in done.stderr


def test_a_drain_that_is_taken_back(fleet: Fleet, manager: Cli) -> None:
    for _ in range(2):
        manager.out("init")
    waiting = manager.start("node", "drain", "b")
    assert "waiting" in said(waiting)
    manager.out("node", "activate", "b")
    _, err = waiting.communicate(timeout=DEADLINE_S)
    assert waiting.returncode == 1 and b"somebody has taken the drain back" in err


def test_list_names_the_hosts(fleet: Fleet, manager: Cli) -> None:
    made = [manager.out("init").strip() for _ in range(2)]
    head, *lines = manager.out("list").splitlines()
    assert head.split()[-2:] == ["NODE", "URL"]
    assert {tuple(line.split()[:1] + line.split()[-2:-1]) for line in lines} == {
        (one, fleet.where(one).name) for one in made
    }


def test_a_single_host_says_so(cli: Cli) -> None:
    for words in (["ls"], ["cordon", "b"], ["drain", "b"], ["activate", "b"]):
        done = cli.run("node", *words)
        assert done.returncode == 1 and b"this host is not part of a fleet" in done.stderr


def test_a_worker_names_the_managers(cli: Cli) -> None:
    with cli.config.open("a") as config:
        config.write('[fleet]\nmanages = false\nmanagers = ["a (10.0.0.1)"]\n')
    done = cli.run("node", "ls")
    assert done.returncode == 1 and b"worker of a fleet. Ask one of its managers: a (10.0.0.1)\n" in done.stderr


def test_what_is_not_known_is_shown_so() -> None:
    row = {
        "name": "b",
        "role": "manager",
        "address": "10.0.0.2",
        "state": "lost",
        "lostSince": "2026-01-31T12:00:00.000Z",
        "leader": True,
        "sandboxes": 2,
        "warm": 0,
        "memoryMB": None,
        "memoryReservedMB": 4096,
        "cpus": None,
        "cpusReserved": 4.0,
        "engine": None,
    }
    line = table([row]).splitlines()[1]
    assert "manager (leader)" in line and "lost since 2026-01-31T12:00:00.000Z" in line and "4.0 of ?" in line
