"""pause, resume, stop, start, extend, resize: over the daemon's own API."""

import json
from typing import Any

import pytest

from sandboxd.cli import states
from tests.unit.sandboxd.cli.doubles import ID, Cli, ControlPlane
from tests.unit.sandboxd.conftest import World


def shown(cli: Cli, *words: str) -> dict[str, Any]:
    return dict(json.loads(cli.out(*words, "--json")))


@pytest.mark.parametrize(
    ("before", "verb", "state"),
    [
        ("", "pause", "paused"),
        ("pause", "resume", "running"),
        ("pause", "start", "running"),
        ("", "stop", "stopped"),
        ("pause", "stop", "stopped"),
        ("stop", "start", "running"),
        ("stop", "resume", "running"),
        ("", "resume", "running"),
    ],
)
def test_each_verb_says_what_the_sandbox_is_now(used: Cli, before: str, verb: str, state: str) -> None:
    if before:
        used.out(before, ID)
    assert used.out(verb, ID[:4]) == f"{ID} is {state}\n"
    values = shown(used, "info", ID)
    assert values["state"] == state and "Token" not in json.dumps(values)
    assert used.out("list").split()[12] == state


def test_json_is_the_sandbox_without_its_token(used: Cli) -> None:
    values = shown(used, "pause", ID)
    assert (values["sandboxID"], values["state"]) == (ID, "paused") and "envdAccessToken" not in values


def test_extend_counts_from_now(used: Cli) -> None:
    assert shown(used, "extend", ID, "2h")["endAt"] == "2027-01-15T10:00:00.000Z"
    assert used.out("extend", ID, "none") == f"{ID} ends never\n"
    used.out("pause", ID)
    assert used.out("extend", ID, "2h") == f"{ID} is paused: its time begins when it is resumed\n"
    assert shown(used, "resume", ID)["endAt"] == "2027-01-15T10:00:00.000Z"


@pytest.mark.parametrize("verb", ["resume", "start"])
def test_a_time_for_resume_is_given_left_as_it_was_or_taken_away(used: Cli, verb: str) -> None:
    used.out("extend", ID, "2h")
    for flags, end in (
        ((), "2027-01-15T10:00:00.000Z"),
        (("--timeout", "1h"), "2027-01-15T09:00:00.000Z"),
        ((), "2027-01-15T09:00:00.000Z"),
    ):
        used.out("pause", ID)
        assert shown(used, verb, ID, *flags)["endAt"] == end
    used.out("stop", ID)
    assert shown(used, verb, ID, "--timeout", "none")["unlimited"]


def test_resize(used: Cli, world: World) -> None:
    assert used.out("resize", ID, "20g") == f"{ID} has a disk of 20480 MB\n"
    assert "20480 MB at /code" in used.out("info", ID)
    done = used.run("resize", ID, "1g")
    assert done.returncode == 1 and b"has 20480 MB already, and disks only grow" in done.stderr


def test_a_state_that_does_not_fit_is_refused_with_a_remedy(used: Cli) -> None:
    used.out("stop", ID)
    done = used.run("pause", ID)
    assert done.returncode == 1 and f"docker-sandbox start {ID}".encode() in done.stderr and done.stdout == b""


@pytest.mark.parametrize("verb", ["pause", "resume", "stop", "start", "extend", "resize"])
def test_an_unknown_sandbox_ends_with_3(cli: Cli, verb: str) -> None:
    more = {"extend": ["2h"], "resize": ["20g"]}.get(verb, [])
    done = cli.run(verb, "ffffffffffff", *more)
    assert done.returncode == 3 and b"sandbox 'ffffffffffff' not found" in done.stderr and done.stdout == b""


@pytest.mark.parametrize(
    ("line", "path", "body"),
    [
        ("pause", "pause", {}),
        ("stop", "stop", {}),
        ("resume", "resume", {}),
        ("start --timeout 90s", "start", {"timeout": 90.0}),
        ("resume --timeout none", "resume", {"timeout": None}),
        ("extend 15m", "timeout", {"timeout": 900.0}),
        ("extend none", "timeout", {"timeout": None}),
        ("resize 2t", "disk", {"diskMB": 2 * 1024 * 1024}),
    ],
)
def test_what_the_control_plane_is_told(
    lone: Cli, control: ControlPlane, line: str, path: str, body: dict[str, Any]
) -> None:
    verb, *rest = line.split()
    control.answer(f"POST /sandboxes/{ID}/{path}", 200, {})
    assert lone.call(verb, ID, *rest) == 0
    assert [(seen.method, seen.body) for seen in control.requests[:1]] == [("POST", body)]


def test_a_sandbox_that_does_not_run_is_refused_by_what_needs_its_agent(
    lone: Cli, control: ControlPlane, sandbox: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    for state, remedy in (("paused", "resume"), ("stopped", "start")):
        control.answer(f"GET /sandboxes/{ID}", 200, {**sandbox, "state": state})
        for words in (("exec", ID, "true"), ("upload", ID, "-", "/code/x"), ("download", ID, "/code/x", "-")):
            assert lone.call(*words) == 1
            assert f"docker-sandbox {remedy} {ID}" in capsys.readouterr().err


def test_sentences() -> None:
    found = {"sandboxID": ID, "state": "running", "diskSizeMB": 512, "unlimited": True}
    assert states.sentence("resize", found) == f"{ID} has a disk of 512 MB"
    assert states.sentence("start", found) == f"{ID} is running"
