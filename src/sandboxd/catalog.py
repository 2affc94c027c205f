"""What the ledger knows beside sandboxes: volumes, templates made on this host, settings and counters."""

from collections.abc import Callable

from sandboxd.database import Database
from sandboxd.errors import Conflict, NotFound
from sandboxd.records import ApiKey, MadeTemplate, Sandbox, Volume


class Catalog(Database):
    """See Database. A volume, and a template, that a sandbox has cannot be removed."""

    def volumes(self) -> list[Volume]:
        """All named volumes, by name, each with the sandbox that has it."""
        rows = self._read(
            "SELECT volumes.*, coalesce(sandboxes.slot, '') AS slot,"
            " coalesce(sandboxes.id, sandboxes.slot, '') AS sandbox_id FROM volumes"
            " LEFT JOIN sandboxes ON sandboxes.volume = volumes.name AND sandboxes.state != 'gone' ORDER BY name"
        )
        return [Volume(*(row[key] for key in ("name", "size_mb", "created_at", "slot", "sandbox_id"))) for row in rows]

    def made_for(self, sandbox: Sandbox) -> bool:
        """Whether the sandbox's volume was entered with it: no other sandbox has ever had it."""
        statement = "SELECT 1 FROM volumes WHERE name = ? AND created_at = ?"  # one transaction wrote both times
        return bool(self._read(statement, (sandbox.volume, sandbox.created_at)))

    def remove_volume(self, name: str, remove_file: Callable[[], None]) -> None:
        """Forgets a volume. Raises NotFound, and Conflict while a sandbox has it.

        `remove_file` is called within the transaction: nobody can take the volume between the two, and when it fails
        the volume is still there.
        """
        with self._transaction():
            self._free_volume(name)
            if not self._db.execute("DELETE FROM volumes WHERE name = ?", (name,)).rowcount:
                raise NotFound(f"volume {name!r} not found. Those there are: docker-sandbox volume ls")
            remove_file()

    def set_template(self, made: MadeTemplate, replace: bool = False) -> None:
        """Enters it. Raises Conflict when there is one of that name, unless it is to be replaced."""
        columns = "name, image, base, disk_mb, created_at, memory_mb, cpus"
        values = (made.name, made.image, made.base, made.disk_mb, made.created_at, made.memory_mb, made.cpus)
        how = "REPLACE" if replace else "IGNORE"
        with self._transaction():
            statement = f"INSERT OR {how} INTO templates ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)"
            if self._db.execute(statement, values).rowcount == 0:
                raise Conflict(f"there is a template {made.name!r} already.")

    def forget_template(self, name: str) -> None:
        with self._transaction():
            self._db.execute("DELETE FROM templates WHERE name = ?", (name,))

    def remove_template(self, name: str) -> None:
        """Raises Conflict while a sandbox is made from it."""
        with self._transaction():
            statement = "SELECT coalesce(id, slot) FROM sandboxes WHERE template = ? AND state != 'gone'"
            if users := self._db.execute(statement, (name,)).fetchall():
                ids = ", ".join(row[0] for row in users)
                raise Conflict(f"template {name!r} is in use by {ids}. Kill those first.")
            self._db.execute("DELETE FROM templates WHERE name = ?", (name,))

    def templates(self) -> dict[str, MadeTemplate]:
        """Those that were made on this host, by name."""
        rows = self._read("SELECT * FROM templates ORDER BY name")
        return {row["name"]: MadeTemplate(**dict(row)) for row in rows}

    def add_key(self, key: ApiKey, digest: str, once: str = "") -> bool:
        """Whether it was added: with `once` only while that setting was never set, and this sets it."""
        values = (key.id, key.name, digest, key.max_sandboxes, key.created_at)
        with self._transaction():
            statement = "INSERT OR IGNORE INTO settings (key, value) VALUES (?, 'made')"
            if once and self._db.execute(statement, (once,)).rowcount == 0:
                return False
            self._db.execute(
                "INSERT INTO keys (id, name, digest, max_sandboxes, created_at) VALUES (?, ?, ?, ?, ?)", values
            )
            return True

    def keys(self, digest: str = "") -> list[ApiKey]:
        """All keys, oldest first; or the one with that digest."""
        columns = "SELECT id, name, max_sandboxes, created_at FROM keys"
        rows = self._read(f"{columns} WHERE digest = ? OR ? = '' ORDER BY created_at, id", (digest, digest))
        return [ApiKey(**dict(row)) for row in rows]

    def remove_key(self, key_id: str) -> None:
        with self._transaction():
            if not self._db.execute("DELETE FROM keys WHERE id = ?", (key_id,)).rowcount:
                raise NotFound(f"key {key_id!r} not found. Those there are: docker-sandbox key ls")

    def setting(self, key: str) -> str:
        """A setting that survives restarts; empty when it was never set."""
        rows = self._read("SELECT value FROM settings WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else ""

    def set_setting(self, key: str, value: str) -> None:
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO settings (key, value) VALUES (?, ?)", (key, value))

    def counter(self, key: str) -> int:
        rows = self._read("SELECT value FROM counters WHERE key = ?", (key,))
        return int(rows[0][0]) if rows else 0

    def _take_volume(self, name: str, size_mb: int, now: float) -> int:
        """Makes the volume unless it is there; returns its size."""
        self._free_volume(name)
        self._add_volume(name, size_mb, now)
        return int(self._db.execute("SELECT size_mb FROM volumes WHERE name = ?", (name,)).fetchone()[0])

    def _add_volume(self, name: str, size_mb: int, now: float) -> None:
        statement = "INSERT OR IGNORE INTO volumes (name, size_mb, created_at) VALUES (?, ?, ?)"
        self._db.execute(statement, (name, size_mb, now))

    def _free_volume(self, name: str) -> None:
        statement = "SELECT coalesce(id, slot) FROM sandboxes WHERE volume = ? AND state != 'gone'"
        if holder := self._db.execute(statement, (name,)).fetchone():
            raise Conflict(f"volume {name!r} is in use by sandbox {holder[0]}. Kill that one first.")

    def _count(self, key: str, step: int) -> None:
        self._db.execute(
            "INSERT INTO counters (key, value) VALUES (?, ?)"
            " ON CONFLICT (key) DO UPDATE SET value = value + excluded.value",
            (key, step),
        )
