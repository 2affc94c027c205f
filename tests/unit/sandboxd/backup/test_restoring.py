"""What a restore refuses, and what it moves; whole restores are in cli/test_backup."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sandboxd import ledgercopy
from sandboxd.backup import restoring
from sandboxd.backup.reading import Content
from sandboxd.backup.services import Running
from sandboxd.errors import HostError
from sandboxd.ledger import Ledger
from tests.unit.sandboxd.backup.host import Host, disk
from tests.unit.sandboxd.backup.test_reading import HEADER


@pytest.mark.parametrize("left_out", [[], ["volumes"], ["volumes", "templates"]])
def test_what_the_backup_left_out_stays_here(host: Host, left_out: list[str]) -> None:
    """And what is in it takes the place of all that is here of that kind."""
    host.fill()
    disk(host.state / "volumes/other.img", b"other")
    with restoring.working(host.places) as work:
        Ledger(work / "ledger.sqlite").close()
        if not left_out:
            disk(work / "volumes/data.img", b"new")
        aside = restoring.put(host.places, work, Content({**HEADER, "without": left_out}))
    assert aside is not None
    volumes = [path.name for path in host.places.files("volumes")]
    snapshots = [path.name for path in host.places.files("snapshots")]
    if left_out:
        assert volumes == ["data.img", "half.new", "other.img"] and not (aside / "volumes").exists()
    else:
        assert volumes == ["data.img"]
        assert (host.state / "volumes/data.img").read_bytes().startswith(b"new")
        assert sorted(path.name for path in (aside / "volumes").iterdir()) == ["data.img", "half.new", "other.img"]
    assert snapshots == (["mine.img"] if "templates" in left_out else [])
    ledger = host.ledger()
    assert [volume.name for volume in ledger.volumes()] == (["data"] if left_out else [])
    assert list(ledger.templates()) == (["mine"] if "templates" in left_out else [])
    assert ledger.rows() == [] and ledger.keys() == [], "what the backup has is the backup's"
    ledger.close()


def test_what_an_earlier_one_has_put_aside_stays(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandboxd.backup.restoring.time.strftime", lambda *_: "before-restore-now")
    aside = []
    for _ in range(3):
        with restoring.working(host.places) as work:
            Ledger(work / "ledger.sqlite").close()
            aside.append(restoring.put(host.places, work, Content(HEADER)))
    assert [path.name for path in aside if path] == [f"before-restore-now{end}" for end in ("", "-2", "-3")]


def test_while_there_is_no_ledger_there_is_its_copy(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts the daemon after an interruption finds the host as it was, or as it shall be."""
    ledger = host.places.config.ledger
    with closing(sqlite3.connect(ledger)) as db:
        ledgercopy.write(db, ledgercopy.following(ledger))
    moved = os.replace

    def replace(source: Path, target: Path) -> None:
        if not ledger.exists():
            assert ledgercopy.following(ledger).exists()
        moved(source, target)

    with restoring.working(host.places) as work:
        Ledger(work / "ledger.sqlite").close()
        monkeypatch.setattr(os, "replace", replace)
        restoring.put(host.places, work, Content(HEADER))
    assert not ledgercopy.following(ledger).exists()


def test_a_second_try_knows_what_ran_before_the_first(host: Host) -> None:
    assert not restoring.marked(host.places)
    assert restoring.mark(host.places, Running(pool=True, console=True)) == Running(pool=True, console=True)
    assert restoring.marked(host.places)
    assert restoring.mark(host.places, Running(pool=False, console=False)) == Running(pool=True, console=True)
    restoring.done(host.places)
    assert not restoring.marked(host.places)


def test_a_ledger_that_is_none_is_refused(host: Host) -> None:
    with restoring.working(host.places) as work:
        (work / "ledger.sqlite").write_bytes(b"no database " * 500)
        with pytest.raises(HostError, match="the ledger in the backup cannot be used: file is not a database"):
            restoring._adapt(work / "ledger.sqlite", 1)


def test_a_ledger_of_another_schema_than_it_says_is_refused(host: Host) -> None:
    with restoring.working(host.places) as work:
        with closing(sqlite3.connect(work / "ledger.sqlite")) as db:
            db.execute("PRAGMA user_version = 999")
        with pytest.raises(HostError, match="ok, schema 999, not 3"):
            restoring._adapt(work / "ledger.sqlite", 3)
