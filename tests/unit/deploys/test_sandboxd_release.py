"""The switch from one release of sandboxd to the next, by the script as a deploy renders it, and the way back.

systemd is played by a program that takes a release for bad by its name, as the daemon would end: after its migration.
"""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.plan.process import rendered

# One process makes the plans of all these tests.
pytestmark = pytest.mark.xdist_group("plan")

TEMPLATE = "usr/local/lib/project-sandbox/sandboxd-release"
SYSTEMCTL = """#!/bin/sh
echo "$*" >>{folder}/calls
release=$(readlink {folder}/venv)
case "$1" in
    restart)
        case "$release" in *migrates*) python3 -c '
import shutil, sqlite3
shutil.copy("{folder}/ledger.sqlite", "{folder}/ledger-schema-3.sqlite")
db = sqlite3.connect("{folder}/ledger.sqlite")
db.execute("PRAGMA user_version = 4"); db.execute("INSERT INTO rows VALUES (2)"); db.commit()' ;; esac
        case "$release" in *bad*) exit 1 ;; esac
        case "$release" in *mute*) rm -f {folder}/answers ;; *) touch {folder}/answers ;; esac ;;
    is-active) case "$release" in *mute*) exit 3 ;; esac ;;
esac
"""


class Host:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        text = rendered(TEMPLATE, "default")
        assert text is not None
        places = {"unit_file": "unit", "config": "config.toml", "link": "venv", "good": "good", "ledger": "ledger"}
        for name, file in places.items():
            text = re.sub(rf"^{name}=.*", f'{name}="{folder}/{file}"', text, flags=re.MULTILINE)
        self.script = folder / "sandboxd-release"
        self.script.write_text(text)
        programs = folder / "bin"
        programs.mkdir()
        for name, content in {
            "systemctl": SYSTEMCTL.replace("{folder}", str(folder)),
            "journalctl": "#!/bin/sh\necho 'sandboxd: no such key'\n",
            "curl": f"#!/bin/sh\n[ -e {folder}/answers ]\n",
        }.items():
            (programs / name).write_text(content)
            (programs / name).chmod(0o755)
        with closing(sqlite3.connect(folder / "ledger.sqlite")) as db:
            db.executescript("CREATE TABLE rows (n); INSERT INTO rows VALUES (1); PRAGMA user_version = 3")
        self.place("one")

    def place(self, release: str) -> None:
        """What a deploy has written before it starts the daemon anew."""
        made = self.folder / "venvs" / release
        made.mkdir(parents=True, exist_ok=True)
        (self.folder / "venv").unlink(missing_ok=True)
        (self.folder / "venv").symlink_to(made)
        for name in ("config.toml", "unit"):
            (self.folder / name).write_text(f"{name} of {release}")

    def run(self, verb: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}
        command = ["sh", str(self.script), verb]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    def state(self) -> tuple[str, str, str]:
        texts = [(self.folder / name).read_text().split(" of ")[1] for name in ("config.toml", "unit")]
        return os.path.basename(os.readlink(self.folder / "venv")), *texts  # type: ignore[return-value]

    def rows(self) -> tuple[int, int]:
        with closing(sqlite3.connect(self.folder / "ledger.sqlite")) as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            return version, db.execute("SELECT count(*) FROM rows").fetchone()[0]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_release_that_answers_stays(host: Host) -> None:
    assert host.run("activate").returncode == 0
    assert host.run("keep").returncode == 0
    host.place("two-migrates")
    assert host.run("activate").returncode == 0
    assert host.state() == ("two-migrates",) * 3 and host.rows() == (4, 2)


@pytest.mark.parametrize("release", ["two-bad", "two-bad-migrates", "two-mute", "two-mute-migrates"])
def test_one_that_does_not_gives_way_to_the_one_before(host: Host, release: str) -> None:
    assert host.run("keep").returncode == 0
    host.place(release)
    done = host.run("activate")
    assert done.returncode == 1
    assert "sandboxd: no such key" in done.stderr and "The one before is back" in done.stderr
    assert host.state() == ("one",) * 3 and host.rows() == (3, 1)
    assert (host.folder / "ledger-of-failed-upgrade.sqlite").exists() == ("migrates" in release)
    calls = (host.folder / "calls").read_text().splitlines()
    assert [call.split()[0] for call in calls if "restart" in call or "reload" in call] == [
        "restart",
        "daemon-reload",
        "restart",
    ]
    host.place("three-migrates")
    assert host.run("activate").returncode == 0 and host.state() == ("three-migrates",) * 3


def test_without_one_before_it_says_so(host: Host) -> None:
    host.place("one-bad")
    done = host.run("activate")
    assert done.returncode == 1 and "no release before it" in done.stderr and host.state() == ("one-bad",) * 3


def test_what_ran_before_and_does_not_any_more_is_not_gone_back_to(host: Host) -> None:
    """Then it is not the release: Docker's socket, a full disk."""
    host.place("one-bad")
    host.run("keep")
    done = host.run("activate")
    assert done.returncode == 1 and "no release before it" in done.stderr
    assert (host.folder / "calls").read_text().count("restart") == 1


def test_what_is_noted_is_closed_to_others(host: Host) -> None:
    host.run("keep")
    good = host.folder / "good"
    assert good.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in good.iterdir()) == ["config.toml", "schema", "unit", "venv"]
    assert (good / "schema").read_text() == "3\n"


def test_another_word_is_refused(host: Host) -> None:
    assert host.run("keeps").returncode == 2
