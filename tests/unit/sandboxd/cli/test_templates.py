"""`snapshot` and `template ...`, over the daemon's own API."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from sandboxd.errors import EngineError
from tests.unit.sandboxd.cli.doubles import ID, Cli, ControlPlane
from tests.unit.sandboxd.conftest import World, until


@pytest.fixture
def context(here: Path) -> Path:
    (here / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\nCOPY tool /usr/local/bin/\n")
    (here / "tool").write_text("#!/bin/sh\n")
    return here


def test_a_snapshot_is_a_template_for_others(used: Cli, world: World) -> None:
    assert used.out("snapshot", ID, "ready") == "ready\n"
    made = json.loads(used.out("snapshot", ID[:4], "again", "--json"))
    assert (made["templateID"], made["kind"], made["base"]) == ("again", "snapshot", "base")
    other = used.out("init", "--template", "ready").strip()
    assert json.loads(used.out("info", other, "--json"))["templateID"] == "ready"


@pytest.mark.parametrize(
    ("name", "code", "said"), [("base", 1, "there is a template 'base' already"), ("No_Name", 1, "name")]
)
def test_a_snapshot_needs_a_new_and_good_name(used: Cli, world: World, name: str, code: int, said: str) -> None:
    done = used.run("snapshot", ID, name)
    assert done.returncode == code and said in done.stderr.decode() and world.ledger.templates() == {}


def test_a_snapshot_of_nothing(cli: Cli) -> None:
    done = cli.run("snapshot", "abc", "ready")
    assert done.returncode == 3 and b"'abc' not found" in done.stderr


def test_ls(used: Cli) -> None:
    used.out("snapshot", ID, "ready")
    rows = {row["templateID"]: row for row in json.loads(used.out("template", "ls", "--json"))}
    assert rows["base"]["kind"] == "configured" and rows["ready"]["kind"] == "snapshot"
    head, *lines = used.out("template", "ls").splitlines()
    assert head.split() == ["TEMPLATE", "KIND", "LIMITS", "OF", "IMAGE"]
    assert lines[-1].split()[:3] == ["ready", "snapshot", "base"]


def test_rm_tries_all_and_tells_the_first_failure(used: Cli, world: World) -> None:
    used.out("snapshot", ID, "ready")
    used.out("snapshot", ID, "busy")
    used.out("init", "--template", "busy")
    done = used.run("template", "rm", "busy", "nothing", "base", "ready", "--json")
    assert done.returncode == 1 and json.loads(done.stdout) == {"removed": ["ready"]}
    said = done.stderr.decode()
    assert "'busy' is in use by" in said and "'nothing' not found" in said and "one of the host's settings" in said
    assert list(world.ledger.templates()) == ["busy"]
    assert used.run("template", "rm", "nothing").returncode == 3


def test_build_sends_the_directory_shows_the_lines_and_prints_the_name(
    cli: Cli, world: World, context: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    build = world.engine.build

    def read(archive: Path, *rest: Any) -> object:
        with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as opened:
            sent.extend(sorted(opened.getnames()))
        archive.write_text("a context")  # the double shows it
        return build(archive, *rest)

    monkeypatch.setattr(world.engine, "build", read)
    done = cli.run("template", "build", str(context), "tools")
    assert (done.returncode, done.stdout) == (0, b"tools\n")
    assert sent == [".", "./Dockerfile", "./tool"]
    assert done.stderr.decode().splitlines() == [
        "building from base:1: a context",
        "making a sandbox from it, to see that it works",
    ]
    assert world.ledger.templates()["tools"].base == "base"
    made = json.loads(cli.out("template", "build", str(context), "large-tools", "--base", "large", "--json"))
    assert (made["kind"], made["base"]) == ("built", "large")
    until(lambda: not list(world.config.state_dir.glob("context-*")), "what was sent is deleted")


def test_a_build_that_fails_says_why_and_leaves_nothing(cli: Cli, world: World, context: Path) -> None:
    world.engine.fail["build"] = EngineError("the build of tools failed: its last lines say why.")
    done = cli.run("template", "build", str(context), "tools")
    assert done.returncode == 1 and done.stdout == b""
    assert b"the build of tools failed" in done.stderr and b"building from base:1" in done.stderr
    assert world.ledger.templates() == {} and world.engine.empty()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["tools", "--base", "nothing"], 1, "template 'nothing' not found. This host has: base"),
        (["base"], 1, "there is a template 'base' already"),
        (["Tools"], 1, "name: 'Tools': use lower-case letters"),
    ],
)
def test_what_cannot_be_built(
    cli: Cli, world: World, context: Path, arguments: list[str], code: int, said: str
) -> None:
    done = cli.run("template", "build", str(context), *arguments)
    assert done.returncode == code and said in done.stderr.decode() and b"Traceback" not in done.stderr
    assert world.ledger.templates() == {}
    until(lambda: not list(world.config.state_dir.glob("context-*")), "what was sent is deleted")


def test_a_directory_without_a_dockerfile_is_not_sent(lone: Cli, control: ControlPlane, here: Path) -> None:
    for directory in (here, here / "nowhere"):
        done = lone.run("template", "build", str(directory), "tools")
        assert done.returncode == 1 and b"no Dockerfile in it" in done.stderr
    assert control.requests == []


def test_an_answer_that_ends_early_is_no_success(lone: Cli, control: ControlPlane, context: Path) -> None:
    control.answer("POST /templates/tools/build", 200, {"line": "step 1"})
    done = lone.run("template", "build", str(context), "tools")
    assert done.returncode == 1 and b"ended the build without a result" in done.stderr
