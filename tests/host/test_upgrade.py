"""From an older revision to this one: what runs goes on; and a new one that does not become healthy gives way.

On a lab of its own. The older revision comes from this clone's history: a deploy of it is what people have.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploys import ROOT
from tests.host.conftest import lab_target, remove
from tests.host.machine import Machine, Sandbox, eventually, read_report

pytestmark = pytest.mark.disruptive

OLDER = "3d968f85bf3765757b0bcc62ebc5f3c07c7d4833"  # before there was a way back, and a copy of the ledger
SCHEMA = ("src/sandboxd/schema.py", "\n)\n\n\ndef migrate", '\n    "CREATE TABLE newer (n)",\n)\n\n\ndef migrate')
SETTINGS = {"templates": json.dumps({"base": {"context": "sandbox"}}), "pool_size": "2"}


def unpacked(revision: str, folder: Path) -> Path:
    """The tree of a revision, or the working copy as it is for an empty one."""
    if revision:
        archive = subprocess.run(["git", "-C", str(ROOT), "archive", revision], capture_output=True, check=False)
        if archive.returncode:
            pytest.fail(
                f"this clone has no commit {revision}: is it a shallow one? git fetch --unshallow\n"
                f"{archive.stderr.decode(errors='replace')}"
            )
        content = archive.stdout
    else:
        listed = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = [name for name in subprocess.run(listed, capture_output=True, check=True).stdout.split(b"\0") if name]
        present = [name for name in names if name != b".venv" and (ROOT / name.decode()).exists()]  # it may be a link
        packed = ["tar", "-C", str(ROOT), "--null", "--files-from=-", "-c"]
        content = subprocess.run(packed, input=b"\0".join(present), capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(content)) as opened:
        opened.extractall(folder, filter="data")
    return folder


def changed_in(tree: Path, *changes: tuple[str, str, str]) -> None:
    """Each a file, what is in it, and what takes its place."""
    for path, old, new in changes:
        text = (tree / path).read_text()
        assert old in text, path
        (tree / path).write_text(text.replace(old, new, 1))


def deploy(machine: Machine, tree: Path) -> subprocess.CompletedProcess[str]:
    """What `make deploy HOST=...` in that tree does."""
    wanted = machine.settings
    settings = {
        **machine.target.settings,
        "extra_ca_certificates": ",".join(wanted.extra_ca_certificates),
        "sysctls": json.dumps(wanted.sysctls),
        "ssh_known_hosts_file": machine.target.known_hosts,
    }
    environment = machine.environment() | {
        "HOST": f"root@{machine.target.address}",
        "SSH_KEY": machine.target.key,
        "DOMAIN": wanted.domain,
        "SET": " ".join(shlex.quote(f"{key}={value}") for key, value in settings.items()),
        "PYINFRA_PROGRESS": "off",
    }
    command = [sys.executable, "-m", "pyinfra", "inventory.py", "deploy.py", "--yes", "--json", "--fail-percent", "0"]
    return subprocess.run(
        command, cwd=tree, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def good(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The names of what a deploy that must succeed has changed."""
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return read_report(done.stdout, 0).changed


@pytest.fixture(scope="module")
def older(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A host of the older revision, on Debian 13 unless --suite says otherwise."""
    tree = unpacked(OLDER, tmp_path_factory.mktemp("older"))
    suite = request.config.getoption("--suite") or "trixie"
    name = f"test-upgrade-{suite}"
    remove(name)
    with Machine(*lab_target(name, suite, SETTINGS)) as made:
        good(deploy(made, tree))
        yield made
    remove(name)


@pytest.fixture(scope="module")
def served(older: Machine) -> Sandbox:
    """A sandbox of the older revision, with a named volume and a server."""
    sandbox = Sandbox(older, older.out("docker-sandbox init --keep --name survivor --volume data --env STAGE=old"))
    sandbox.run("echo from-the-older >/code/index.html")
    sandbox.serve("python3 -m http.server 8000")
    older.out("docker-sandbox key create upgrade")
    return sandbox


def page(sandbox: Sandbox) -> str:
    return sandbox.machine.request("GET", sandbox.url()).text.strip()


def running(machine: Machine) -> str:
    return machine.out(f"readlink {machine.settings.opt}/venv")


def noted(machine: Machine) -> str:
    """What a failed upgrade would go back to."""
    return machine.out(f"cat {machine.settings.opt}/good/venv")


def schema(machine: Machine) -> int:
    query = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('PRAGMA user_version').fetchone()[0])"
    return int(machine.out(f"python3 -c {shlex.quote(query)} {machine.settings.state}/ledger.sqlite"))


def images_of_members(machine: Machine) -> set[str]:
    return {
        machine.out(f"docker inspect --format '{{{{index .Config.Labels \"sandbox.image\"}}}}' {member}")
        for member in machine.members()
    }


def test_what_runs_goes_on_through_an_upgrade(older: Machine, served: Sandbox) -> None:
    assert page(served) == "from-the-older"
    before, started = running(older), served.inspect()["State"]["StartedAt"]
    changed = good(deploy(older, ROOT))
    assert "sandboxd | Run sandboxd" in changed and "sandboxd | Note what runs now" in changed
    assert running(older) != before and older.run(f"test -d {before}").returncode == 0
    assert noted(older) == running(older), "what has come to serve is what the next upgrade goes back to"
    assert served.inspect()["State"]["StartedAt"] == started
    assert page(served) == "from-the-older"
    assert served.out("echo $STAGE; cat /code/index.html") == "old\nfrom-the-older"
    assert "upgrade" in older.out("docker-sandbox key ls")
    older.wait_for_full_pool()
    (wanted,) = json.loads(older.out("docker-sandbox template ls --json"))
    assert images_of_members(older) == {wanted["image"]}, "the pool was drained and filled anew"
    with older.sandbox() as made:
        assert made.out("echo made") == "made"
    assert good(deploy(older, ROOT)) == []


def test_one_that_does_not_become_healthy_gives_way(older: Machine, served: Sandbox, tmp_path: Path) -> None:
    """It reads a configuration that the one before does not, has changed the ledger, and then it ends."""
    before, version = running(older), schema(older)
    tree = unpacked("", tmp_path)
    changed_in(
        tree,
        SCHEMA,
        ("src/sandboxd/config.py", 'top.pass_over("browser")', 'top.pass_over("browser"), top.pass_over("colour")'),
        ("templates/etc/project-sandbox/config.toml.j2", "\n[gateway]", '\ncolour = "blue"\n\n[gateway]'),
        ("src/sandboxd/__main__.py", "    parts.reconciler.start()", '    sys.exit("sabotaged: no way to serve")'),
    )
    done = deploy(older, tree)
    shown = done.stdout + done.stderr
    assert done.returncode != 0
    assert "sabotaged: no way to serve" in shown and "The one before is back" in shown, shown[-3000:]
    assert running(older) == noted(older) == before and schema(older) == version
    assert older.run(f"grep colour {older.settings.etc}/config.toml", check=False).returncode == 1
    assert page(served) == "from-the-older"
    assert served.out("cat /code/index.html") == "from-the-older"
    assert [row["sandboxID"] for row in older.listed()] == [served.id]
    with older.sandbox() as made:
        assert made.out("echo made") == "made"
    changed = good(deploy(older, ROOT))
    assert "sandboxd | Install sandboxd" not in changed, "the one that runs is the one that is wanted"
    assert page(served) == "from-the-older"
    assert good(deploy(older, ROOT)) == []


def test_the_way_back_that_is_described_is_one(older: Machine, served: Sandbox, tmp_path: Path) -> None:
    """From a newer release that serves, and has changed the ledger."""
    version, tree = schema(older), unpacked("", tmp_path)
    changed_in(tree, SCHEMA)
    good(deploy(older, tree))
    assert schema(older) == version + 1
    late = Sandbox(older, older.out("docker-sandbox init --cold"))
    late.run("echo late >/code/file")
    done = deploy(older, ROOT)
    assert done.returncode != 0 and "written by a newer release" in done.stdout + done.stderr
    assert schema(older) == version + 1 and page(served) == "from-the-older", "the newer one serves on"
    (commands,) = re.findall(r"```sh\n(systemctl stop .*?)```", (ROOT / "docs/upgrade.md").read_text(), re.DOTALL)
    older.run(commands.replace("ledger-schema-10.", f"ledger-schema-{version}."))
    good(deploy(older, ROOT))
    assert schema(older) == version
    assert page(served) == "from-the-older"
    assert {row["sandboxID"] for row in older.listed()} == {served.id, late.id}
    assert late.out("cat /code/file") == "late"
    older.run(f"docker-sandbox kill {late.id}")
    assert good(deploy(older, ROOT)) == []


def test_what_a_kill_leaves_is_nothing(older: Machine, served: Sandbox) -> None:
    older.run(f"docker-sandbox kill {served.id}")
    older.wait_for_full_pool()
    eventually(older.listed, lambda rows: rows == [], 30, "end of the sandbox")
    with older.sandbox("--volume data") as again:
        assert again.out("cat /code/index.html") == "from-the-older"
