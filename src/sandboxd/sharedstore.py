"""Storage that all hosts of a fleet have mounted: for each volume on it the image of its disk, the record of whose it
is, and what its sandbox is made anew from.

One host has a volume at a time. The record says which, for which slot, and with a number that grows whenever somebody
takes the volume: whoever finds another number than its own has lost it for good, and must not mount it. A record is
changed under the lock of a file beside it, which NFSv4 keeps between hosts, and in one step: readers need no lock.

A directory without MARKER is one that nothing is mounted at. Storage may hang, as NFS does while its server is away:
all work is done in a thread that is left behind after WAIT_S, and whoever asked gets HostError.
"""

import errno
import fcntl
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from sandboxd.disks import MIB, VOLUME_NAME
from sandboxd.errors import Conflict, HostError

T = TypeVar("T")
MARKER = "sandbox-volumes.id"  # the deploy writes it where a file system is mounted
IMAGE, OWNER, STATE, LOCK = "disk.img", "owner.json", "sandbox.json", "lock"
WAIT_S = 15.0
LOCK_S = 10.0  # a host that died with the lock keeps it until its lease ends: then others are told to try again
POLL_S = 0.02


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
    """The volumes below `directory`, as the host `node` sees them. Every method may raise HostError."""

    def __init__(self, directory: Path, node: str, wait_s: float = WAIT_S) -> None:
        self.directory, self.node, self._wait_s = directory, node, wait_s

    def identity(self) -> str:
        """The same on all hosts that have mounted the same."""
        return self._bounded(lambda: self._marker())

    def image(self, volume: str) -> Path:
        """The file of the disk; nothing is read."""
        return self.directory / volume / IMAGE

    def names(self) -> list[str]:
        return self._work(lambda: sorted(self._names()))

    def has(self, volume: str) -> bool:
        return self._work(lambda: (self.directory / volume / OWNER).exists())

    def size_mb(self, volume: str) -> int | None:
        """None while there is no disk."""
        return self._work(lambda: _size_mb(self.image(volume)))

    def made_at(self, volume: str) -> float:
        """Unix seconds. The lock is the first file of a volume, and nobody writes to it."""
        return self._work(lambda: (self.directory / volume / LOCK).stat().st_mtime)

    def owner(self, volume: str) -> Owner:
        return self._work(lambda: self._owner(volume))

    def state(self, volume: str) -> str:
        """What the sandbox of a volume is made anew from; empty for nothing."""
        return self._work(lambda: _read(self.directory / volume / STATE))

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
                waiting = _slot_of(_read(self.directory / volume / STATE))
                if waiting and waiting != before.slot:
                    raise Conflict(
                        f"volume {volume!r} waits for its sandbox, whose host was lost, to be made anew on another one."
                        " Take another volume; docker-sandbox ls says why it is not made yet."
                    )
                (self.directory / volume / STATE).unlink(missing_ok=True)
                return self._write(volume, Owner(self.node, slot, before.generation + 1))

        return self._work(work)

    def take_over(self, volume: str, slot: str, dead: str) -> int:
        """As `take`, from the host `dead`, which must be off for certain, or from nobody. Raises Conflict when it is a
        third one's."""

        def work() -> int:
            with self._locked(volume, make=False):
                before = self._owner(volume)
                if before.node not in ("", dead):
                    raise Conflict(f"volume {volume!r} is not node {dead}'s, but node {before.node}'s.")
                return self._write(volume, Owner(self.node, slot, before.generation + 1))

        return self._work(work)

    def free_from(self, volume: str, dead: str) -> bool:
        """The volume is nobody's any more, if it was that host's, which must be off for certain."""

        def work() -> bool:
            with self._locked(volume, make=False):
                before = self._owner(volume)
                if before.node != dead:
                    return False
                self._write(volume, Owner("", "", before.generation + 1))
                return True

        return self._work(work)

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
                if _slot_of(_read(state)) == slot:
                    state.unlink()
                self._write(volume, Owner("", "", generation))

        self._work(work)

    def keep_state(self, volume: str, slot: str, generation: int, text: str) -> None:
        """Writes what the sandbox is made anew from, or removes it for an empty text. Nothing is done, and TakenOver
        raised, if the volume is another's."""

        def work() -> None:
            with self._locked(volume, make=False):
                if self._owner(volume) != Owner(self.node, slot, generation):
                    raise TakenOver(f"volume {volume!r} is not this host's any more")
                file = self.directory / volume / STATE
                if text:
                    _replace(file, text)
                elif _slot_of(_read(file)) == slot:
                    file.unlink()

        self._work(work)

    def remove(self, volume: str) -> None:
        """With all that is in it. One that is not there is fine. Raises Conflict while another host has it."""

        def work() -> None:
            directory = self.directory / volume
            if not directory.exists():
                return
            with self._locked(volume, make=False):
                if (before := self._owner(volume)).node not in ("", self.node):
                    raise Conflict(f"volume {volume!r} is in use on node {before.node}.")
                for path in sorted(directory.iterdir(), key=lambda path: path.name == LOCK):  # the lock is the last
                    path.unlink()
                directory.rmdir()

        self._work(work)

    def _owner(self, volume: str) -> Owner:
        text = _read(self.directory / volume / OWNER)
        try:
            return Owner(**json.loads(text)) if text else FREE
        except (ValueError, TypeError) as error:
            raise HostError(
                f"{self.directory / volume / OWNER}: {error}. Nobody can tell whose the volume is: when no host has it"
                " mounted, remove that file."
            ) from error

    def _write(self, volume: str, owner: Owner) -> int:
        _replace(self.directory / volume / OWNER, json.dumps(asdict(owner)))
        return owner.generation

    def _names(self) -> Iterator[str]:
        for path in self.directory.iterdir():
            if re.fullmatch(VOLUME_NAME, path.name) and (path / OWNER).exists():
                yield path.name

    @contextmanager
    def _locked(self, volume: str, make: bool = True) -> Iterator[None]:
        directory = self.directory / volume
        if make:
            directory.mkdir(mode=0o700, exist_ok=True)
        give_up = time.monotonic() + LOCK_S
        with os.fdopen(os.open(directory / LOCK, os.O_RDWR | (os.O_CREAT if make else 0), 0o600), "r+") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > give_up:
                        raise HostError(
                            f"{directory / LOCK}: another host holds it for {LOCK_S:.0f} s already."
                            " Try again in a minute."
                        ) from None
                    time.sleep(POLL_S)
            yield

    def _marker(self) -> str:
        text = _read(self.directory / MARKER).strip()
        if not text:
            raise HostError(
                f"{self.directory}: {MARKER} is not there, so nothing is mounted, or not what the deploy has seen."
                f" Look with: findmnt {self.directory}; when it is right, deploy again."
            )
        return text

    def _work(self, work: Callable[[], T]) -> T:
        def marked() -> T:
            self._marker()
            return work()

        return self._bounded(marked)

    def _bounded(self, work: Callable[[], T]) -> T:
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(work())
            except BaseException as error:  # raised where somebody waits for it
                done.set_exception(error)

        threading.Thread(target=run, name="shared", daemon=True).start()
        try:
            return done.result(self._wait_s)
        except TimeoutError as error:
            raise HostError(f"{self.directory} does not answer. Is its server there? Look with: findmnt") from error
        except OSError as error:
            raise HostError(f"{error.filename or self.directory}: {error.strerror}") from error


def _slot_of(state: str) -> str:
    return str(json.loads(state)["slot"]) if state else ""


def _size_mb(file: Path) -> int | None:
    return file.stat().st_size // MIB if file.exists() else None


def _read(file: Path) -> str:
    """Opened by its name each time: NFS asks its server then, and does not answer from what it has kept."""
    try:
        return file.read_text()
    except FileNotFoundError:
        return ""


def _replace(file: Path, text: str) -> None:
    """In one step, and on the server's disk before it returns."""
    temporary = file.with_name(f"{file.name}.{secrets.token_hex(4)}.new")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())
    os.replace(temporary, file)
    directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a file system that knows no such thing for a directory
            raise
    finally:
        os.close(directory)
