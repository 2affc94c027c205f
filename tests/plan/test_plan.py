"""What `deploy.py` makes of a bare host, as golden files for several settings; and what holds for all plans."""

from __future__ import annotations

import difflib
import re
import shlex
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploys.images import archive
from deploys.sandboxd import PROGRAM
from tests.plan.conftest import MakePlan
from tests.plan.golden import render
from tests.plan.process import planned
from tests.plan.scenarios import CASES, DESTRUCTIONS, FLEET, SECRETS, Case, destruction

# One process makes the plans of all these tests.
pytestmark = pytest.mark.xdist_group("plan")

GOLDEN = Path(__file__).parent / "golden"
EVERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def compare(request: pytest.FixtureRequest, name: str, text: str) -> None:
    """Fail with a diff when the golden file says something else; with --renew, write it."""
    file = GOLDEN / f"{name}.txt"
    if request.config.getoption("--renew", default=False):
        file.write_text(text)
        return
    golden = file.read_text() if file.exists() else ""
    if golden != text:
        before, now = golden.splitlines(), text.splitlines()
        diff = "\n".join(difflib.unified_diff(before, now, f"golden/{file.name}", "now", lineterm="", n=2))
        remedy = "If that is meant: pytest tests/plan --renew, then read `git diff tests/plan/golden`"
        pytest.fail(f"{diff}\n\n{remedy}", pytrace=False)


@EVERY
def test_golden(case: Case, request: pytest.FixtureRequest) -> None:
    plan = planned(case.name)
    assert plan.unregistered == []
    assert plan.status == 0, plan.output
    compare(request, case.name, render(case.title, plan))


def test_golden_commands(request: pytest.FixtureRequest) -> None:
    title = "Debian 13, no setting but the domain: with the commands that do more than place a file"
    compare(request, "default-commands", render(title, planned("default"), commands=True))


def test_every_golden_file_is_of_a_case() -> None:
    assert {file.stem for file in GOLDEN.iterdir()} == {*CASES, *DESTRUCTIONS, *FLEET, "default-commands"}


@pytest.mark.parametrize("name", DESTRUCTIONS)
def test_golden_destruction(name: str, make_plan: MakePlan, request: pytest.FixtureRequest) -> None:
    plan = make_plan(destruction(name, deployed=True))
    assert (plan.status, plan.unregistered) == (0, []), plan.output
    compare(request, name, render(DESTRUCTIONS[name][0], plan, commands=True))


@pytest.mark.parametrize("name", DESTRUCTIONS)
def test_there_is_nothing_to_destroy_on_a_bare_host(name: str, make_plan: MakePlan) -> None:
    plan = make_plan(destruction(name, deployed=False))
    assert (plan.status, plan.unregistered, plan.executed) == (0, [], []), plan.output


def test_destroy_keeps_data_unless_told_otherwise(make_plan: MakePlan) -> None:
    removed = "\n".join(make_plan(destruction("destroy", deployed=True)).executed)
    for kept in (
        "ledger",
        "/secrets",
        "flourisha-sandbox/ca",
        "volume rm",
        "docker rm --force --volumes",
        "/var/lib/docker",
    ):
        assert kept not in removed
    assert not re.search(r"rm -rf (/etc/flourisha-sandbox|/var/lib/flourisha-sandbox)( |$)", removed, re.MULTILINE)


@EVERY
def test_every_step_has_a_name_of_its_own(case: Case) -> None:
    names = Counter(step.name for step in planned(case.name).steps)
    assert [name for name in names if " | " not in name or name.count(" | ") > 1] == []
    # pyinfra names a step that we did not name after its function, as in "files.put" or "Files/Put".
    assert [name for name in names if name.rpartition(" | ")[2][:1].islower() or "/" in name.split()[0]] == []
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("--yes", "-vvv"), id="run"),
        pytest.param(("--dry", "--diff"), id="diff"),
        pytest.param(("--dry", "--debug-operations"), id="operations"),
    ],
)
@pytest.mark.parametrize("name", ["tls-acme", "tls-acme-private", "tls-files"])
def test_no_secret_is_shown_or_run(
    name: str, arguments: tuple[str, ...], make_plan: MakePlan, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Neither in a command, which every user of the host can see in `ps`, nor in what pyinfra prints."""
    scenario = CASES[name].scenario(tmp_path_factory.mktemp("secret"), *arguments)
    # pyinfra shows a file's contents only where its directory exists, so on every run but the first.
    plan = make_plan(replace(scenario, directories=("/etc/traefik/certs", "/etc/traefik/secrets")))
    assert plan.status == 0, plan.output
    assert plan.steps, "an empty plan shows nothing"
    for secret in SECRETS:
        assert [command for command in plan.executed if secret in command] == []
        assert [line for line in plan.output.splitlines() if secret in line] == []


def test_secrets_are_written_to_files_that_only_root_reads() -> None:
    for name, file in (
        ("tls-acme", "CLOUDFLARE_DNS_API_TOKEN"),
        ("tls-acme-private", "RFC2136_TSIG_SECRET"),
        ("tls-acme-private", "RFC2136_TSIG_FILE"),
        ("tls-files", "wildcard.key"),
    ):
        (commands,) = [step.commands for step in planned(name).steps if step.name.endswith(file)]
        assert any(re.search(r"\bchmod 600\b|\bumask 077\b", command) for command in commands), commands


def test_traefik_is_told_where_its_secrets_are() -> None:
    """`docker inspect` shows the options: the names of files, and no value."""
    (commands,) = [step.commands for step in planned("tls-acme-private").steps if step.name == "Traefik | Run Traefik"]
    words = shlex.split(commands[-1])
    given = [words[number + 1] for number, word in enumerate(words) if word == "--env"]
    assert given[1:] == [
        "RFC2136_TSIG_SECRET_FILE=/etc/traefik/secrets/RFC2136_TSIG_SECRET",
        "RFC2136_TSIG_FILE=/etc/traefik/secrets/RFC2136_TSIG_FILE",
    ]


def run_of_traefik(name: str, changes: dict[str, Any], make_plan: MakePlan, folder: Path) -> str:
    case = CASES[name]
    changed = replace(case, settings={**case.settings, **changes})
    plan = make_plan(changed.scenario(folder))
    assert plan.status == 0, plan.output
    (commands,) = [step.commands for step in plan.steps if step.name == "Traefik | Run Traefik"]
    return commands[-1]


@pytest.mark.parametrize(
    "changes",
    [
        {"acme_server": "staging"},
        {"acme_email": "other@example.com"},
        {"acme_resolvers": ["1.1.1.1"]},
        {"extra_ca_certificates": ["office-ca.crt"]},
        {"domain": "other.example.com"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_traefik_reads_at_its_start_starts_it_anew(
    changes: dict[str, Any], make_plan: MakePlan, tmp_path: Path
) -> None:
    before = run_of_traefik("tls-acme", {}, make_plan, tmp_path)
    assert run_of_traefik("tls-acme", {}, make_plan, tmp_path) == before
    assert run_of_traefik("tls-acme", changes, make_plan, tmp_path) != before


def test_a_dry_run_changes_nothing(make_plan: MakePlan, tmp_path_factory: pytest.TempPathFactory) -> None:
    plan = make_plan(CASES["maximal"].scenario(tmp_path_factory.mktemp("dry"), "--dry"))
    assert (plan.status, plan.executed, plan.unregistered) == (0, [], [])
    assert len(plan.steps) > 50


def test_sudo_changes_no_step() -> None:
    assert render("", planned("sudo"), commands=True) == render("", planned("default"), commands=True)


def test_the_prefix_is_a_setting() -> None:
    """`project` reaches every name: with another one, the default prefix is nowhere."""
    steps = planned("maximal").steps
    lines = [line for step in steps for line in (step.name, step.condition, *step.commands)]
    assert any("acme-lab" in line for line in lines)
    assert [line for line in lines if "flourisha" in line] == []


def test_directories_in_a_home_belong_to_its_user() -> None:
    """`mkdir -p` as root would leave `~/.claude` to root, and the user's own programs could not write there."""
    steps = planned("maximal").steps
    commands = [command for step in steps for command in step.commands if "/home/ada/" in command]
    made = {command.split()[-1] for command in commands if command.startswith("mkdir -p ")}
    below = {str(parent) for path in made for parent in [Path(path), *Path(path).parents] if len(parent.parts) > 3}
    owned = {command.split()[-1] for command in commands if re.match("chown ada:(ada|users) ", command)}
    assert "/home/ada/.claude" in below
    assert below - owned == set()


def test_new_code_restarts_sandboxd(tmp_path: Path) -> None:
    """Of the files whose times are compared with the start of the service, one must be new in a new environment."""
    (asked,) = [step.asked for step in planned("default").steps if step.name == "sandboxd | Run sandboxd"]
    (watched,) = [takes["files"] for fact, takes in asked if fact == "deploys.facts.Unit"]
    link = "/opt/flourisha-sandbox/venv/"
    inside = [path.removeprefix(link) for path in watched if path.startswith(link)]
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path], check=True)
    (tmp_path / "code.tar").write_bytes(archive(PROGRAM.files()))
    subprocess.run(["tar", "-xf", "code.tar"], cwd=tmp_path, check=True)
    hour_ago = time.time() - 3600
    assert [path for path in inside if (tmp_path / path).stat().st_mtime > hour_ago] != [], inside
