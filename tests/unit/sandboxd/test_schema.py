"""The ledger's file as it is found: older, newer, or none of ours."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sandboxd import ledgercopy
from sandboxd.config import Template
from sandboxd.errors import LedgerError
from sandboxd.ledger import Ledger
from sandboxd.records import Claim
from sandboxd.schema import MIGRATIONS

BASE = Template("base", "base:1", 2048, 2.0, 1024, 10240, 10240)


def test_migrations_go_forward_once_and_keep_what_is_there(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = directory / "l.sqlite"
    old = Ledger(file)
    old.create("1", "pool", BASE, "sha256:1", 1.0, 10240)
    old.close()
    newer = (*MIGRATIONS, "ALTER TABLE sandboxes ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'")
    monkeypatch.setattr("sandboxd.schema.MIGRATIONS", newer)
    for _ in range(2):
        migrated = Ledger(file)
        assert [row.slot for row in migrated.rows("creating")] == ["1"]
        migrated.close()
    with sqlite3.connect(file) as db:
        assert db.execute("SELECT colour FROM sandboxes").fetchall() == [("blue",)]
        assert db.execute("PRAGMA user_version").fetchone() == (len(newer),)
    db.close()


def test_a_newer_ledger_is_refused(directory: Path) -> None:
    file = directory / "l.sqlite"
    with sqlite3.connect(file) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    with pytest.raises(LedgerError, match=r"written by a newer release .* Deploy the newer release"):
        Ledger(file)


def test_a_file_that_is_no_ledger_is_refused_with_its_name(directory: Path) -> None:
    file = directory / "l.sqlite"
    file.write_text("no database " * 100)
    with pytest.raises(LedgerError, match=rf"{file}: file is not a database"):
        Ledger(file)
    with pytest.raises(LedgerError, match="unable to open"):
        Ledger(directory / "none" / "l.sqlite")


OLD = """
    INSERT INTO sandboxes (slot, id, state, origin, template, image_id, memory_mb, cpus, container, address, booted,
        name, keep, metadata, envs, created_at, claimed_at, ends_at, closed_at, reason) VALUES
    ('a', NULL, 'creating', 'cold', 'base', 'sha256:1', 2048, 2.0, NULL, NULL, NULL, '', 0, '{}', '{}', 1, NULL, NULL,
        NULL, ''),
    ('b', 'idb', 'warm', 'pool', 'base', 'sha256:1', 2048, 2.0, 'pool-b', '10.0.0.2', 'boot', '', 0, '{}', '{}', 2,
        NULL, NULL, NULL, ''),
    ('c', 'idc', 'running', 'pool', 'base', 'sha256:1', 2048, 2.0, 'qa-c', '10.0.0.3', 'boot', 'demo', 1,
        '{"k": "v"}', '{"A": "1"}', 3, 10, NULL, NULL, ''),
    ('d', 'idd', 'running', 'cold', 'large', 'sha256:2', 8192, 0.5, 'qa-d', '10.0.0.4', 'boot', '', 0, '{}', '{}', 4,
        20, 80, NULL, ''),
    ('e', 'ide', 'removing', 'cold', 'base', 'sha256:1', 2048, 2.0, 'qa-e', '10.0.0.5', 'boot', '', 0, '{}', '{}', 5,
        30, 90, NULL, 'why'),
    ('f', 'idf', 'closed', 'cold', 'base', 'sha256:1', 2048, 2.0, NULL, '10.0.0.6', 'boot', '', 0, '{}', '{}', 6, 40,
        100, 70, 'timeout reached');
    INSERT INTO settings VALUES ('pool_enabled', 'yes'), ('may_sweep', 'yes');
    INSERT INTO counters VALUES ('hits', 7), ('misses', 2);
"""


@pytest.fixture
def first_release(directory: Path) -> Path:
    """A ledger of the first schema, with a row in each of its states."""
    file = directory / "l.sqlite"
    with sqlite3.connect(file) as db:
        db.executescript(f"{MIGRATIONS[0]}; {OLD}; PRAGMA user_version = 1;")
    db.close()
    return file


def test_a_ledger_of_the_first_schema_keeps_everything(first_release: Path) -> None:
    for _ in range(2):
        ledger = Ledger(first_release)
        rows = {row.slot: row for row in (*ledger.rows(), *ledger.rows("gone"))}
        assert {slot: row.state for slot, row in rows.items()} == {
            "a": "creating",
            "b": "warm",
            "c": "running",
            "d": "running",
            "e": "removing",
            "f": "gone",
        }
        assert {(row.disk_mb, row.volume) for row in rows.values()} == {(0, "")}, "their /code is a Docker volume"
        assert {slot: row.timeout_s for slot, row in rows.items()} == {
            **dict.fromkeys("abc"),
            **dict.fromkeys("def", 60.0),
        }
        kept = rows["c"]
        assert (kept.id, kept.name, kept.keep, kept.metadata, kept.envs) == (
            "idc",
            "demo",
            True,
            {"k": "v"},
            {"A": "1"},
        )
        assert (kept.container, kept.address, kept.booted, kept.origin) == ("qa-c", "10.0.0.3", "boot", "pool")
        other = rows["d"]
        assert (other.template, other.memory_mb, other.cpus, other.image_id) == ("large", 8192, 0.5, "sha256:2")
        assert (other.created_at, other.claimed_at, other.ends_at) == (4, 20, 80)
        assert (rows["f"].gone_at, rows["f"].reason, rows["e"].reason) == (70, "timeout reached", "why")
        assert (ledger.setting("pool_enabled"), ledger.setting("may_sweep")) == ("yes", "yes")
        assert (ledger.counter("hits:base"), ledger.counter("misses:base")) == (7, 2)
        assert ledger.volumes() == [] and ledger.next_end() == 80
        ledger.close()


def test_what_was_migrated_can_be_used(first_release: Path) -> None:
    ledger = Ledger(first_release)
    assert ledger.set_paused("c").state == "paused" and ledger.set_stopped("d", "test").state == "stopped"
    assert ledger.set_resumed("d", 5.0, 100.0).ends_at == 105
    ledger.set_gone("e", 200)
    ledger.create("g", "cold", BASE, "sha256:1", 1.0, 1024, Claim(volume="data"))
    assert [volume.name for volume in ledger.volumes()] == ["data"]
    ledger.close()


def test_a_migration_that_breaks_off_leaves_the_old_ledger(
    first_release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = (MIGRATIONS[0], f"{MIGRATIONS[1]}; INSERT INTO nothing VALUES (1)")
    with monkeypatch.context() as patch:
        patch.setattr("sandboxd.schema.MIGRATIONS", broken)
        with pytest.raises(LedgerError, match="nothing"):
            Ledger(first_release)
    with sqlite3.connect(first_release) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert db.execute("SELECT count(*) FROM sandboxes WHERE state = 'closed'").fetchone() == (1,)
    db.close()
    ledger = Ledger(first_release)
    assert len(ledger.rows()) == 5
    ledger.close()


def test_what_was_private_wants_a_token(directory: Path) -> None:
    file = directory / "l.sqlite"
    before = MIGRATIONS[: next(number for number, text in enumerate(MIGRATIONS) if "access_round" in text)]
    with sqlite3.connect(file) as db:
        db.executescript(f"{'; '.join(before)}; PRAGMA user_version = {len(before)};")
        db.execute(
            "INSERT INTO sandboxes (slot, id, state, origin, template, image_id, memory_mb, cpus, created_at, private)"
            " VALUES ('a', 'ida', 'paused', 'cold', 'base', 'i', 1, 1, 1, 1),"
            " ('b', 'idb', 'paused', 'cold', 'base', 'i', 1, 1, 1, 0)"
        )
    db.close()
    ledger = Ledger(file)
    assert {row.slot: (row.access, row.access_round, row.idle_pause_s) for row in ledger.rows()} == {
        "a": ("token", 0, None),
        "b": ("public", 0, None),
    }
    ledger.close()


# What a release could have written beside sandboxes once it had the schema of that number.
WRITTEN = {
    2: "INSERT INTO volumes (name, size_mb, created_at) VALUES ('data', 2048, 7)",
    3: "INSERT INTO templates (name, image, base, disk_mb, created_at) VALUES ('mine', 'i:1', 'base', 64, 8)",
    4: "INSERT INTO keys (id, name, digest, max_sandboxes, created_at) VALUES ('k1', 'ci', 'digest', 3, 9);"
    " UPDATE sandboxes SET owner = 'ci', on_timeout = 'pause' WHERE slot = 'd'",
    5: "UPDATE templates SET memory_mb = 512, cpus = 0.5",
    6: "UPDATE sandboxes SET auto_resume = 1, shown_host = 'localhost' WHERE slot = 'd'",
    7: """UPDATE sandboxes SET policy = '{"allow": [], "deny": ["0.0.0.0/0"]}' WHERE slot = 'd'""",
    8: "INSERT INTO tags (template, tag, image, base, created_at, memory_mb, cpus) VALUES"
    " ('mine', 'v1', 'i:2', 'base', 9, 0, 0); INSERT INTO unused (image) VALUES ('i:0')",
    9: "UPDATE sandboxes SET access = 'token', idle_pause_s = 60 WHERE slot = 'd'",
    10: "UPDATE keys SET host = 1",
}


def test_this_knows_what_each_schema_brought() -> None:
    assert set(WRITTEN) | {1} >= set(range(1, len(MIGRATIONS))), "a migration has come: what could be written before?"


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
def test_a_ledger_of_every_older_schema_keeps_what_is_in_it(directory: Path, version: int) -> None:
    file = directory / "ledger.sqlite"
    with sqlite3.connect(file) as db:
        db.executescript(f"{MIGRATIONS[0]}; {OLD}")
        for number in range(2, version + 1):
            db.executescript(f"{MIGRATIONS[number - 1]}; {WRITTEN.get(number, '')}")
        db.execute(f"PRAGMA user_version = {version}")
    db.close()
    ledger = Ledger(file)
    rows = {row.slot: row for row in (*ledger.rows(), *ledger.rows("gone"))}
    assert {slot: row.state for slot, row in rows.items()} == {
        "a": "creating",
        "b": "warm",
        "c": "running",
        "d": "running",
        "e": "removing",
        "f": "gone",
    }
    assert (rows["c"].name, rows["c"].envs, rows["c"].keep, rows["c"].owner) == ("demo", {"A": "1"}, True, "")
    assert rows["d"].owner == ("ci" if version >= 4 else "") and rows["d"].auto_resume is (version >= 6)
    assert rows["d"].policy.closed is (version >= 7) and not rows["c"].policy.restricts
    assert rows["d"].access == ("token" if version >= 9 else "public")
    assert [volume.name for volume in ledger.volumes()] == ["data"] * (version >= 2)
    assert [(one.name, one.memory_mb) for one in ledger.templates().values()] == (
        [("mine", 512 if version >= 5 else 0)] if version >= 3 else []
    )
    assert [(key.name, key.max_sandboxes, key.host) for key in ledger.keys("digest")] == (
        [("ci", 3, version >= 10)] if version >= 4 else []
    )
    assert list(ledger.tagged()) == ["mine:v1"] * (version >= 8)
    assert (ledger.setting("may_sweep"), ledger.counter("hits:base")) == ("yes", 7)
    ledger.close()


def test_the_ledger_of_before_a_migration_is_kept(first_release: Path) -> None:
    older = ledgercopy.of_schema(first_release, 0)
    older.touch()
    Ledger(first_release).close()
    kept = ledgercopy.of_schema(first_release, 1)
    assert [path.name for path in first_release.parent.glob("l-schema-*")] == [kept.name]
    with closing(sqlite3.connect(kept)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert db.execute("SELECT count(*) FROM sandboxes WHERE state = 'closed'").fetchone() == (1,)
    Ledger(first_release).close()
    assert kept.exists(), "it stays until the next migration"


def test_without_a_copy_nothing_is_migrated(first_release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sandboxd.ledgercopy.of_schema", lambda ledger, version: ledger.parent / "none" / "copy")
    with pytest.raises(LedgerError, match="cannot be copied"):
        Ledger(first_release)
    with closing(sqlite3.connect(first_release)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
