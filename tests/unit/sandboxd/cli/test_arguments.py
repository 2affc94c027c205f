"""What can be typed, what `--help` says, and that docs/cli.md says the same."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sandboxd.cli.arguments import joined, overview, parse, verb_parser
from sandboxd.cli.exits import LEGEND
from sandboxd.cli.verbs import AS_IT_IS, NAMES, Noun, declared, every_name, find
from tests.unit.sandboxd.cli.doubles import SOURCE

DOCS = Path(__file__).parents[4] / "docs" / "cli.md"
FLAGS = {
    "init": {
        "--template",
        "--timeout",
        "--keep",
        "--name",
        "--env",
        "--metadata",
        "--disk",
        "--volume",
        "--shared",
        "--cold",
        "--network",
        "--allow",
        "--deny",
        "--access",
        "--no-wake",
        "--idle-pause",
        "--json",
    },
    "exec": {"--cwd", "--env", "--user", "--timeout", "--background", "--json"},
    "shell": {"--cwd", "--env", "--user"},
    "upload": {"--user"},
    "download": {"--user"},
    "browser-test": {"--port", "--path", "--script", "--output", "--timeout", "--json"},
    "kill": {"--json"},
    "get-host": {"--port", "--private", "--for", "--json"},
    "access": {"--revoke", "--token", "--json"},
    "list": {"--json"},
    "info": {"--json"},
    "pause": {"--json"},
    "resume": {"--timeout", "--json"},
    "stop": {"--json"},
    "start": {"--timeout", "--json"},
    "extend": {"--json"},
    "resize": {"--json"},
    "network": {"--network", "--allow", "--deny", "--json"},
    "files ls": {"--depth", "--user", "--json"},
    "files read": {"--user"},
    "files write": {"--content", "--user", "--json"},
    "files rm": {"-r", "--recursive", "--user", "--json"},
    "files mv": {"--user", "--json"},
    "files mkdir": {"--user", "--json"},
    "files exists": {"--user", "--json"},
    "files info": {"--user", "--json"},
    "files edit": {"--old", "--new", "--all", "--user", "--json"},
    "volume ls": {"--json"},
    "volume rm": {"--json"},
    "volume export": set(),
    "volume import": {"--size", "--force"},
    "key create": {"--max-sandboxes", "--host", "--first", "--json"},
    "key ls": {"--json"},
    "key revoke": {"--json"},
    "node ls": {"--json"},
    "node cordon": {"--json"},
    "node drain": {"--now", "--json"},
    "node activate": {"--json"},
    "node fenced": {"--yes", "--json"},
    "pool status": {"--json"},
    "snapshot": {"--json"},
    "template ls": {"--json"},
    "template build": {"--base", "--json"},
    "template rm": {"--json"},
    "pool start": {"--wait", "--template", "--json"},
    "pool drain": {"--template", "--json"},
    "pool resize": {"--template", "--json"},
    "cleanup": {"--older-than", "--unknown", "--json"},
    "routes status": {"--quiet", "--json"},
    "routes sync": {"--quiet", "--json"},
    "ca": {"--json"},
    "completion": set(),
    "version": {"--json"},
    "logs": {"--lines", "--follow", "--events", "--json"},
    "stats": {"--once", "--json"},
    "doctor": {"--no-probe", "--json"},
    "backup": {"--without", "--json"},
    "restore": {"--check", "--force", "--json"},
    "metrics": set(),
    "audit": {"--since", "--id", "--actor", "--action", "--json"},
}
NOUNS = ("files", "template", "volume", "key", "node", "pool", "routes")


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


def test_every_verb_is_in_the_table() -> None:
    assert sorted(every_name()) == sorted(FLAGS)
    assert tuple(word for word in NAMES if isinstance(declared(word), Noun)) == NOUNS


@pytest.mark.parametrize("verb", FLAGS)
def test_a_verb_has_these_flags(verb: str) -> None:
    assert flags_of(verb) == FLAGS[verb]


def test_init_parses_all_its_flags() -> None:
    words = (
        "--template big --timeout 15m --keep --name N --env A=1 --env B=x=y --metadata t=42"
        " --disk 20g --volume data --shared --cold --network none --allow 1.1.1.1 --allow 10.0.0.0/8 --deny 2.2.2.2"
        " --access token --no-wake --idle-pause 30m --json"
    )
    parsed = vars(parse(["init", *words.split()]))
    assert parsed == {
        "verb": "init",
        "template": "big",
        "timeout": 900,
        "keep": True,
        "name": "N",
        "env": [("A", "1"), ("B", "x=y")],
        "metadata": [("t", "42")],
        "disk": 20480,
        "volume": "data",
        "shared": True,
        "cold": True,
        "network": "none",
        "allow": ["1.1.1.1", "10.0.0.0/8"],
        "deny": ["2.2.2.2"],
        "access": "token",
        "no_wake": True,
        "idle_pause": 1800,
        "json": True,
    }


def test_init_without_flags_leaves_the_choice_to_the_host() -> None:
    parsed = parse(["init"])
    assert (parsed.template, parsed.timeout, parsed.name, parsed.env) == ("", None, "", [])
    assert not (parsed.keep or parsed.cold or parsed.shared or parsed.json or parsed.no_wake)
    assert "idle_pause" not in parsed and parse(["init", "--idle-pause", "none"]).idle_pause is None


def test_repeated_flags_do_not_leak_into_the_next_parse() -> None:
    parse(["init", "--env", "A=1"])
    assert parse(["init"]).env == []


def test_exec_parses_flags_on_both_sides_of_the_command() -> None:
    parsed = parse(["exec", "--user", "root", "4f1c", "ls -la", "--cwd", "/", "--timeout", "2h", "--background"])
    assert (parsed.id, parsed.command, parsed.user, parsed.cwd) == ("4f1c", "ls -la", "root", "/")
    assert (parsed.timeout, parsed.background) == (7200, True)


def test_a_command_may_begin_with_a_dash() -> None:
    assert parse(["exec", "4f1c", "--", "--version"]).command == "--version"


def test_shell_takes_a_command_or_none() -> None:
    assert parse(["shell", "4f1c"]).command == ""
    parsed = parse(["shell", "--user", "root", "4f1c", "--cwd", "/", "vi x", "--env", "A=1"])
    assert (parsed.id, parsed.command, parsed.user, parsed.cwd, parsed.env) == (
        "4f1c",
        "vi x",
        "root",
        "/",
        [("A", "1")],
    )


def test_other_verbs() -> None:
    assert parse(["upload", "4f1c", "-", "/x"]).source == "-"
    assert parse(["download", "4f1c", "/x", "-"]).target == "-"
    assert parse(["kill", "a", "b"]).ids == ["a", "b"]
    assert parse(["get-host", "a", "--port", "5173"]).port == 5173
    assert (parse(["get-host", "a", "--private", "--for", "12h"]).seconds, parse(["get-host", "a"]).private) == (
        43200,
        False,
    )
    assert parse(["access", "a"]).mode is None and parse(["access", "a", "basic", "--revoke"]).mode == "basic"
    assert parse(["pool", "start", "--wait"]).wait
    resize = parse(["pool", "resize", "5", "--template", "large"])
    assert (resize.size, resize.template) == (5, "large") and parse(["pool", "drain"]).template == ""
    assert parse(["cleanup"]).older_than == 86400
    assert parse(["cleanup", "--older-than", "0"]).older_than == 0
    assert parse(["routes", "status", "--quiet"]).quiet
    assert parse(["completion", "zsh"]).shell == "zsh"
    assert parse(["logs", "4f1c"]).lines == 100 and parse(["logs", "4f1c", "--lines", "all"]).lines is None
    assert parse(["stats"]).ids == [] and parse(["stats", "a", "b", "--once"]).ids == ["a", "b"]
    assert parse(["doctor", "--no-probe"]).no_probe
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
        ("shell 4f1c vi file", "file"),
        ("get-host 4f1c --port 70000", "70000"),
        ("get-host 4f1c --private --for none", "'none' is no limit"),
        ("access 4f1c secret", "secret"),
        ("init --access none", "none"),
        ("kill", "ID"),
        ("pool", "pool: an action is missing. Actions: status, start, drain, resize."),
        ("pool fill", "pool: 'fill' is no action. Actions: status, start, drain, resize."),
        ("pool resize", "N"),
        ("pool resize many", "'many' is no size of a pool: write a whole number from 0 to 1000"),
        ("pool resize 1001", "'1001' is no size"),
        ("pool resize --template x", "N"),
        ("pool status --wait", "--wait"),
        ("routes", "action"),
        ("files --user root ls 4f1c", "'root' is no action"),
        ("files ls", "ID"),
        ("files ls 4f1c --depth 0", "'0' is no depth"),
        ("files rm 4f1c", "PATH"),
        ("files edit 4f1c f --old a", "--new"),
        ("completion tcsh", "tcsh"),
        ("cleanup --older-than soon", "soon"),
        ("logs", "ID"),
        ("logs 4f1c --lines -1", "--lines"),
        ("logs 4f1c --lines few", "few"),
        ("doctor 4f1c", "4f1c"),
        ("cleanup --dry-run", "--dry-run"),  # the daemon has none, and an unknown field would remove for good
    ],
)
def test_wrong_usage_is_named(line: str, named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert named in fails(line.split(), capsys)


@pytest.mark.parametrize(
    ("line", "verb"),
    [
        ("pool status", "pool status"),
        ("pool --wait start", "pool start"),
        ("routes --json sync --quiet", "routes sync"),
        ("files rm -r 4f1c a b", "files rm"),
        ("files -r rm 4f1c a", "files rm"),
    ],
)
def test_a_verb_of_two_words(line: str, verb: str) -> None:
    """Flags may stand anywhere, also before the action."""
    assert parse(line.split()).verb == verb


def test_files_parses_its_flags() -> None:
    assert vars(parse(["files", "ls", "4f1c"])) == {
        "verb": "files ls",
        "id": "4f1c",
        "path": ".",
        "depth": 1,
        "user": "",
        "json": False,
    }
    assert parse(["files", "ls", "4f1c", "/x", "--depth", "3"]).depth == 3
    parsed = parse(["files", "rm", "4f1c", "a", "b", "--recursive", "--user", "root"])
    assert (parsed.paths, parsed.recursive, parsed.user) == (["a", "b"], True, "root")
    parsed = parse(["files", "edit", "4f1c", "f", "--old", "a", "--new", "", "--all", "--json"])
    assert (parsed.path, parsed.old, parsed.new, parsed.all, parsed.json) == ("f", "a", "", True, True)
    assert parse(["files", "write", "4f1c", "f"]).content is None
    assert parse(["files", "write", "4f1c", "f", "--content", ""]).content == ""


@pytest.mark.parametrize("text", ["-x", "--", "--new", "--old", "- a\n- b", "-1", "a=b", "=", ""])
def test_a_text_may_look_like_a_flag(text: str) -> None:
    for words in (["--old", text, "f", "--new", text], [f"--old={text}", f"--new={text}", "f"]):
        parsed = parse(["files", "edit", "4f1c", *words])
        assert (parsed.old, parsed.new, parsed.path) == (text, text, "f")


def test_only_texts_are_joined_to_their_flags() -> None:
    texts = {"--old"}
    assert joined(["a", "--old", "-x", "--user", "u"], texts) == ["a", f"--old={AS_IT_IS}-x", "--user", "u"]
    assert joined(["--old=x"], texts) == [f"--old={AS_IT_IS}x"]
    assert joined(["--old"], texts) == ["--old"], "a value is missing, which argparse says"
    assert joined(["--", "--old", "x"], texts) == ["--", "--old", "x"], "no flags any more"


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
    for verb in NAMES:
        assert re.search(rf"^  {verb} +\w", text, re.MULTILINE), verb


@pytest.mark.parametrize("word", NOUNS)
def test_the_help_of_a_noun_has_a_line_for_each_action(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse([word, "--help"])
    text = capsys.readouterr().out
    noun = declared(word)
    assert ended.value.code == 0 and LEGEND in text and isinstance(noun, Noun) and noun.summary in text
    for action, verb in noun.actions.items():
        assert re.search(rf"^  {action} +{re.escape(verb.summary.splitlines()[0])}$", text, re.MULTILINE), action
    assert max(len(line) for line in text.splitlines()) <= 120


@pytest.mark.parametrize("verb", FLAGS)
def test_help_has_flags_examples_and_exit_codes(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse([*verb.split(), "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0 and LEGEND in text
    assert all(flag in text for flag in FLAGS[verb])
    examples = text.partition("examples:\n")[2].partition("\n\n")[0]
    assert f"docker-sandbox {verb}" in examples
    assert max(len(line) for line in find(verb).summary.splitlines()) <= 120


@pytest.mark.parametrize("verb", FLAGS)
def test_examples_of_the_help_can_be_typed(verb: str) -> None:
    lines = re.findall(
        rf"docker-sandbox ({verb} (?:'[^'\n]*'|[^)|<>&'\n])*|{verb}$)", find(verb).examples, re.MULTILINE
    )
    assert lines
    for line in lines:
        assert parse(shlex.split(line)).verb == verb


def test_the_help_of_exec_explains_its_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["exec", "--help"])
    text = capsys.readouterr().out
    assert "124" in text and "128 + n" in text


def test_the_help_of_shell_tells_how_to_leave(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["shell", "--help"])
    text = capsys.readouterr().out
    assert "Enter ~ ." in text and "129" in text and "`exec`" in text


def test_only_the_module_of_the_verb_is_imported() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(SOURCE)!r}); from sandboxd.cli.arguments import parse; parse(['list']);"
        "print([name for name in sys.modules if name.startswith('sandboxd.cli.verbs.')])"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['sandboxd.cli.verbs.aliases', 'sandboxd.cli.verbs.lifecycle']\n"


def test_the_documentation_has_the_same_verbs() -> None:
    assert set(documented()) == set(NAMES)
    for verb in FLAGS:
        assert f"`{verb}`" in DOCS.read_text(), verb


@pytest.mark.parametrize("word", NAMES)
def test_the_documentation_has_the_same_flags(word: str) -> None:
    """Each flag is named in the section of its word, but for --json, which the rules for all verbs explain."""
    section = re.sub(r"'[^'\n]*'", "", documented()[word])  # without the commands that examples run
    flags = {flag for verb in FLAGS if verb.split()[0] == word for flag in flags_of(verb)}
    named = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", section))
    for line in re.findall(r"^.*docker-sandbox (.*)$", section, re.MULTILINE):
        verb = next(verb for verb in FLAGS if line.startswith(verb))
        assert set(re.findall(r"--[a-z][a-z-]+", line)) - flags_of(verb) == set(), line
    every = {flag for flags in FLAGS.values() for flag in flags}
    assert {flag for flag in named if flag.startswith("--")} - every == set()
    assert flags - named - {"--json"} == set()


def test_the_documentation_has_the_same_exit_codes() -> None:
    table = DOCS.read_text().partition("## Exit codes")[2].partition("\n## ")[0]
    codes = set(re.findall(r"^\| (\d+) \|", table, re.MULTILINE))
    assert codes == {*re.findall(r"^  (\d+) ", LEGEND, re.MULTILINE), "124"}
