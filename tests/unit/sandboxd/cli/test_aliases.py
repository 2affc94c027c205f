"""Other names of verbs: each can be typed, and none is offered whose verb does not exist."""

import re
from pathlib import Path

import pytest

from sandboxd.cli.arguments import overview, parse, verb_parser
from sandboxd.cli.verbs import NAMES, aliases, every_name

OFFERED = aliases.offered()
DOCS = Path(__file__).parents[4] / "docs" / "cli.md"
# What each verb wants behind its name.
WANTED = {
    "init": [],
    "list": [],
    "get-host": ["4f1c"],
    "info": ["4f1c"],
    "kill": ["4f1c"],
    "pause": ["4f1c"],
    "resume": ["4f1c"],
    "exec": ["4f1c", "true"],
    "upload": ["4f1c", "here", "there"],
    "download": ["4f1c", "there", "here"],
    "shell": ["4f1c"],
}


def test_the_table_has_what_people_know() -> None:
    known = {"create", "ls", "rm"}
    known |= {f"sandbox {action}" for action in ("create", "kill", "info", "list", "get-host")}
    known |= {f"files {action}" for action in ("upload", "upload-dir", "download", "download-dir")}
    assert known <= set(OFFERED)


@pytest.mark.parametrize(("alias", "name"), OFFERED.items())
def test_an_alias_can_be_typed(alias: str, name: str) -> None:
    words = WANTED[name]
    assert vars(parse([*alias.split(), *words])) == vars(parse([*name.split(), *words])) != {}
    assert parse([*alias.split(), *words]).verb == name


@pytest.mark.parametrize(("alias", "name"), OFFERED.items())
def test_the_help_of_an_alias_is_that_of_the_verb(alias: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse([*alias.split(), "--help"])
    assert capsys.readouterr().out == verb_parser(name).format_help()


def test_an_alias_takes_no_verbs_name() -> None:
    """Else the verb could not be reached, or the alias not."""
    assert set(aliases.ALIASES).isdisjoint(every_name())
    assert {alias.split()[0] for alias in aliases.ALIASES if " " in alias} <= {*NAMES, *aliases.NOUNS}
    assert set(aliases.NOUNS).isdisjoint(NAMES)


def test_an_alias_waits_for_its_verb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Its verb may be one of a later release, of one word or of two."""
    later = {"connect": "later", "sandbox connect": "later", "sandbox frob": "pool frob", "sandbox fill": "pool start"}
    monkeypatch.setattr(aliases, "ALIASES", {**later, "sandbox create": "init"})
    assert aliases.offered() == {"sandbox fill": "pool start", "sandbox create": "init"}
    assert parse(["sandbox", "fill", "--wait"]).verb == "pool start"
    assert "connect" not in overview() and "frob" not in overview()
    for words in (["connect"], ["sandbox", "connect"], ["sandbox", "frob"]):
        with pytest.raises(SystemExit) as ended:
            parse(words)
        assert ended.value.code == 2 and f"{words[-1]!r} is no " in capsys.readouterr().err


def test_the_overview_has_them_in_few_lines() -> None:
    section = overview().partition("other names, as other command lines have them:\n")[2].partition("\n\n")[0]
    lines = section.splitlines()
    assert len(lines) == 3 and all(len(line) <= 120 for line in lines)
    assert "create = init" in lines[0] and "ls = list" in lines[0] and "rm = kill" in lines[0]
    assert lines[1].startswith("  sandbox create = init, ") and " kill," in lines[1]
    assert lines[2].startswith("  files upload, ") and "upload-dir = upload" in lines[2]


def test_sandbox_is_a_noun_of_aliases_only(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["sandbox", "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0 and aliases.NOUNS["sandbox"] in text
    assert re.search(r"^  create +init: Makes a sandbox", text, re.MULTILINE)
    for words in (["sandbox"], ["sandbox", "frob"]):
        with pytest.raises(SystemExit) as ended:
            parse(words)
        assert ended.value.code == 2 and "Actions: create, " in capsys.readouterr().err


def test_the_help_of_a_noun_has_its_aliases(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["files", "--help"])
    text = capsys.readouterr().out
    assert re.search(r"^  upload-dir +upload: Copies ", text, re.MULTILINE)


def test_the_documentation_has_the_same_aliases() -> None:
    section = DOCS.read_text().partition("### Other names")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*`) \| `([a-z -]+)`", section, re.MULTILINE)
    assert {alias: name for cell, name in rows for alias in re.findall(r"`([a-z -]+)`", cell)} == OFFERED
