"""The verbs about the pools: against the daemon's own API, and against one that answers what a test wants."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from sandboxd.cli import pool
from sandboxd.cli.verbs import every_name, find
from tests.unit.sandboxd.cli.doubles import Cli, ControlPlane, Run
from tests.unit.sandboxd.conftest import World

BASE = {
    "template": "base",
    "enabled": True,
    "size": 3,
    "configured": 3,
    "warm": 3,
    "starting": 0,
    "hits": 7,
    "misses": 2,
    "p50_ms": 9.25,
    "p95_ms": 31.0,
    "trouble": "",
    "limit": "",
}
LARGE = {**BASE, "template": "large", "configured": 0, "warm": 1, "size": 1, "hits": 0, "p50_ms": None, "p95_ms": None}
FULL = {"trouble": "this host is full", "limit": "max_sandboxes"}


def state(*pools: dict[str, Any]) -> dict[str, Any]:
    return {"enabled": True, "pools": list(pools)}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Stands still but for the waits, which take no time."""
    now = [100.0]

    def wait(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(pool, "POLL_S", 60.0)
    monkeypatch.setattr(pool, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=wait))
    return now


def test_all_verbs_together(cli: Cli, world: World) -> None:
    world.pool.start()
    cli.out("pool", "start", "--wait")
    cli.out("pool", "resize", "1", "--template", "large")
    cli.out("pool", "start", "--template", "large", "--wait")
    found = json.loads(cli.out("pool", "status", "--json"))
    assert (found["enabled"], found["warm"], found["size"]) == (True, 3, 3)
    assert [(one["template"], one["size"], one["warm"]) for one in found["pools"]] == [("base", 2, 2), ("large", 1, 1)]
    cli.out("pool", "drain", "--template", "base")
    assert [one["warm"] for one in json.loads(cli.out("pool", "status", "--json"))["pools"]] == [0, 1]
    cli.out("pool", "drain")
    assert json.loads(cli.out("pool", "status", "--json"))["warm"] == 0


def test_a_template_that_is_not_there(cli: Cli) -> None:
    for verb in (("start",), ("drain",), ("resize", "1")):
        done = cli.run("pool", *verb, "--template", "huge")
        assert (done.returncode, done.stdout) == (3, b"") and "huge" in done.stderr.decode()


def test_one_line_for_each_pool(run: Run, control: ControlPlane) -> None:
    control.answer("GET /pool", 200, state(BASE, {**LARGE, "enabled": False, "trouble": "no image"}))
    code, out, _ = run("pool", "status")
    head, base, large, trouble = out.splitlines()
    assert code == 0
    assert head.split() == ["TEMPLATE", "ON", "SIZE", "WARM", "STARTING", "HITS", "MISSES", "P50", "MS", "P95", "MS"]
    assert base.split() == ["base", "yes", "3", "3", "0", "7", "2", "9.2", "31.0"]
    assert large.split() == ["large", "no", "1", "(set:", "0)", "1", "0", "0", "2", "-", "-"]
    assert trouble == "large: no image"
    assert json.loads(run("pool", "status", "--json")[1])["pools"][0] == BASE


def test_no_pool(run: Run, control: ControlPlane) -> None:
    control.answer("GET /pool", 200, state())
    assert "docker-sandbox pool resize N" in run("pool", "status")[1]


def test_what_is_sent(run: Run, control: ControlPlane) -> None:
    control.answer("POST /pool", 200, state(BASE))
    control.answer("POST /pool/resize", 200, state(BASE))
    for words in ("start", "drain", "start --template large", "drain --template large"):
        assert run("pool", *words.split())[0] == 0
    assert run("pool", "resize", "5")[0] == 0 and run("pool", "resize", "0", "--template", "large")[0] == 0
    assert [request.body for request in control.requests] == [
        {"enabled": True, "template": ""},
        {"enabled": False, "template": ""},
        {"enabled": True, "template": "large"},
        {"enabled": False, "template": "large"},
        {"size": 5, "template": ""},
        {"size": 0, "template": "large"},
    ]


def test_waiting_until_all_are_full(run: Run, control: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "POLL_S", 0.0)
    control.answer("POST /pool", 200, state({**BASE, "warm": 0}, {**LARGE, "warm": 0}))
    looks = state({**BASE, "warm": 1}, LARGE), state(BASE, {**LARGE, "warm": 0}), state(BASE, LARGE)
    control.answer("GET /pool", 200, *looks)
    code, out, err = run("pool", "start", "--wait", "--json")
    assert (code, json.loads(out), err) == (0, looks[-1], "")


def test_waiting_for_one_of_them(run: Run, control: ControlPlane) -> None:
    control.answer("POST /pool", 200, state({**BASE, "warm": 0}, LARGE))
    assert run("pool", "start", "--wait", "--template", "large")[0] == 0


@pytest.mark.parametrize(
    ("last", "code", "reason"),
    [
        ({"warm": 1}, 1, "the pool of base has 1 of 3 members: filling is slow"),
        ({"warm": 1, "trouble": "no image"}, 1, "the pool of base has 1 of 3 members: no image"),
        ({"warm": 0, "enabled": False}, 1, "the pool of base has 0 of 3 members: it was turned off meanwhile"),
        ({"warm": 2, **FULL}, 5, "the pool of base has 2 of 3 members: this host is full"),
    ],
)
def test_a_pool_that_does_not_fill(
    run: Run, control: ControlPlane, clock: list[float], last: dict[str, Any], code: int, reason: str
) -> None:
    hopeless = not {**BASE, **last}["enabled"] or "limit" in last  # no reason to wait any longer
    control.answer("POST /pool", 200, state({**BASE, "warm": 0}, LARGE))
    control.answer("GET /pool", 200, state({**BASE, **last}, LARGE))
    before = clock[0]
    assert run("pool", "start", "--wait")[::2] == (code, f"docker-sandbox: error: {reason}\n")
    assert (clock[0] - before >= pool.FULL_S) is not hopeless


def test_a_full_host_excuses_no_other_trouble(run: Run, control: ControlPlane, clock: list[float]) -> None:
    control.answer("POST /pool", 200, state({**BASE, "warm": 0, **FULL}, {**LARGE, "warm": 0, "trouble": "no image"}))
    control.answer("GET /pool", 200, state({**BASE, "warm": 0, **FULL}, {**LARGE, "warm": 0, "trouble": "no image"}))
    code, _, err = run("pool", "start", "--wait")
    assert code == 1 and len(err.splitlines()) == 2


def test_every_verb_of_the_module_has_its_action() -> None:
    assert set(pool.ACTIONS) == {name for name in every_name() if find(name).module == "pool"}
