"""The completion script in a real bash: what it offers for the words that were typed."""

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sandboxd.cli.verbs import NAMES
from tests.unit.sandboxd.cli.doubles import DEADLINE_S, ID, Cli, ControlPlane

# `compopt` works only while bash itself completes; here it says what it was told.
ASK = """\
set -u
source "$1"
shift
compopt() { echo "compopt $*"; }
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_docker_sandbox
((${#COMPREPLY[@]} == 0)) || printf '%s\\n' "${COMPREPLY[@]}"
"""
Offers = Callable[[str], list[str]]


def asking(cli: Cli, directory: Path) -> Offers:
    """What bash offers for a line, whose last word is being typed; that may be empty."""
    program = directory / "bin" / "docker-sandbox"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, cli.words()))} "$@"\n')
    program.chmod(0o755)
    script = directory / "completion"
    script.write_text(cli.out("completion", "bash"))

    def ask(line: str) -> list[str]:
        done = subprocess.run(
            ["bash", "--norc", "--noprofile", "-c", ASK, "bash", str(script), "docker-sandbox", *line.split(" ")],
            env={"PATH": f"{program.parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done.stdout.splitlines()

    return ask


@pytest.fixture
def offers(lone: Cli, tmp_path: Path) -> Offers:
    lone.config.write_text(lone.config.read_text() + "[templates.base]\n[templates.playwright]\n")
    return asking(lone, tmp_path)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", list(NAMES)),
        ("in", ["init", "info"]),
        ("pool ", ["status", "start", "drain", "resize"]),
        ("pool resize 2 --template p", ["playwright"]),
        ("files e", ["exists", "edit"]),
        ("files up", ["upload", "upload-dir"]),
        ("sandbox cr", ["create"]),
        ("nonsense ", []),
        ("files nonsense ", []),
        ("pool start --", ["--help", "--wait", "--template", "--json"]),
        ("pool --", []),
        ("init --te", ["--template"]),
        ("create --te", ["--template"]),
        ("sandbox create --te", ["--template"]),
        ("init --template ", ["base", "playwright"]),
        ("init --template = p", ["playwright"]),
        ("init --template =", ["base", "playwright"]),
        ("init --env ", []),
        ("init --env = K = V", []),
        ("init --env = K = V --k", ["--keep"]),
        ("init --env K = a : b --t", ["--template", "--timeout"]),
        ("exec 4f1c -- --c", []),
        ("completion ", ["bash", "zsh", "fish"]),
        ("upload 4f1c ", ["compopt -o default"]),
        ("upload 4f1c here ", []),
        ("download 4f1c there ", ["compopt -o default"]),
        ("files upload --user root 4f1c ", ["compopt -o default"]),
        ("files read 4f1c ", []),
    ],
)
def test_what_is_offered(offers: Offers, line: str, expected: list[str]) -> None:
    assert offers(line) == expected


def test_ids_of_sandboxes(used: Cli, tmp_path: Path) -> None:
    offers = asking(used, tmp_path)
    second = used.out("init", "--metadata", "sandboxID=bad").strip()
    for line in ("kill ", "exec --env A = 1 ", "files rm -r ", "rm 0000 ", "sandbox kill 1 2 "):
        assert sorted(offers(line)) == [ID, second], line
    assert offers(f"info {ID}") == [ID] and offers("info f") == [] and offers("info 0000 ") == []


def test_nothing_is_said_while_the_daemon_is_away(offers: Offers, control: ControlPlane) -> None:
    control.path.unlink()
    assert offers("kill ") == []


def test_the_function_is_bound_to_both_names(offers: Offers, tmp_path: Path) -> None:
    script = "source <(docker-sandbox completion bash); complete -p docker-sandbox docker-sandbox-cli.sh"
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.stdout.splitlines() == [
        "complete -F _docker_sandbox docker-sandbox",
        "complete -F _docker_sandbox docker-sandbox-cli.sh",
    ]
