"""The ledger's tables of templates made on this host: the build that a name means, those that tags name, and leftovers.

An image that no row names any more is entered as unused in the same transaction, so that it is removed even when a
sandbox still uses it, or the daemon ends, before `templates` gets to it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from sandboxd.database import Database
from sandboxd.errors import Conflict, NotFound
from sandboxd.records import MadeTemplate

DEFAULT_TAG = "default"
NAMED = "SELECT image FROM templates UNION SELECT image FROM tags"


class TemplateTable(Database):
    """See Database. A template that a sandbox has cannot be removed."""

    def templates(self) -> dict[str, MadeTemplate]:
        """The default builds of those that were made on this host, by name."""
        rows = self._read("SELECT * FROM templates ORDER BY name")
        return {row["name"]: MadeTemplate(**dict(row)) for row in rows}

    def tagged(self, template: str = "") -> dict[str, MadeTemplate]:
        """The builds that other tags name, of one template or of all, by `name:tag`. `created_at` is of the tag."""
        columns = "template || ':' || tag AS name, image, base, 0 AS disk_mb, created_at, memory_mb, cpus"
        statement = f"SELECT {columns} FROM tags WHERE template = ? OR ? = '' ORDER BY template, tag"
        return {row["name"]: MadeTemplate(**dict(row)) for row in self._read(statement, (template, template))}

    def made_template(self, name: str) -> MadeTemplate | None:
        """Of a name, or of `name:tag`."""
        template, _, tag = name.partition(":")
        return self.tagged(template).get(name) if tag else self.templates().get(name)

    def add_template(self, made: MadeTemplate) -> None:
        """Enters the default build. Raises Conflict when there is one of that name."""
        with self._transaction():
            self._set(made, "IGNORE")

    def set_tags(self, template: str, tags: Sequence[str], made: MadeTemplate, now: float) -> None:
        """Has the tags name that build from now on, whatever they named before."""
        with self._transaction(), self._unnaming():
            self._set_tags(template, tags, made, now)

    def copy_tags(self, source: str, tags: Sequence[str], now: float) -> MadeTemplate:
        """The same, for the build that the name `source` means. Raises NotFound; Conflict for a snapshot."""
        with self._transaction(), self._unnaming():
            made = self.made_template(source)
            if made is None:
                raise NotFound(f"template {source!r} not found")
            if made.disk_mb:
                raise Conflict(f"template {source!r} is a snapshot, which has a disk: tags are for builds.")
            self._set_tags(source.partition(":")[0], tags, made, now)
            return made

    def remove_tags(self, template: str, tags: Sequence[str]) -> None:
        """Raises NotFound, and removes none, when the template does not have one of them."""
        with self._transaction(), self._unnaming():
            for tag in tags:
                statement = "DELETE FROM tags WHERE template = ? AND tag = ?"
                if not self._db.execute(statement, (template, tag)).rowcount:
                    raise NotFound(f"template {template!r} has no tag {tag!r}")

    def remove_template(self, name: str) -> None:
        """With its tags. Raises NotFound, and Conflict while a sandbox is made from it."""
        with self._transaction(), self._unnaming():
            statement = (
                "SELECT coalesce(id, slot) FROM sandboxes"
                " WHERE (template = ?1 OR substr(template, 1, length(?1) + 1) = ?1 || ':') AND state != 'gone'"
            )
            if users := self._db.execute(statement, (name,)).fetchall():
                ids = ", ".join(row[0] for row in users)
                raise Conflict(f"template {name!r} is in use by {ids}. Kill those first.")
            removed = self._db.execute("DELETE FROM templates WHERE name = ?", (name,)).rowcount
            removed += self._db.execute("DELETE FROM tags WHERE template = ?", (name,)).rowcount
            if not removed:
                raise NotFound(f"template {name!r} not found. Those there are: docker-sandbox template ls")

    def unused(self) -> dict[str, str]:
        """Images that are to be removed, each with the name of a snapshot's disk, or ''."""
        return dict(tuple(row) for row in self._read(f"SELECT image, disk FROM unused WHERE image NOT IN ({NAMED})"))

    def add_unused(self, image: str, disk: str = "") -> None:
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO unused (image, disk) VALUES (?, ?)", (image, disk))

    def forget_unused(self, image: str) -> None:
        with self._transaction():
            self._db.execute("DELETE FROM unused WHERE image = ?", (image,))

    def _set(self, made: MadeTemplate, how: str) -> None:
        columns = "name, image, base, disk_mb, created_at, memory_mb, cpus"
        values = (made.name, made.image, made.base, made.disk_mb, made.created_at, made.memory_mb, made.cpus)
        statement = f"INSERT OR {how} INTO templates ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)"
        if self._db.execute(statement, values).rowcount == 0:
            raise Conflict(f"there is a template {made.name!r} already.")

    def _set_tags(self, template: str, tags: Sequence[str], made: MadeTemplate, now: float) -> None:
        for tag in tags:
            if tag == DEFAULT_TAG:
                self._set(replace(made, name=template, created_at=now), "REPLACE")
                continue
            columns = "template, tag, image, base, created_at, memory_mb, cpus"
            values = (template, tag, made.image, made.base, now, made.memory_mb, made.cpus)
            self._db.execute(f"INSERT OR REPLACE INTO tags ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", values)

    @contextmanager
    def _unnaming(self) -> Iterator[None]:
        """Within a transaction: what the body leaves without a name is unused from now on."""
        before = self._names()
        disks = {one.image: one.name if one.disk_mb else "" for one in self.templates().values()}
        yield
        for image in before - self._names():
            values = (image, disks.get(image, ""))
            self._db.execute("INSERT OR REPLACE INTO unused (image, disk) VALUES (?, ?)", values)

    def _names(self) -> set[str]:
        return {row[0] for row in self._read(NAMED)}
