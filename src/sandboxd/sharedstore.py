"""Storage that all hosts of a fleet have mounted: for each volume on it the image of its disk, the record of whose it
is, and what its sandbox is made anew from.

One host has a volume at a time. The record says which, for which slot, and with a number that grows whenever somebody
takes the volume: whoever finds another number than its own has lost it for good, and must not mount it. A record is
changed under the lock of a file beside it, which NFSv4 keeps between hosts, and in one step: readers need no lock.

A directory without MARKER is one that nothing is mounted at. Storage may hang, as NFS does while its server is away:
all work is done in a thread that is left behind after WAIT_S, and whoever asked gets HostError. Nothing is changed any
more for somebody who got that: a volume would be taken by nobody, or an old state come over a new one.
"""

import errno
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from sandboxd import nfsfiles
from sandboxd.disks import MIB, VOLUME_NAME
from sandboxd.errors import Conflict, HostError
from sandboxd.nfsfiles import ask_anew, is_still, open_own, read, replace, size
from sandboxd.patience import NoAnswer, Patience, is_awaited

T = TypeVar("T")
MARKER = "sandbox-volumes.id"  # the deploy writes it where a file system is mounted
SEEN = "shared-storage.id"  # below state_dir: that of the storage which this host has had
IMAGE, OWNER, STATE, LOCK = "disk.img", "owner.json", "sandbox.json", "lock"
WAIT_S = 15.0
TRIES = 20
LOCK_S = 10.0  # a host that died with the lock keeps it until its lease ends: then others are told to try again


class TakenOver(Conflict):
    """Another host has the volume, or had it since: what this host knows of it holds no more."""


@dataclass(frozen=True)
class Owner:
    """The record of a volume. `node` is empty while nobody has it; `slot` is that host's."""

    node: str
    slot: str
    generation: int


FREE = Owner("", "", 0)


class SharedStore:
    """The volumes below `directory`, as the host `node` sees them. Every method may raise HostError.

    `known` is a file of this host, which keeps the mark of the storage that it has. Other storage has none of its
    volumes: it would look as if they had been taken from it.
    """

    def __init__(self, directory: Path, node: str, wait_s: float = WAIT_S, known: Path | None = None) -> None:
        self.directory, self.node, self._known = directory, node, known
        self._patience = Patience(wait_s, f"{directory} does not answer. Is its server there? Look with: findmnt")

    def identity(self) -> str:
        """The same on all hosts that have mounted the same."""
        return self._told(lambda: self._marker())

    def image(self, volume: str) -> Path:
        """The file of the disk; nothing is read."""
        return self.directory / volume / IMAGE

    def names(self) -> list[str]:
        return self._work(lambda: sorted(self._names()))

    def has(self, volume: str) -> bool:
        return self._work(lambda: (self.directory / volume / OWNER).exists(), volume)

    def size_mb(self, volume: str) -> int | None:
        """None while there is no disk."""
        found = self._work(lambda: size(self.image(volume)), volume)
        return None if found is None else found // MIB

    def made_at(self, volume: str) -> float:
        """Unix seconds. The lock is the first file of a volume, and nobody writes to it."""
        return self._work(lambda: (self.directory / volume / LOCK).stat().st_mtime, volume)

    def owner(self, volume: str) -> Owner:
        return self._work(lambda: self._owner(volume), volume)

    def state(self, volume: str) -> str:
        """What the sandbox of a volume is made anew from; empty for nothing."""
        return self._work(lambda: read(self.directory / volume / STATE), volume)

    def take(self, volume: str, slot: str) -> int:
        """The volume, made if there is none, is this host's from now on. Returns the record's number.

        Nobody else on this host may have it. Raises Conflict while another host has it, and when it waits for the
        sandbox of a host that was lost.
        """

        def work() -> int:
            with self._locked(volume):
                before = self._owner(volume)
                if before.node not in ("", self.node):
                    raise Conflict(
                        f"volume {volume!r} is in use on node {before.node}. Kill the sandbox that has it first; if"
                        f" that host is off for good: docker-sandbox node fenced {before.node} --yes"
                    )
                waiting = _slot_of(read(self.directory / volume / STATE))
                if waiting and waiting != before.slot:
                    raise Conflict(
                        f"volume {volume!r} waits for its sandbox, whose host was lost, to be made anew on another one."
                        " Take another volume; docker-sandbox ls says why it is not made yet."
                    )
                (self.directory / volume / STATE).unlink(missing_ok=True)
                return self._write(volume, Owner(self.node, slot, before.generation + 1))

        return self._work(work, volume)

    def take_over(self, volume: str, slot: str, dead: str) -> int:
        """As `take`, from the host `dead`, which must be off for certain, or from nobody. Raises Conflict when it is a
        third one's."""

        def work() -> int:
            with self._locked(volume, make=False):
                before = self._owner(volume)
                if before.node not in ("", dead):
                    raise Conflict(f"volume {volume!r} is not node {dead}'s, but node {before.node}'s.")
                return self._write(volume, Owner(self.node, slot, before.generation + 1))

        return self._work(work, volume)

    def free_from(self, volume: str, dead: str) -> bool:
        """The volume is nobody's any more, if it was that host's, which must be off for certain."""

        def work() -> bool:
            with self._locked(volume, make=False):
                before = self._owner(volume)
                if before.node != dead:
                    return False
                self._write(volume, Owner("", "", before.generation + 1))
                return True

        return self._work(work, volume)

    def check(self, volume: str, slot: str, generation: int) -> None:
        """Raises TakenOver unless the record is still that of this host."""
        found = self.owner(volume)
        if found != Owner(self.node, slot, generation):
            by = f"by node {found.node}" if found.node else "from this host"
            raise TakenOver(f"its volume {volume!r} was taken over {by} (number {found.generation}, not {generation})")

    def give_back(self, volume: str, slot: str, generation: int) -> None:
        """The volume is nobody's, if it was this host's by that number. What its sandbox is made anew from goes if it
        is of that slot, and stays if it is of a host that was lost."""

        def work() -> None:
            with self._locked(volume, make=False):
                if self._owner(volume) != Owner(self.node, slot, generation):
                    return
                state = self.directory / volume / STATE
                if _slot_of(read(state)) == slot:
                    state.unlink()
                self._write(volume, Owner("", "", generation))

        self._work(work, volume)

    def keep_state(self, volume: str, slot: str, generation: int, text: str) -> None:
        """Writes what the sandbox is made anew from, or removes it for an empty text. Nothing is done, and TakenOver
        raised, if the volume is another's."""

        def work() -> None:
            with self._locked(volume, make=False):
                if self._owner(volume) != Owner(self.node, slot, generation):
                    raise TakenOver(f"volume {volume!r} is not this host's any more")
                file = self.directory / volume / STATE
                if text:
                    replace(file, text)
                elif _slot_of(read(file)) == slot:
                    file.unlink()

        self._work(work, volume)

    def remove(self, volume: str) -> None:
        """With all that is in it. One that is not there is fine. Raises Conflict while another host has it."""

        def work() -> None:
            directory = self.directory / volume
            if not directory.exists():
                return
            with suppress(FileNotFoundError), self._locked(volume, make=False):
                if (before := self._owner(volume)).node not in ("", self.node):
                    raise Conflict(f"volume {volume!r} is in use on node {before.node}.")
                for path in sorted(directory.iterdir(), key=lambda path: path.name == LOCK):  # the lock is the last
                    path.unlink()
                try:
                    directory.rmdir()
                except OSError as error:
                    if error.errno != errno.ENOTEMPTY:  # another host makes it anew already
                        raise

        self._work(work, volume)

    def _owner(self, volume: str) -> Owner:
        text = read(self.directory / volume / OWNER)
        try:
            return Owner(**json.loads(text)) if text else FREE
        except (ValueError, TypeError) as error:
            raise HostError(
                f"{self.directory / volume / OWNER}: {error}. Nobody can tell whose the volume is: when no host has it"
                " mounted, remove that file."
            ) from error

    def _write(self, volume: str, owner: Owner) -> int:
        replace(self.directory / volume / OWNER, json.dumps(asdict(owner)))
        return owner.generation

    def _names(self) -> Iterator[str]:
        for path in self.directory.iterdir():
            if re.fullmatch(VOLUME_NAME, path.name):
                ask_anew(path)
                if (path / OWNER).exists():
                    yield path.name

    @contextmanager
    def _locked(self, volume: str, make: bool = True) -> Iterator[None]:
        directory = self.directory / volume
        for _ in range(TRIES):
            if make:
                directory.mkdir(mode=0o700, exist_ok=True)
            try:
                opened = open_own(directory / LOCK, os.O_RDWR | (os.O_CREAT if make else 0))
            except FileNotFoundError:
                if not make:
                    raise
                continue  # it was removed in between
            with os.fdopen(opened, "r+") as lock:
                if not nfsfiles.lock(lock, LOCK_S):
                    raise HostError(
                        f"{directory / LOCK}: another host holds it for {LOCK_S:.0f} s already. Try again in a minute."
                    )
                ask_anew(directory)
                if is_still(lock, directory / LOCK):
                    if not is_awaited():
                        raise HostError(f"{directory}: nothing is changed, since it took too long.")  # nobody hears it
                    yield
                    return
            # Whoever had the lock has removed it with the volume: it keeps nobody out any more.
        raise HostError(f"{directory} is removed by another host whenever it is there. Try again in a minute.")

    def _marker(self) -> str:
        ask_anew(self.directory)
        text = read(self.directory / MARKER).strip()
        if not text:
            raise HostError(
                f"{self.directory}: {MARKER} is not there, so nothing is mounted, or not what the deploy has seen."
                f" Look with: findmnt {self.directory}; when it is right, deploy again."
            )
        if self._known and text != (before := read(self._known)):
            if before:
                raise HostError(
                    f"{self.directory}: its mark is {text}, and was {before}: other storage is mounted than"
                    f" before. Mount that again; or, if this host is to have the new one for good: rm {self._known}"
                )
            replace(self._known, text)
        return text

    def _work(self, work: Callable[[], T], volume: str = "") -> T:
        server_answers = threading.Event()

        def marked() -> T:
            self._marker()
            server_answers.set()
            if volume:
                ask_anew(self.directory / volume)
            return work()

        try:
            return self._told(marked)
        except NoAnswer as error:
            if not (volume and server_answers.is_set()):
                raise
            raise NoAnswer(
                f"{self.directory / volume} does not answer, though its server does: it keeps what a lost host had open"
                " until that host's lease ends, 90 s by default. Try again in a minute."
            ) from error

    def _told(self, work: Callable[[], T]) -> T:
        try:
            return self._patience.run(work)
        except OSError as error:
            raise HostError(f"{error.filename or self.directory}: {error.strerror}") from error


def _slot_of(state: str) -> str:
    return str(json.loads(state)["slot"]) if state else ""
