"""The tables of the ledger, and how an older release's become this one's. Runs once, when the file is opened."""

import sqlite3
from pathlib import Path

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
)


def migrate(db: sqlite3.Connection, file: Path) -> None:
    """Brings the open ledger up to this release. Raises LedgerError for one that a newer release has written."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version > len(MIGRATIONS):
        raise LedgerError(
            f"{file}: written by a newer release (schema {version}, this one knows {len(MIGRATIONS)})."
            " Deploy the newer release again, or move the file away."
        )
    for number in range(version, len(MIGRATIONS)):
        db.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[number]}; PRAGMA user_version = {number + 1}; COMMIT;")
