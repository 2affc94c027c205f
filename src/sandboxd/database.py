"""The daemon's one SQLite file, in WAL mode: opened, read, and written in transactions. Knows no table."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sandboxd import ledgercopy
from sandboxd.errors import HostError, LedgerError
from sandboxd.schema import migrate


class Database:
    """Safe to use from several threads, and from several processes.

    Every method raises HostError when the file can be neither read nor written any more.
    """

    def __init__(self, file: Path) -> None:
        """Opens the file, makes it when it is not there. Raises LedgerError when it cannot be used."""
        self._lock = threading.RLock()
        try:
            self._db = sqlite3.connect(file, isolation_level=None, check_same_thread=False, timeout=10)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")  # a claim must survive a power cut: nothing is used twice
            file.chmod(0o600)  # it holds the environment variables that claimers gave
            migrate(self._db, file)
        except HostError as error:  # of the copy that comes before a migration
            self._db.close()
            raise LedgerError(str(error)) from error
        except (OSError, sqlite3.Error) as error:
            raise LedgerError(f"{file}: {error}. Mend or move away the file; is its disk full or read-only?") from error

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def copy(self, target: Path) -> None:
        """Replaces `target` by a copy of the ledger as it is now. Raises HostError, also for a damaged one."""
        with self._lock:
            ledgercopy.write(self._db, target)

    def changes(self) -> tuple[int, int]:
        """Another value once anything was written, by us or by another process."""
        with self._lock:
            return self._db.total_changes, int(self._read("PRAGMA data_version")[0][0])

    def faults(self) -> list[str]:
        """What SQLite finds wrong with the file; empty when it is sound. Takes milliseconds."""
        try:
            rows = self._read("PRAGMA quick_check(5)")
        except sqlite3.DatabaseError as error:
            return [str(error)]
        return [str(row[0]) for row in rows if row[0] != "ok"]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock, _told():
            self._db.execute("BEGIN IMMEDIATE")  # takes the write lock before reading: claimers queue here
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # A failed COMMIT leaves the transaction open, and a full disk may have ended it already.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _read(self, statement: str, values: tuple[Any, ...] = ()) -> list[sqlite3.Row]:
        with self._lock, _told():
            return self._db.execute(statement, values).fetchall()


@contextmanager
def _told() -> Iterator[None]:
    """SQLite's errors that the host causes, as ours. IntegrityError stays what it is: a mistake in this program."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise HostError(f"the ledger cannot be read or written: {error}. Is the disk full? Look with: df -h") from error
