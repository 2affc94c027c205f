"""What the ledger knows beside sandboxes: volumes, templates made on this host, settings and counters."""

from collections.abc import Callable, Mapping
from dataclasses import astuple

from sandboxd.errors import Conflict, NotFound, QuotaReached
from sandboxd.records import ApiKey, Mount, Sandbox, Volume
from sandboxd.templatetable import TemplateTable

KEY_CHANGES = "key_changes"
# Of a sandbox: it has the volume `?1`, as its /code or mounted beside it.
HAS = (
    "state != 'gone' AND (sandboxes.volume = ?1 OR EXISTS"
    " (SELECT 1 FROM json_each(sandboxes.mounts) WHERE json_extract(value, '$.volume') = ?1))"
)


class Catalog(TemplateTable):
    """See Database. A volume that a sandbox has cannot be removed."""

    def volumes(self) -> list[Volume]:
        """All named volumes, by name, each with the sandbox, or the first of those, that has it."""
        rows = self._read(
            "SELECT volumes.*, coalesce(sandboxes.slot, '') AS slot,"
            " coalesce(sandboxes.id, sandboxes.slot, '') AS sandbox_id FROM volumes"
            " LEFT JOIN sandboxes ON sandboxes.slot = (SELECT slot FROM sandboxes WHERE"
            f" {HAS.replace('?1', 'volumes.name')} LIMIT 1) ORDER BY name"
        )
        return [Volume(**{**dict(row), "shared": bool(row["shared"])}) for row in rows]

    def volumes_of(self, owner: str) -> list[Volume]:
        return [volume for volume in self.volumes() if volume.owner == owner]

    def has_own_volume(self, name: str) -> bool:
        """Whether there is a volume of that name on a disk of this host."""
        return bool(self._read("SELECT 1 FROM volumes WHERE name = ? AND NOT shared", (name,)))

    def has_shared_volume(self, name: str) -> bool:
        """Whether a sandbox of this host has the volume of that name from shared storage."""
        return bool(self._read("SELECT 1 FROM volumes WHERE name = ? AND shared", (name,)))

    def forget_shared(self) -> None:
        """Volumes on shared storage that no sandbox of this host has, as in a ledger that was put back."""
        with self._transaction():
            self._db.execute(
                "DELETE FROM volumes WHERE shared AND NOT EXISTS"
                " (SELECT 1 FROM sandboxes WHERE volume = volumes.name AND state != 'gone')"
            )

    def holders(self, volume: str) -> list[str]:
        """The slots of the sandboxes that have a volume, in whatever way."""
        return [row["slot"] for row in self._read(f"SELECT slot FROM sandboxes WHERE {HAS}", (volume,))]

    def add_owned_volume(self, volume: Volume, most: int) -> None:
        """Enters a volume of a key. Raises as `check_owned_volume` does."""
        with self._transaction():
            self.check_owned_volume(volume, most)
            statement = "INSERT INTO volumes (name, size_mb, created_at, owner, title) VALUES (?, ?, ?, ?, ?)"
            values = (volume.name, volume.size_mb, volume.created_at, volume.owner, volume.title)
            self._db.execute(statement, values)

    def check_owned_volume(self, volume: Volume, most: int) -> None:
        """Raises Conflict when the owner has one of that title, QuotaReached when it has `most` of them."""
        titles = [row[0] for row in self._read("SELECT title FROM volumes WHERE owner = ?", (volume.owner,))]
        if volume.title in titles:
            raise Conflict(f"there is a volume {volume.title!r} already. Take another name, or remove that one.")
        if len(titles) >= most:
            raise QuotaReached(f"the key {volume.owner!r} has {most} volumes, which is the most. Remove some.")

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

    def add_key(self, key: ApiKey, digest: str, once: str = "") -> bool:
        """Whether it was added: with `once` only while that setting was never set, and this sets it."""
        values = (key.id, key.name, digest, key.max_sandboxes, key.created_at, key.host)
        with self._transaction():
            statement = "INSERT OR IGNORE INTO settings (key, value) VALUES (?, 'made')"
            if once and self._db.execute(statement, (once,)).rowcount == 0:
                return False
            self._db.execute(
                "INSERT INTO keys (id, name, digest, max_sandboxes, created_at, host) VALUES (?, ?, ?, ?, ?, ?)", values
            )
            self._keys_changed()
            return True

    def digests(self) -> tuple[int, dict[str, ApiKey]]:
        """The version of the keys, 0 on a host that has never shared any, and all of them by their digests."""
        with self._transaction():
            return self.counter(KEY_CHANGES), self._digests()

    def replace_keys(self, version: int, keys: Mapping[str, ApiKey], known: bool = False) -> None:
        """All keys become those, of that version. Raises Conflict unless it is a newer one; and with `known` unless
        they are those that are there: only their version is to be another one then.
        """
        with self._transaction():
            if version <= (present := self.counter(KEY_CHANGES)):
                raise Conflict(f"the keys of this host are of version {present}: version {version} is no newer one.")
            if known and self._digests() != dict(keys):
                raise Conflict("the keys of this host have changed since they were read. Read again.")
            self._db.execute("DELETE FROM keys")
            self._db.executemany(
                "INSERT INTO keys (digest, id, name, max_sandboxes, created_at, host) VALUES (?, ?, ?, ?, ?, ?)",
                [(digest, *astuple(key)) for digest, key in keys.items()],
            )
            self._db.execute("INSERT OR REPLACE INTO counters (key, value) VALUES (?, ?)", (KEY_CHANGES, version))

    def keys(self, digest: str = "") -> list[ApiKey]:
        """All keys, oldest first; or the one with that digest."""
        columns = "SELECT id, name, max_sandboxes, created_at, host FROM keys"
        rows = self._read(f"{columns} WHERE digest = ? OR ? = '' ORDER BY created_at, id", (digest, digest))
        return [ApiKey(**{**dict(row), "host": bool(row["host"])}) for row in rows]

    def remove_key(self, key_id: str) -> None:
        with self._transaction():
            if not self._db.execute("DELETE FROM keys WHERE id = ?", (key_id,)).rowcount:
                raise NotFound(f"key {key_id!r} not found. Those there are: docker-sandbox key ls")
            self._keys_changed()

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

    def _take_volume(self, name: str, size_mb: int, now: float, shared: bool = False) -> int:
        """Makes the volume unless it is there; returns its size. Of one on shared storage the caller knows the size."""
        self._free_volume(name)
        if shared:
            self._db.execute("DELETE FROM volumes WHERE name = ? AND shared", (name,))
        self._add_volume(name, size_mb, now, shared)
        return int(self._db.execute("SELECT size_mb FROM volumes WHERE name = ?", (name,)).fetchone()[0])

    def _add_volume(self, name: str, size_mb: int, now: float, shared: bool = False) -> None:
        statement = "INSERT OR IGNORE INTO volumes (name, size_mb, created_at, shared) VALUES (?, ?, ?, ?)"
        self._db.execute(statement, (name, size_mb, now, shared))

    def _free_volume(self, name: str) -> None:
        statement = f"SELECT coalesce(id, slot) FROM sandboxes WHERE {HAS}"
        if holder := self._db.execute(statement, (name,)).fetchone():
            raise Conflict(f"volume {name!r} is in use by sandbox {holder[0]}. Kill that one first.")

    def _check_mount(self, owner: str, mount: Mount) -> None:
        """A volume that is somebody's /code is not mounted elsewhere meanwhile."""
        statement = "SELECT 1 FROM volumes WHERE name = ? AND owner = ?"
        if not self._db.execute(statement, (mount.volume, owner)).fetchone():
            raise NotFound(f"volume {mount.title!r} not found")
        statement = "SELECT coalesce(id, slot) FROM sandboxes WHERE volume = ? AND state != 'gone'"
        if holder := self._db.execute(statement, (mount.volume,)).fetchone():
            raise Conflict(f"volume {mount.title!r} is the /code of sandbox {holder[0]} now. Try again later.")

    def _digests(self) -> dict[str, ApiKey]:
        rows = self._read("SELECT digest, id, name, max_sandboxes, created_at, host FROM keys ORDER BY digest")
        keys = [{**dict(row), "host": bool(row["host"])} for row in rows]
        return {key.pop("digest"): ApiKey(**key) for key in keys}

    def _keys_changed(self) -> None:
        """Counted as soon as this host shares its keys with others."""
        self._db.execute("UPDATE counters SET value = value + 1 WHERE key = ?", (KEY_CHANGES,))

    def _count(self, key: str, step: int) -> None:
        self._db.execute(
            "INSERT INTO counters (key, value) VALUES (?, ?)"
            " ON CONFLICT (key) DO UPDATE SET value = value + excluded.value",
            (key, step),
        )
