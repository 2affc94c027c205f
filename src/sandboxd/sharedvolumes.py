"""Which sandboxes of this host have their /code on shared storage: taken for them, checked before each mount, and given
back.

The ledger keeps with each the number that the record had when the volume was taken. Of one that is kept, what it is
made anew from on another host is written at each change of its row, before whoever asked for that gets an answer.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sandboxd.errors import BadRequest, Conflict, HostError, SandboxdError
from sandboxd.ledger import Ledger
from sandboxd.records import USED, Claim, Sandbox
from sandboxd.sharedstate import text_of
from sandboxd.sharedstore import SharedStore, TakenOver
from sandboxd.slotlocks import SlotLocks
from sandboxd.tokens import brought_along

log = logging.getLogger(__name__)

NO_STORE = "this host has no shared storage: it is the setting `shared_storage` of a fleet. See docs/fleet.md."


class SharedVolumes:
    """`wait_detached` returns once no loop device has the file of a disk any more: unmounting is lazy."""

    def __init__(
        self, store: SharedStore | None, ledger: Ledger, key: bytes, wait_detached: Callable[[Path], None]
    ) -> None:
        self.store, self._ledger, self._key, self._wait_detached = store, ledger, key, wait_detached
        self._writing = SlotLocks()
        self._written: dict[str, str] = {}  # by slot: what this process has written last
        ledger.told = self.follow

    def resolved(self, claim: Claim) -> Claim:
        """With `shared` if its volume is on shared storage, whether it says so or not. Raises BadRequest, Conflict."""
        if not claim.volume:
            if claim.shared:
                raise BadRequest("shared: only a volume can be on shared storage: give its name, too")
            return claim
        own = self._ledger.has_own_volume(claim.volume)
        if claim.shared and self.store is None:
            raise BadRequest(f"shared: {NO_STORE}")
        if claim.shared and own:
            raise Conflict(
                f"volume {claim.volume!r} is on a disk of this host, and not on shared storage. Take another name."
            )
        return replace(claim, shared=claim.shared or (self.store is not None and not own and self._has(claim.volume)))

    def file(self, volume: str) -> Path | None:
        """Of a volume that a sandbox of this host has from shared storage; None for all others."""
        return self._present().image(volume) if self._ledger.has_shared_volume(volume) else None

    def size_mb(self, volume: str) -> int | None:
        return self._present().size_mb(volume)

    def take(self, new: Sandbox, dead: str | None) -> bool:
        """The volume of a row that is being made becomes this host's; it was that of the host `dead`, if one is named.
        Returns whether there must be a disk already. Raises Conflict."""
        store = self._present()
        slot, volume = new.slot, new.volume
        number = store.take(volume, slot) if dead is None else store.take_over(volume, slot, dead)
        self._ledger.set_generation(new.slot, number)
        return dead is not None or number > 1

    def check(self, row: Sandbox) -> None:
        """Before its disk is mounted, or it goes on. Raises TakenOver, and HostError while nobody can tell."""
        if row.generation:
            self._present().check(row.volume, row.slot, row.generation)

    def give_back(self, row: Sandbox) -> None:
        """Its disk is not mounted any more. What fails is done by `settle` later."""
        self._written.pop(row.slot, None)
        if not row.generation:
            return
        try:
            store = self._present()
            store.check(row.volume, row.slot, row.generation)
            self._wait_detached(store.image(row.volume))
            store.give_back(row.volume, row.slot, row.generation)
            if row.claimed_at is None and row.generation == 1 and store.size_mb(row.volume) is None:
                store.remove(row.volume)  # it was to be made, and was not
        except TakenOver as error:
            log.warning("volume %s is not given back: %s", row.volume, error)
        except SandboxdError as error:
            log.warning("volume %s is given back later: %s", row.volume, error)

    def remove(self, volume: str) -> None:
        """With its files. Raises Conflict while any host has it."""
        if self._ledger.holders(volume):
            raise Conflict(f"volume {volume!r} is in use by a sandbox of this host. Kill that one first.")
        self._present().remove(volume)

    def follow(self, slot: str) -> None:
        """The row has changed: others are to know. What fails is done by `settle` later."""
        try:
            self._write(slot)
        except SandboxdError as error:
            log.warning("what the sandbox of slot %s is made anew from is not up to date: %s", slot, error)

    def settle(self) -> None:
        """Writes what could not be written, and gives back what nobody has any more. Raises HostError."""
        if self.store is None:
            return
        for row in self._ledger.rows(*USED):
            if row.generation and row.keep:
                try:
                    self._write(row.slot)
                except TakenOver as error:
                    log.warning("%s: %s", row.id, error)  # the next comparison removes it
        for volume in self.store.names():
            owner = self.store.owner(volume)  # before the ledger: whoever takes it now has another number
            if owner.node != self.store.node or self._ledger.holders(volume):
                continue
            self._wait_detached(self.store.image(volume))
            if self._ledger.get(owner.slot) is not None:
                self.store.give_back(volume, owner.slot, owner.generation)
            else:  # it was not ended here, but is of a host of this name that was installed anew: its sandbox waits
                self.store.free_from(volume, owner.node)
        self._ledger.forget_shared()

    def _write(self, slot: str) -> None:
        with self._writing.hold(slot):
            row = self._ledger.get(slot)  # anew: two who have changed it may come here in any order
            if row is None or not row.generation or not row.keep or row.claimed_at is None:
                return
            if row.state in USED:
                text = text_of(row, brought_along(self._key, row.id, row.access_round))
            elif row.state == "removing":
                text = ""
            else:
                return
            if self._written.get(slot) != text:
                self._present().keep_state(row.volume, slot, row.generation, text)
                self._written[slot] = text

    def _has(self, volume: str) -> bool:
        return self._present().has(volume)

    def _present(self) -> SharedStore:
        if self.store is None:
            raise HostError(NO_STORE)
        return self.store
