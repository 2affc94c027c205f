"""What can be typed, what `--help` says, and that docs/cli.md says the same."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxd.cli import arguments
from sandboxd.cli.arguments import VERBS, Parser, overview, parse, verb_parser
from sandboxd.cli.exits import LEGEND

DOCS = Path(__file__).parents[4] / "docs" / "cli.md"
FLAGS = {
    "init": {"--template", "--timeout", "--keep", "--name", "--env", "--metadata", "--cold", "--json"},
    "exec": {"--cwd", "--env", "--user", "--timeout", "--background", "--json"},
    "upload": {"--user"},
    "download": {"--user"},
    "kill": {"--json"},
    "get-host": {"--port", "--json"},
    "list": {"--json"},
    "info": {"--json"},
    "pool": {"--wait", "--json"},
    "cleanup": {"--older-than", "--unknown", "--json"},
    "routes": {"--quiet", "--json"},
    "version": {"--json"},
}


def flags_of(verb: str) -> set[str]:
    return {flag for action in verb_parser(verb)._actions for flag in action.option_strings} - {"-h", "--help"}


def documented() -> dict[str, str]:
    """The section of each verb in docs/cli.md."""
    parts = re.split(r"^## `(.+)`$", DOCS.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def fails(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        parse(words)
    printed = capsys.readouterr()
    assert ended.value.code == 2 and printed.out == ""
    assert printed.err.startswith("docker-sandbox: error: ") and "--help" in printed.err
    return printed.err


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_has_these_flags(verb: str) -> None:
    assert flags_of(verb) == FLAGS[verb]


def test_init_parses_all_its_flags() -> None:
    words = "--template big --timeout 15m --keep --name N --env A=1 --env B=x=y --metadata t=42 --cold --json"
    parsed = vars(parse(["init", *words.split()]))
    assert parsed == {
        "verb": "init",
        "template": "big",
        "timeout": 900,
        "keep": True,
        "name": "N",
        "env": [("A", "1"), ("B", "x=y")],
        "metadata": [("t", "42")],
        "cold": True,
        "json": True,
    }


def test_init_without_flags_leaves_the_choice_to_the_host() -> None:
    parsed = parse(["init"])
    assert (parsed.template, parsed.timeout, parsed.name, parsed.env) == ("", None, "", [])
    assert not (parsed.keep or parsed.cold or parsed.json)


def test_repeated_flags_do_not_leak_into_the_next_parse() -> None:
    parse(["init", "--env", "A=1"])
    assert parse(["init"]).env == []


def test_exec_parses_flags_on_both_sides_of_the_command() -> None:
    parsed = parse(["exec", "--user", "root", "4f1c", "ls -la", "--cwd", "/", "--timeout", "2h", "--background"])
    assert (parsed.id, parsed.command, parsed.user, parsed.cwd) == ("4f1c", "ls -la", "root", "/")
    assert (parsed.timeout, parsed.background) == (7200, True)


def test_a_command_may_begin_with_a_dash() -> None:
    assert parse(["exec", "4f1c", "--", "--version"]).command == "--version"


def test_other_verbs() -> None:
    assert parse(["upload", "4f1c", "-", "/x"]).source == "-"
    assert parse(["download", "4f1c", "/x", "-"]).target == "-"
    assert parse(["kill", "a", "b"]).ids == ["a", "b"]
    assert parse(["get-host", "a", "--port", "5173"]).port == 5173
    assert parse(["pool", "start", "--wait"]).wait
    assert parse(["cleanup"]).older_than == 86400
    assert parse(["cleanup", "--older-than", "0"]).older_than == 0
    assert parse(["routes", "status", "--quiet"]).quiet
    assert parse(["--version"]).verb == "version"


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("nonsense", "'nonsense' is no verb"),
        ("--json", "'--json' is no verb"),
        ("init --timeout never", "never"),
        ("init --env novalue", "novalue"),
        ("init --temp x", "--temp"),  # flags are not shortened: a later release could make them ambiguous
        ("init extra", "extra"),
        ("exec 4f1c ls -la", "-la"),
        ("exec 4f1c", "COMMAND"),
        ("get-host 4f1c --port 70000", "70000"),
        ("kill", "ID"),
        ("pool", "action"),
        ("pool fill", "fill"),
        ("routes", "action"),
        ("cleanup --older-than soon", "soon"),
        ("cleanup --dry-run", "--dry-run"),  # the daemon has none, and an unknown field would remove for good
    ],
)
def test_wrong_usage_is_named(line: str, named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert named in fails(line.split(), capsys)


def test_without_arguments_the_overview_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse([])
    printed = capsys.readouterr()
    assert ended.value.code == 2 and printed.out == "" and printed.err == overview()


@pytest.mark.parametrize("word", ["-h", "--help", "help"])
def test_the_overview_has_all_verbs_and_exit_codes(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse([word])
    text = capsys.readouterr().out
    assert ended.value.code == 0 and LEGEND in text
    for verb in VERBS:
        assert re.search(rf"^  {verb} +\w", text, re.MULTILINE), verb


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_flags_examples_and_exit_codes(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse([verb, "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0 and LEGEND in text
    assert all(flag in text for flag in FLAGS[verb])
    examples = text.partition("examples:\n")[2].partition("\n\n")[0]
    assert f"docker-sandbox {verb}" in examples
    assert max(len(line) for line in VERBS[verb].summary.splitlines()) <= 120


@pytest.mark.parametrize("verb", VERBS)
def test_examples_of_the_help_can_be_typed(verb: str) -> None:
    lines = re.findall(rf"docker-sandbox ({verb} [^)|<\n]*|{verb}$)", VERBS[verb].examples, re.MULTILINE)
    assert lines
    for line in lines:
        assert parse(shlex.split(line)).verb == verb


def test_the_help_of_exec_explains_its_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["exec", "--help"])
    text = capsys.readouterr().out
    assert "124" in text and "128 + n" in text


def test_only_the_parser_of_the_verb_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []

    def builder(name: str) -> Callable[[Parser], None]:
        return lambda _: built.append(name)

    for name, verb in VERBS.items():
        monkeypatch.setitem(arguments.VERBS, name, verb._replace(add_arguments=builder(name)))
    parse(["list"])
    assert built == ["list"]


def test_the_documentation_has_the_same_verbs() -> None:
    assert set(documented()) == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_the_documentation_has_the_same_flags(verb: str) -> None:
    """Each flag is named in the verb's section, but for --json, which the rules for all verbs explain."""
    section = re.sub(r"'[^'\n]*'", "", documented()[verb])  # without the commands that examples run
    named = set(re.findall(r"--[a-z][a-z-]+", section))
    examples = " ".join(re.findall(r"^.*docker-sandbox .*$", section, re.MULTILINE))
    assert set(re.findall(r"--[a-z][a-z-]+", examples)) - flags_of(verb) == set()
    assert named - {flag for flags in FLAGS.values() for flag in flags} == set()
    assert flags_of(verb) - named - {"--json"} == set()


def test_the_documentation_has_the_same_exit_codes() -> None:
    table = DOCS.read_text().partition("## Exit codes")[2].partition("\n## ")[0]
    codes = set(re.findall(r"^\| (\d+) \|", table, re.MULTILINE))
    assert codes == {*re.findall(r"^  (\d+) ", LEGEND, re.MULTILINE), "124"}
