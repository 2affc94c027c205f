"""The skills and the reference say only what `docker-sandbox` can do, and leave none of it out.

The host suite runs every ```sh block of a skill in order; here they are read, which takes milliseconds. VERBS is
written out from the specification and not taken from the program, so that a verb or flag that vanishes is noticed.
"""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
SKILLS = sorted((ROOT / "files/skills").glob("*/SKILL.md"))
REFERENCE = ROOT / "docs/cli.md"
OTHERS = [
    *(ROOT / "docs" / name for name in ("operate.md", "observe.md", "what-it-does-to-your-host.md")),
    ROOT / "examples/calculator/README.md",
]
NAME = "docker-sandbox"
DESCRIPTION_LIMIT = 1024  # characters, of the skill format


@dataclass(frozen=True)
class Verb:
    """`positionals`: how many, at least; `many`: more are allowed. `flags`: name -> takes a value."""

    positionals: int
    flags: dict[str, bool]
    many: bool = False


def verb(positionals: int, with_value: str = "", switches: str = "", many: bool = False) -> Verb:
    flags = dict.fromkeys(with_value.split(), True) | dict.fromkeys(switches.split(), False)
    return Verb(positionals, flags | {"--help": False, "--json": False}, many)


VERBS = {
    "init": verb(
        0,
        "--template --timeout --name --env --metadata --disk --volume --network --allow --deny --access --idle-pause",
        "--keep --shared --cold --no-wake",
    ),
    "exec": verb(2, "--cwd --env --user --timeout", "--background"),
    "shell": verb(1, "--cwd --env --user", many=True),
    "upload": verb(3),
    "download": verb(3),
    "files ls": verb(1, "--depth --user", many=True),
    "files read": verb(2),
    "files write": verb(2, "--content"),
    "files rm": verb(2, many=True),
    "files mv": verb(3),
    "files mkdir": verb(2),
    "files exists": verb(2),
    "files info": verb(2),
    "files edit": verb(2, "--old --new", "--all"),
    "browser-test": verb(1, "--port --path --script --output --timeout"),
    "kill": verb(1, many=True),
    "get-host": verb(1, "--port --for", "--private"),
    "access": verb(1, "", "--revoke --token", many=True),
    "list": verb(0),
    "info": verb(1),
    "pause": verb(1),
    "resume": verb(1, "--timeout"),
    "stop": verb(1),
    "start": verb(1, "--timeout"),
    "extend": verb(2),
    "resize": verb(2),
    "network": verb(1, "--network --allow --deny"),
    "snapshot": verb(2),
    "template ls": verb(0),
    "template build": verb(2, "--base"),
    "template rm": verb(1, many=True),
    "pool start": verb(0, "--template", "--wait"),
    "volume ls": verb(0),
    "volume rm": verb(1, many=True),
    "volume export": verb(2),
    "volume import": verb(2, "--size", "--force"),
    "key create": verb(1, "--max-sandboxes", "--host --first"),
    "key ls": verb(0),
    "key revoke": verb(1, many=True),
    "node ls": verb(0),
    "node cordon": verb(1),
    "node drain": verb(1, "", "--now"),
    "node activate": verb(1),
    "node fenced": verb(1, "", "--yes"),
    "pool status": verb(0),
    "pool drain": verb(0, "--template"),
    "pool resize": verb(1, "--template"),
    "backup": verb(1, "--without"),
    "restore": verb(1, "", "--check --force"),
    "ca": verb(0),
    "cleanup": verb(0, "--older-than"),
    "routes status": verb(0),
    "routes sync": verb(0),
    "completion": verb(1),
    "version": verb(0),
    "logs": verb(1, "--lines", "--follow --events"),
    "stats": verb(0, "", "--once", many=True),
    "doctor": verb(0, "", "--no-probe"),
    "metrics": verb(0),
    "audit": verb(0, "--since --id --actor --action"),
}
NOUNS = {name.split()[0] for name in VERBS if " " in name}
# `shell` wants a terminal, which agents have none of; `ca` is for those who set up clients.
OF_ROOT = {
    "backup",
    "restore",
    "node ls",
    "node cordon",
    "node drain",
    "node activate",
    "node fenced",
}  # no business of agents
FOR_PEOPLE = {"shell", "ca"} | OF_ROOT


def blocks(text: str, language: str) -> list[str]:
    """The contents of the fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def without_documents(script: str) -> str:
    """The script with here-documents taken out and continued lines joined."""
    script = re.sub(r"(<<-?'?(\w+)'?[^\n]*\n).*?^\2$", r"\1", script, flags=re.MULTILINE | re.DOTALL)
    return script.replace("\\\n", " ")


def words(rest: str) -> list[str]:
    """The words of a shell command from its first argument on, up to the operator or bracket that ends it."""
    found, word, quote, depth = [], "", "", 0
    for char in rest:
        if not quote and not depth and char in "|;&<>)`\n":
            word = "" if char in "<>" and word.isdigit() else word  # as in 2> redirection
            break
        if quote and not depth and char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif quote != "'" and char in "()":
            depth += 1 if char == "(" else -1
        if char.isspace() and not quote and not depth:
            found.append(word)
            word = ""
        else:
            word += char
    return [item for item in [*found, word] if item]


def calls(text: str) -> Iterator[list[str]]:
    """Every call of docker-sandbox: in ```sh blocks, and in backticks in the prose unless it only names a verb."""
    sources = [without_documents(block) for block in blocks(text, "sh")]
    sources += re.findall(rf"`({NAME} [a-z-]+ [^`]+)`", prose(text))
    for source in sources:
        for match in re.finditer(rf"(?:^|[\s(|;`]){NAME} (?=\S)", source, re.MULTILINE):
            yield words(source[match.end() :])


def verb_of(call: list[str]) -> tuple[str, list[str]]:
    """The verb of a call and its arguments. Fails when there is no such verb."""
    name = " ".join(call[:2]) if call[0] in NOUNS else call[0]
    assert name in VERBS, f"{NAME} {' '.join(call)}: no such verb"
    return name, call[len(name.split()) :]


def check(call: list[str]) -> str:
    """Check flags and number of arguments of a call; return its verb, or the noun whose help it asks for."""
    if call[0] in NOUNS and call[1:] == ["--help"]:
        return call[0]
    name, arguments = verb_of(call)
    positionals, wants_value = 0, False
    for argument in arguments:
        if wants_value:
            wants_value = False
        elif argument.startswith("--"):
            assert argument in VERBS[name].flags, f"{NAME} {' '.join(call)}: no flag {argument}"
            wants_value = VERBS[name].flags[argument]
        else:
            positionals += 1
    assert not wants_value, f"{NAME} {' '.join(call)}: a value is missing"
    if "--help" not in arguments:
        wanted = VERBS[name].positionals
        assert positionals == wanted or (VERBS[name].many and positionals > wanted), (
            f"{NAME} {' '.join(call)}: {positionals} arguments instead of {wanted}"
        )
    return name


def by_name(name: str) -> str:
    return (ROOT / "files/skills" / name / "SKILL.md").read_text()


def front_matter(text: str) -> dict[str, Any]:
    match = re.match(r"---\n(.*?)^---\n", text, re.MULTILINE | re.DOTALL)
    assert match is not None, "begins with a block between two lines of ---"
    loaded = import_module("yaml").safe_load(match[1])
    assert isinstance(loaded, dict)
    return loaded


def test_both_skills_are_there() -> None:
    assert [path.parent.name for path in SKILLS] == ["docker-sandbox", "docker-sandbox-agent"]


@pytest.mark.parametrize("path", SKILLS, ids=lambda path: path.parent.name)
def test_front_matter_names_the_skill_and_says_when_to_use_it(path: Path) -> None:
    found = front_matter(path.read_text())
    assert found.keys() == {"name", "description"}
    assert found["name"] == path.parent.name
    assert 50 < len(found["description"]) <= DESCRIPTION_LIMIT
    assert "Use it " in found["description"] and "<" not in found["description"]


@pytest.mark.parametrize("path", SKILLS, ids=lambda path: path.parent.name)
def test_every_block_is_valid_bash(path: Path) -> None:
    scripts = blocks(path.read_text(), "sh")
    assert scripts
    for script in scripts:
        done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and not done.stderr, f"{done.stderr}\n{script}"


@pytest.mark.parametrize("path", [*SKILLS, REFERENCE, *OTHERS], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_call_uses_verbs_and_flags_that_exist(path: Path) -> None:
    assert [check(call) for call in calls(path.read_text())]


@pytest.mark.parametrize("path", [*SKILLS, REFERENCE, *OTHERS], ids=lambda path: str(path.relative_to(ROOT)))
def test_fences_are_closed_and_name_their_language(path: Path) -> None:
    fences = re.findall(r"^```(.*)$", path.read_text(), re.MULTILINE)
    assert all(fences[::2]) and not any(fences[1::2]) and len(fences) % 2 == 0


def test_the_skill_runs_every_verb() -> None:
    scripts = blocks(by_name("docker-sandbox"), "sh")
    run = {verb_of(words(line.partition(f"{NAME} ")[2]))[0] for line in _lines_with_calls(scripts)}
    assert run == VERBS.keys() - FOR_PEOPLE


def test_the_skill_and_the_reference_explain_every_flag() -> None:
    reference = REFERENCE.read_text()
    for text in (by_name("docker-sandbox"), reference):
        for name, spec in VERBS.items():
            missing = [flag for flag in spec.flags if flag not in text and (text is reference or name not in OF_ROOT)]
            assert not missing, f"{name}: {missing}"


def test_the_reference_has_a_section_for_every_verb() -> None:
    titles = re.findall(r"^## `([a-z -]+)`", REFERENCE.read_text(), re.MULTILINE)
    assert {name.split()[0] for name in VERBS} == set(titles)


def test_both_list_every_exit_code() -> None:
    for text in (by_name("docker-sandbox"), REFERENCE.read_text()):
        codes = set(re.findall(r"^\| (\d+) \|", text, re.MULTILINE))
        assert {"0", "1", "2", "3", "4", "5", "124"} <= codes


@pytest.mark.parametrize("path", SKILLS, ids=lambda path: path.parent.name)
def test_what_a_skill_makes_it_removes(path: Path) -> None:
    script = "\n".join(without_documents(block) for block in blocks(path.read_text(), "sh"))
    made = set(re.findall(rf"^(\w+)=\$\({NAME} init", script, re.MULTILINE))
    killed = set(re.findall(rf'^{NAME} kill "\$(\w+)"', script, re.MULTILINE))
    assert made and made == killed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('curl "$(docker-sandbox get-host "$ID")/x"', [["get-host", '"$ID"']]),
        (
            "docker-sandbox exec \"$ID\" 'a; b | c' --cwd /tmp 2> err || true",
            [["exec", '"$ID"', "'a; b | c'", "--cwd", "/tmp"]],
        ),
        (
            "docker-sandbox exec $ID 'cat' <<'E'\ndocker-sandbox nonsense\nE\ndocker-sandbox list",
            [["exec", "$ID", "'cat'"], ["list"]],
        ),
        ("docker-sandbox upload \\\n  a b c", [["upload", "a", "b", "c"]]),
    ],
)
def test_the_parser_reads_shell(text: str, expected: list[list[str]]) -> None:
    assert list(calls(f"```sh\n{text}\n```\n")) == expected


@pytest.mark.parametrize(
    "call", ["nonsense", "init --size 3", "kill", "get-host ID --port", "upload ID a", "pool stop", "files frob --help"]
)
def test_the_check_refuses(call: str) -> None:
    with pytest.raises(AssertionError):
        check(call.split())


def _lines_with_calls(scripts: list[str]) -> list[str]:
    lines = "\n".join(without_documents(script) for script in scripts).splitlines()
    return [line for line in lines if f"{NAME} " in line]
