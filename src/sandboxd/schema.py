"""The tables of the ledger, and how an older release's become this one's. Runs once, when the file is opened."""

import sqlite3
from pathlib import Path

from sandboxd import ledgercopy
from sandboxd.errors import LedgerError

# Forward only: a release appends, and never changes what stands here. user_version counts the entries applied.
MIGRATIONS = (
    """
    CREATE TABLE sandboxes (
        slot TEXT PRIMARY KEY,
        id TEXT UNIQUE,
        state TEXT NOT NULL CHECK (state IN ('creating', 'warm', 'running', 'removing', 'closed')),
        origin TEXT NOT NULL CHECK (origin IN ('pool', 'cold')),
        template TEXT NOT NULL,
        image_id TEXT NOT NULL,
        memory_mb INTEGER NOT NULL,
        cpus REAL NOT NULL,
        container TEXT UNIQUE,
        address TEXT,
        booted TEXT,
        name TEXT NOT NULL DEFAULT '',
        keep INTEGER NOT NULL DEFAULT 0,
        metadata TEXT NOT NULL DEFAULT '{}',
        envs TEXT NOT NULL DEFAULT '{}',
        created_at REAL NOT NULL,
        claimed_at REAL,
        ends_at REAL,
        closed_at REAL,
        reason TEXT NOT NULL DEFAULT ''
    );
    CREATE INDEX sandboxes_by_state ON sandboxes (state, template, created_at);
    CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL);
    CREATE TABLE counters (key TEXT PRIMARY KEY, value INTEGER NOT NULL);
    """,
    # Paused and stopped sandboxes, disks, volumes; counters for each pool. A CHECK cannot be altered, so the table is
    # made anew. `disk_mb` 0 is a sandbox of an older release, whose /code is a Docker volume.
    """
    ALTER TABLE sandboxes RENAME TO old;
    CREATE TABLE sandboxes (
        slot TEXT PRIMARY KEY,
        id TEXT UNIQUE,
        state TEXT NOT NULL
            CHECK (state IN ('creating', 'warm', 'running', 'paused', 'stopped', 'removing', 'gone')),
        origin TEXT NOT NULL CHECK (origin IN ('pool', 'cold')),
        template TEXT NOT NULL,
        image_id TEXT NOT NULL,
        memory_mb INTEGER NOT NULL,
        cpus REAL NOT NULL,
        disk_mb INTEGER NOT NULL DEFAULT 0,
        volume TEXT NOT NULL DEFAULT '',
        container TEXT UNIQUE,
        address TEXT,
        booted TEXT,
        name TEXT NOT NULL DEFAULT '',
        keep INTEGER NOT NULL DEFAULT 0,
        metadata TEXT NOT NULL DEFAULT '{}',
        envs TEXT NOT NULL DEFAULT '{}',
        timeout_s REAL,
        created_at REAL NOT NULL,
        claimed_at REAL,
        ends_at REAL,
        gone_at REAL,
        reason TEXT NOT NULL DEFAULT ''
    );
    INSERT INTO sandboxes
            (slot, id, state, origin, template, image_id, memory_mb, cpus, container, address, booted,
            name, keep, metadata, envs, timeout_s, created_at, claimed_at, ends_at, gone_at, reason)
        SELECT slot, id, iif(state = 'closed', 'gone', state), origin, template, image_id, memory_mb, cpus, container,
            address, booted,
            name, keep, metadata, envs, ends_at - claimed_at, created_at, claimed_at, ends_at, closed_at, reason
        FROM old;
    DROP TABLE old;
    CREATE INDEX sandboxes_by_state ON sandboxes (state, template, created_at);
    CREATE TABLE volumes (name TEXT PRIMARY KEY, size_mb INTEGER NOT NULL, created_at REAL NOT NULL);
    UPDATE counters SET key = key || ':base';
    """,
    # Templates that were made on this host, beside those of the configuration. `base` names one of those.
    """
    CREATE TABLE templates (
        name TEXT PRIMARY KEY,
        image TEXT NOT NULL,
        base TEXT NOT NULL,
        disk_mb INTEGER NOT NULL DEFAULT 0,
        created_at REAL NOT NULL
    );
    """,
    # Keys of the API, and what a sandbox knows of the one that asked for it. `owner` is a key's name; '' is whoever
    # came by the Unix socket. `request` names a create that must not be done twice: its Idempotency-Key and a digest.
    """
    CREATE TABLE keys (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        digest TEXT NOT NULL UNIQUE,
        max_sandboxes INTEGER NOT NULL DEFAULT 0,
        created_at REAL NOT NULL
    );
    ALTER TABLE sandboxes ADD COLUMN owner TEXT NOT NULL DEFAULT '';
    ALTER TABLE sandboxes ADD COLUMN on_timeout TEXT NOT NULL DEFAULT 'kill' CHECK (on_timeout IN ('kill', 'pause'));
    ALTER TABLE sandboxes ADD COLUMN request TEXT NOT NULL DEFAULT '';
    """,
    # Templates that were built with limits of their own.
    """
    ALTER TABLE templates ADD COLUMN memory_mb INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE templates ADD COLUMN cpus REAL NOT NULL DEFAULT 0;
    """,
    # What the gateway does with requests: resumes the sandbox, asks for its token, shows its servers another host name.
    # `pause_memory` 0: a pause at the end of its time keeps the files only.
    """
    ALTER TABLE sandboxes ADD COLUMN pause_memory INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE sandboxes ADD COLUMN auto_resume INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE sandboxes ADD COLUMN private INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE sandboxes ADD COLUMN shown_host TEXT NOT NULL DEFAULT '';
    """,
    # Where each sandbox may connect to: the JSON of `policy`.
    """
    ALTER TABLE sandboxes ADD COLUMN policy TEXT NOT NULL DEFAULT '{}';
    """,
    # Volumes that keys of the API own, by a title of their own, and where sandboxes have them mounted. Builds that tags
    # name; the build `default` is the row in `templates`. Images, and disks, that nothing names and that are to go.
    """
    ALTER TABLE volumes ADD COLUMN owner TEXT NOT NULL DEFAULT '';
    ALTER TABLE volumes ADD COLUMN title TEXT NOT NULL DEFAULT '';
    CREATE UNIQUE INDEX volumes_by_title ON volumes (owner, title) WHERE owner != '';
    ALTER TABLE sandboxes ADD COLUMN mounts TEXT NOT NULL DEFAULT '[]';
    CREATE TABLE tags (
        template TEXT NOT NULL,
        tag TEXT NOT NULL,
        image TEXT NOT NULL,
        base TEXT NOT NULL,
        created_at REAL NOT NULL,
        memory_mb INTEGER NOT NULL,
        cpus REAL NOT NULL,
        PRIMARY KEY (template, tag)
    );
    CREATE TABLE unused (image TEXT PRIMARY KEY, disk TEXT NOT NULL DEFAULT '');
    """,
    # Who may open a sandbox's ports: `access` takes the place of `private`. What was given out for one `access_round`
    # opens nothing in the next. Pauses for want of traffic: after how long, since when there was none, and the counter
    # of packets by which that is seen.
    """
    ALTER TABLE sandboxes ADD COLUMN access TEXT NOT NULL DEFAULT 'public'
        CHECK (access IN ('public', 'token', 'basic'));
    UPDATE sandboxes SET access = 'token' WHERE private;
    ALTER TABLE sandboxes DROP COLUMN private;
    ALTER TABLE sandboxes ADD COLUMN access_round INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE sandboxes ADD COLUMN password_digest TEXT NOT NULL DEFAULT '';
    ALTER TABLE sandboxes ADD COLUMN idle_pause_s REAL;
    ALTER TABLE sandboxes ADD COLUMN active_at REAL NOT NULL DEFAULT 0;
    ALTER TABLE sandboxes ADD COLUMN active_mark TEXT NOT NULL DEFAULT '';
    """,
    # Keys that show the whole host in the console.
    """
    ALTER TABLE keys ADD COLUMN host INTEGER NOT NULL DEFAULT 0;
    """,
    # Volumes on storage that all hosts of a fleet have mounted: they are here as long as a sandbox has them, with the
    # number of the record by which it took them. Sandboxes that were made anew here: `ref` is Docker's id of them.
    """
    ALTER TABLE volumes ADD COLUMN shared INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE sandboxes ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE sandboxes ADD COLUMN ref TEXT NOT NULL DEFAULT '';
    ALTER TABLE sandboxes ADD COLUMN tokens TEXT NOT NULL DEFAULT '{}';
    """,
)


def migrate(db: sqlite3.Connection, file: Path) -> None:
    """Brings the open ledger up to this release. Raises LedgerError for one that a newer release has written."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > len(MIGRATIONS):
        raise LedgerError(
            f"{file}: written by a newer release (schema {version}, this one knows {len(MIGRATIONS)})."
            " Deploy the newer release again, or go back to the ledger of before: docs/upgrade.md says how."
        )
    if 0 < version < len(MIGRATIONS):
        keep(db, file, version)
    for number in range(version, len(MIGRATIONS)):
        try:
            db.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[number]}; PRAGMA user_version = {number + 1}; COMMIT;")
        except sqlite3.Error:
            if db.in_transaction:  # else the file stays locked as long as somebody holds the error
                db.execute("ROLLBACK")
            raise


def keep(db: sqlite3.Connection, file: Path, version: int) -> None:
    """A copy of the ledger as it is, for the release that can read no other; in place of an older one. Raises
    HostError."""
    copy = ledgercopy.of_schema(file, version)
    ledgercopy.write(db, copy)
    for older in file.parent.glob(ledgercopy.of_schema(file, 0).name.replace("0", "*")):
        if older != copy:
            older.unlink()
