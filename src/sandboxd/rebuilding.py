"""Rows of the ledger that are made from what was found on the host, and not from what somebody asked for."""

import json
from typing import Any

from sandboxd.catalog import Catalog
from sandboxd.policy import to_text
from sandboxd.records import Claim, Sandbox, Volume, from_row


class Rebuilding(Catalog):
    """See Database."""

    def adopt(self, known: dict[str, Any], claim: Claim) -> Sandbox:
        """The row of a sandbox that is there and had none: `known` by the names of the columns; of the claim what is
        known of it. Enters its volumes. Raises sqlite3.IntegrityError for a slot, id or name that is there."""
        values = {
            **known,
            "keep": int(claim.keep),
            "envs": json.dumps(claim.envs),
            "owner": claim.owner,
            "access": claim.access,
            "policy": to_text(claim.policy),
            "mounts": json.dumps([vars(one) for one in claim.mounts]),
            "active_at": known["claimed_at"],
        }
        with self._transaction():
            if known["volume"]:
                shared = known.get("generation", 0) > 0
                self._add_volume(known["volume"], known["disk_mb"], known["created_at"], shared)
            for mount in claim.mounts:
                self._db.execute(
                    "UPDATE volumes SET owner = ?, title = ? WHERE name = ? AND owner = ''",
                    (claim.owner, mount.title, mount.volume),
                )
            columns, marks = ", ".join(values), ", ".join("?" * len(values))
            statement = f"INSERT INTO sandboxes ({columns}) VALUES ({marks}) RETURNING *"
            return from_row(self._db.execute(statement, tuple(values.values())).fetchone())

    def enter_volume(self, volume: Volume) -> None:
        """One of which there is a file."""
        with self._transaction():
            self._add_volume(volume.name, volume.size_mb, volume.created_at)
