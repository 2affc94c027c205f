"""The command line: exit codes, what goes to stdout and what to stderr."""

import json
from collections.abc import Callable

import pytest

from lab import cli, host
from tests.unit.lab.conftest import Machine, inspected

EngineWith = Callable[..., Machine]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give back the logger as it was: its handler writes to the standard error of one test."""
    monkeypatch.setattr(cli.log, "handlers", [])
    monkeypatch.setattr(cli.log, "propagate", True)


def test_status_as_a_table(engine_with: EngineWith, capsys: pytest.CaptureFixture[str]) -> None:
    engine_with(inspected("web"), inspected("old", running=False, suite="bookworm"))
    assert cli.main(["status"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["NAME", "DEBIAN", "STATE", "ADDRESS", "IMAGE"],
        ["old", "bookworm", "stopped", "-", "img:1"],
        ["web", "trixie", "up", "203.0.113.7", "img:1"],
    ]


def test_status_as_json(engine_with: EngineWith, capsys: pytest.CaptureFixture[str]) -> None:
    engine_with(inspected("web"))
    assert cli.main(["status", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry == host.get("web").as_dict()
    assert (entry["name"], entry["running"], entry["address"]) == ("web", True, "203.0.113.7")


def test_status_starts_no_engine(engine_with: EngineWith, monkeypatch: pytest.MonkeyPatch) -> None:
    engine_with()
    monkeypatch.setattr("lab.engine.ensure", lambda: pytest.fail("started an engine"))
    assert cli.main(["status"]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["up", "Bad_Name"], 2, "'Bad_Name' is not a lab name"),
        (["up", "--debian", "sid"], 2, "'sid'"),
        (["down"], 2, "either names or --all"),
        (["down", "--all", "web"], 2, "either names or --all"),
        (["down", "nope"], 3, "no lab 'nope'"),
        (["ssh", "nope", "id"], 3, "no lab 'nope'"),
        (["restart", "nope"], 3, "no lab 'nope'"),
        (["logs", "nope"], 3, "no lab 'nope'"),
        (["build", "--debian", "11"], 2, "'11'"),
    ],
)
def test_errors_have_their_exit_code_and_their_remedy(
    arguments: list[str],
    code: int,
    said: str,
    engine_with: EngineWith,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    machine = engine_with(inspected("web"))
    machine.answer("docker", "ps", "--all", "--quiet", "--filter", "label=sandbox.lab=nope")
    monkeypatch.setattr("lab.engine.ensure", lambda: None)
    assert cli.main(arguments) == code
    out, err = capsys.readouterr()
    assert (out, said in err, len(err.splitlines())) == ("", True, 2)


def test_unknown_commands_show_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["launch"])
    assert "usage:" in capsys.readouterr().err


def test_ssh_becomes_ssh(engine_with: EngineWith, monkeypatch: pytest.MonkeyPatch) -> None:
    engine_with(inspected("web"))
    became: list[list[str]] = []
    monkeypatch.setattr("os.execvp", lambda program, words: became.append([program, *words]))
    cli.main(["ssh", "web", "--", "ls", "-l"])
    config = str(host.get("web").ssh_config)
    assert became == [["ssh", "ssh", "-F", config, "web", "ls", "-l"]]


def test_an_interrupt_says_where_to_look(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> list[host.Lab]:
        raise KeyboardInterrupt

    monkeypatch.setattr(host, "labs", interrupt)
    assert cli.main(["status"]) == 130
    assert "interrupted" in capsys.readouterr().err
