"""After a ledger was lost: its rows are compared with the containers of this host, and whoever has none gets one.

Only a sandbox whose directory lies below our state_dir is ours; members of pools are nobody's, and left to `sweep`.
What no label and no file tells is lost, and is taken for the safer: no end and no cleanup, URLs for those with a token
only, and no internet where rules stood, or may have stood.
"""

import json
import logging
import re
from calendar import timegm
from collections import Counter
from collections.abc import Mapping
from time import strptime
from typing import Any

from sandboxd import spec
from sandboxd.disks import VOLUME_NAME
from sandboxd.engine import Container, Found
from sandboxd.errors import LedgerError
from sandboxd.nftables import marks
from sandboxd.policy import EVERYTHING, UNRESTRICTED, Policy
from sandboxd.records import TOKEN, USED, Claim, Mount, Sandbox, Volume
from sandboxd.recovery import DONE, PENDING
from sandboxd.sandboxes import Sandboxes
from sandboxd.sharedstate import Moved, parse
from sandboxd.slotdir import VITE

log = logging.getLogger(__name__)

CLOSED = Policy(deny=(EVERYTHING,))
FOUND = "found so after the ledger was lost"
LATER = "its container did so while the ledger was lost"


class Adopter:
    def __init__(self, sandboxes: Sandboxes) -> None:
        self._sandboxes, self._ledger, self._engine = sandboxes, sandboxes.ledger, sandboxes.engine

    def adopt(self) -> None:
        """Once after a loss; otherwise nothing. Raises EngineDown, EngineError and HostError; then try again."""
        pending = self._ledger.setting(PENDING)
        if not pending:
            return
        found = [one for one in self._engine.inventory(self._sandboxes.config.project) if one.kind == "container"]
        rules = self._sandboxes.guard.standing() if found else {}
        self._enter_volumes()
        report = json.loads(pending)
        since = report["at"] if report["copied_at"] else 0.0
        adopted = [row.id for one in found if (row := self._settle(one, rules.get(one.slot), since))]
        report |= {"at": self._sandboxes.host.now(), "adopted": adopted}
        if report["kept"] or report["copied_at"] or adopted:
            self._ledger.set_setting(DONE, json.dumps(report))
        self._ledger.set_setting(PENDING, "")

    def _settle(self, one: Found, rules: Counter[str] | None, copied: float) -> Sandbox | None:
        """The row that was made for a container, if any; one of before `copied` is brought in step with it.

        `rules` are the marks of those that stand on the host.
        """
        container = self._engine.container(one.ref)
        row = self._ledger.get(one.slot)
        if container is None or not container.name.startswith(spec.claimed_prefix(self._sandboxes.config.project)):
            return None
        if row is not None:
            if row.claimed_at is not None and row.claimed_at <= copied:
                self._align(row, container)
                if rules and rules != marks(row.policy):  # another policy came since the copy was made: which one?
                    self._ledger.set_policy(row.slot, CLOSED)
            return None
        if not one.slot or not self._sandboxes.dirs.path(one.slot).is_dir():
            return None
        with self._sandboxes.audit.doing("adopt", detail="the ledger did not know it") as act:
            claim = self._claim(one, container, rules != marks(UNRESTRICTED))
            made = self._ledger.adopt(self._row(one, container), claim)
            act.about(made)
        log.warning("sandbox %s (%s) is taken over: the ledger did not know it", made.id, made.container)
        return made

    def _align(self, row: Sandbox, container: Container) -> None:
        """Who was paused, resumed or started since the copy was made."""
        if row.state not in USED:
            return
        frozen, works = container.running and container.paused, container.running and not container.paused
        try:
            if row.state == "running" and frozen:
                self._ledger.set_paused(row.slot, LATER)
            elif row.state != "running" and works:
                self._ledger.set_resumed(row.slot, row.timeout_s, self._sandboxes.host.now())
        except LedgerError as error:  # somebody was faster
            log.warning("%s", error)

    def _row(self, one: Found, container: Container) -> dict[str, Any]:
        """What holds of a sandbox whoever has it, by its labels and its files."""
        labels = one.labels
        template = labels.get("sandbox.template", self._sandboxes.config.default_template)
        configured = self._sandboxes.config.templates.get(template)
        base = configured or self._sandboxes.config.templates[self._sandboxes.config.default_template]
        volume = labels.get("sandbox.volume", "")
        state = "paused" if container.paused else "running" if container.running else "stopped"
        own_id = labels.get("sandbox.id", "")
        shared = self._shared(one, labels, volume)
        tokens = shared.tokens if shared and own_id else {}
        self._sandboxes.key.brought |= tokens
        return {
            "slot": one.slot,
            "id": own_id or container.id,
            "ref": container.id if own_id else "",
            "generation": int(labels.get("sandbox.generation", 0)),
            "tokens": json.dumps(tokens),
            "state": state,
            "origin": labels.get("sandbox.origin", "cold"),
            "template": template,
            "image_id": container.image_id,
            "memory_mb": int(labels.get("sandbox.memory_mb", base.memory_mb)),
            "cpus": float(labels.get("sandbox.cpus", base.cpus)),
            "disk_mb": (shared.disk_mb if shared else self._sandboxes.disks.size_mb(volume, one.slot)) or 0,
            "volume": volume,
            "container": container.name,
            "reason": "" if state == "running" else FOUND,
            "created_at": one.created,
            "claimed_at": _claimed_at(container.name) or one.created,
        }

    def _shared(self, one: Found, labels: Mapping[str, str], volume: str) -> Moved | None:
        """What lies beside its volume on shared storage, if that is of this sandbox."""
        store = self._sandboxes.shared.store
        if "sandbox.generation" not in labels or store is None or not (text := store.state(volume)):
            return None
        found = parse(text, store.node)
        return found if found.slot == one.slot else None

    def _claim(self, one: Found, container: Container, ruled: bool) -> Claim:
        """What its claimer asked for, as far as that can be known."""
        closed = ruled or not container.running  # rules do not outlast a reboot, and whoever runs has his
        return Claim(
            keep=True,
            envs=self._envs(one.slot),
            owner=one.labels.get("sandbox.owner", ""),
            access=TOKEN,
            policy=CLOSED if closed else UNRESTRICTED,
            mounts=tuple(Mount(**mount) for mount in json.loads(one.labels.get("sandbox.mounts", "[]"))),
        )

    def _envs(self, slot: str) -> dict[str, str]:
        try:
            values = json.loads(self._sandboxes.dirs.read(slot) or "{}")
        except ValueError:
            return {}
        return {key: str(value) for key, value in values.get("envs", {}).items() if key != VITE}

    def _enter_volumes(self) -> None:
        """Those of which there is a file; whose they were, nobody knows."""
        known = {volume.name for volume in self._ledger.volumes()}
        for name in self._sandboxes.disks.volumes():
            size_mb = self._sandboxes.disks.size_mb(name)
            if name not in known and size_mb and re.fullmatch(VOLUME_NAME, name):
                self._ledger.enter_volume(Volume(name, size_mb, self._sandboxes.host.now(), "", ""))


def _claimed_at(name: str) -> float | None:
    """Unix seconds, of a name that `spec.claimed_name` has made."""
    match = re.search(r"-qa-(\d{8}-\d{6})-(\d{3})$", name)
    return timegm(strptime(match[1], "%Y%m%d-%H%M%S")) + int(match[2]) / 1000 if match else None
