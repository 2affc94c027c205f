"""The scripts that teach shells to complete: what is in them. That of bash is run in `test_completion_bash`."""

import json
import re
from pathlib import Path

import pytest

from sandboxd.cli.completion import fish
from sandboxd.cli.completion.model import PROGRAMS, Flag, command, of_all_verbs
from sandboxd.cli.verbs import NAMES, aliases, every_name
from tests.unit.sandboxd.cli.doubles import Cli
from tests.unit.sandboxd.cli.test_arguments import FLAGS

SHELLS = ("bash", "zsh", "fish")
TEMPLATES = '[templates.base]\n[templates."play-wright"]\n'


@pytest.fixture
def host(lone: Cli) -> Cli:
    lone.config.write_text(lone.config.read_text() + TEMPLATES)
    return lone


@pytest.fixture(params=SHELLS)
def script(request: pytest.FixtureRequest, host: Cli, capsys: pytest.CaptureFixture[str]) -> str:
    assert host.call("completion", request.param) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out


def test_every_word_and_flag_is_in_it(script: str) -> None:
    words = {word for name in (*every_name(), *aliases.offered()) for word in name.split()}
    words |= {flag for flags in FLAGS.values() for flag in flags if flag.startswith("--")}
    missing = {word for word in words if not re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", script)}
    assert missing == set()


def test_it_has_the_templates_of_this_host(script: str) -> None:
    assert "'words:base play-wright'" in script


def test_it_is_for_both_names_of_the_program(script: str) -> None:
    bindings = " ".join(line for line in script.splitlines() if line.lstrip().startswith(("complete ", "compdef ")))
    assert set(PROGRAMS) <= set(bindings.split())
    assert not [line for line in script.splitlines() if line != line.rstrip()] and script.endswith("\n")


@pytest.mark.parametrize("shell", SHELLS)
def test_it_needs_no_host(tmp_path: Path, shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert Cli(tmp_path / "none.toml", tmp_path).call("completion", shell) == 0
    assert "--template" in capsys.readouterr().out


def test_the_model_has_every_verb_under_all_its_names() -> None:
    made = of_all_verbs([])
    assert sorted(found.names[0] for found in made.commands) == sorted(every_name())
    assert {alias for found in made.commands for alias in found.names[1:]} == set(aliases.offered())
    assert set(made.words) == {"", "files", "template", "volume", "key", "node", "pool", "routes", "sandbox"}
    assert tuple(made.words[""]) == NAMES
    assert made.words["files"]["upload-dir"].startswith("upload: ")


def test_the_model_of_one_verb() -> None:
    found = command("init", ["base"])
    assert Flag(("--template",), "the kind of sandbox (default: the host's default)", "words:base") in found.flags
    assert [flag.kind for flag in found.flags if flag.names in (("--keep",), ("--env",))] == ["", "any"]
    assert (found.places, found.many) == ((), False)
    assert (command("kill", []).places, command("kill", []).many) == (("sandbox",), True)
    assert command("upload", []).places == ("sandbox", "file", "any")
    assert command("download", []).places == ("sandbox", "any", "file")
    assert command("completion", []).places == ("words:bash zsh fish",)
    recursive = next(flag for flag in command("files rm", []).flags if "-r" in flag.names)
    assert recursive == Flag(("-r", "--recursive"), "directories too, with all that is in them", "")


def test_texts_are_quoted_for_fish() -> None:
    assert fish.quote("it's a \\ `x` $y") == "'it\\'s a \\\\ `x` $y'"


def test_ids_are_found_in_what_list_prints(used: Cli) -> None:
    """All three scripts look for lines of this form."""
    printed = used.out("list", "--json")
    assert re.findall(r'^    "sandboxID": "([0-9a-f]*)"', printed, re.MULTILINE) == [
        json.loads(printed)[0]["sandboxID"]
    ]
