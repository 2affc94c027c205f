"""What inotify's events mean in a directory, or in the tree below it. Reads directories; blocks, so it runs in threads.

The meaning is that of Go's fsnotify, which E2B has: a rename is a RENAME of the old name and a CREATE of the new one;
what happens to the watched directory itself has the name "."; when that is removed or renamed, nothing more comes.
"""

import errno
import os
import select
from collections.abc import Callable, Iterable
from typing import IO, NamedTuple

from envd import inotify
from envd.errors import EnvdError, invalid_argument

CREATE, WRITE, REMOVE, RENAME, CHMOD = (
    f"EVENT_TYPE_{name}" for name in ("CREATE", "WRITE", "REMOVE", "RENAME", "CHMOD")
)
ITSELF = "."

MAX_BATCH_EVENTS = 65_536  # of one turn, in which a large tree may have been moved in
BATCH_EVENTS = 1024  # so many go to the client before more are read: the others wait in the kernel
PARTNER_S = 0.02  # the other half of a rename is there at once or never: then the directory has left the tree

_NOT_DIRECTORIES = ("/proc", "/sys")  # the kernel's own: many directories, and it tells nothing of them
_GONE_OR_CLOSED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM)
_LIMITS = {
    errno.ENOSPC: "the user has fs.inotify.max_user_watches of this host",
    errno.EMFILE: "the user has fs.inotify.max_user_instances of this host",
    errno.ENFILE: "too many files are open on this host",
    errno.ENOMEM: "no memory is left",
}


class Event(NamedTuple):
    """What happened to `name`, which is relative to the watched directory."""

    name: str
    type: str


class Tree:
    """A directory and, if `recursive`, all below it that may be read. One call at a time.

    Each watched directory keeps about 1 KB of the kernel's memory; `room` says how many more there may be.
    """

    def __init__(self, path: str, recursive: bool, room: Callable[[], int]) -> None:
        self.failure: EnvdError | None = None  # why there will be no more events that could be relied on
        self._path = path
        self._recursive = recursive
        self._room = room
        self._inotify: inotify.Inotify | None = None
        self._directories: dict[int, str] = {}  # number of the watch -> relative path, "" for the watched one itself
        self._found: set[str] = set()  # told already, though the kernel's event is still to come
        self._moving: dict[int, dict[int, str]] = {}  # cookie of a rename -> its directories, relative to what moves
        self._ends = False

    @property
    def pipe(self) -> IO[bytes] | None:
        """Where events come from: while it is open."""
        return None if self._inotify is None else self._inotify.pipe

    @property
    def size(self) -> int:
        return len(self._directories)

    def open(self) -> None:
        """Begin. Raises OSError for the path, and EnvdError when it is no directory or a limit is reached."""
        if not os.path.isdir(self._path):
            os.stat(self._path)  # says it better when there is nothing at all
            raise invalid_argument(f"path is not a directory: {self._path}")
        try:
            self._inotify = inotify.Inotify()
            self._directories[self._inotify.add(self._path, inotify.CONTENT | inotify.ITSELF)] = ""
        except OSError as error:
            if error.errno in _LIMITS:
                raise exhausted(self._path, _LIMITS[error.errno]) from None
            raise
        if self._recursive:
            for name, is_directory in self._content(""):
                if is_directory:
                    self._add_tree(name)

    def stop(self) -> None:
        """From another thread: let what is under way come to an end soon."""
        self._ends = True

    def close(self) -> None:
        if self._inotify is not None:
            self._inotify.pipe.close()
            self._inotify = None
        self._directories.clear()

    def translate(self, data: bytes) -> list[Event]:
        """What the events in `data` mean, and those that came since; it may be nothing. See `failure`."""
        events: list[Event] = []
        try:
            while True:
                for raw in inotify.parse(data):
                    self._take(raw, events)
                if not self._more(PARTNER_S if self._moving else 0):
                    break
                if len(events) >= BATCH_EVENTS:
                    return events
                data = self._read()
        except EnvdError as error:
            self.failure = error
        except OSError as error:
            self.failure = EnvdError("internal", f"watcher error: {error}")
        self._found.clear()
        for moved in self._moving.values():
            self._remove(wd for wd in moved if wd not in self._directories)
        self._moving.clear()
        return events

    def _more(self, timeout_s: float) -> bool:
        """Whether there are further events within that time."""
        if self._inotify is None or self._ends:
            return False
        poll = select.poll()
        poll.register(self._inotify.pipe, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def _read(self) -> bytes:
        return os.read(self._inotify.pipe.fileno(), inotify.READ_BYTES) if self._inotify is not None else b""

    def _take(self, raw: inotify.RawEvent, events: list[Event]) -> None:
        if raw.mask & inotify.IN_Q_OVERFLOW:
            raise _lost(self._path)
        directory = self._directories.get(raw.wd)
        if directory is None:  # it has left the tree
            return
        if raw.mask & inotify.IN_IGNORED:
            del self._directories[raw.wd]
        elif raw.name:
            self._take_content(raw, os.path.join(directory, raw.name), events)
        elif directory == "":  # of the others their parents tell
            self._take_own(raw, events)

    def _take_own(self, raw: inotify.RawEvent, events: list[Event]) -> None:
        if raw.mask & inotify.IN_ATTRIB:
            self._tell(events, ITSELF, CHMOD)
        elif raw.mask & (inotify.IN_DELETE_SELF | inotify.IN_UNMOUNT):
            self._tell(events, ITSELF, REMOVE)
        elif raw.mask & inotify.IN_MOVE_SELF:
            self._tell(events, ITSELF, RENAME)
            self._remove(self._directories)
            self._directories.clear()

    def _take_content(self, raw: inotify.RawEvent, name: str, events: list[Event]) -> None:
        is_directory = bool(raw.mask & inotify.IN_ISDIR) and self._recursive
        if raw.mask & (inotify.IN_CREATE | inotify.IN_MOVED_TO):
            moved = self._moving.pop(raw.cookie, None) if raw.cookie else None
            if moved is not None:
                self._directories |= {wd: name + rest for wd, rest in moved.items()}
            if name in self._found:
                self._found.discard(name)
            else:
                self._tell(events, name, CREATE)
            if is_directory:
                self._add_tree(name, events)
        elif raw.mask & inotify.IN_MODIFY:
            self._tell(events, name, WRITE)
        elif raw.mask & inotify.IN_ATTRIB:
            self._tell(events, name, CHMOD)
        elif raw.mask & (inotify.IN_DELETE | inotify.IN_MOVED_FROM):
            self._found.discard(name)
            self._tell(events, name, REMOVE if raw.mask & inotify.IN_DELETE else RENAME)
            if is_directory and raw.mask & inotify.IN_MOVED_FROM:
                self._moving[raw.cookie] = self._cut_off(name)

    def _tell(self, events: list[Event], name: str, kind: str) -> None:
        event = Event(name, kind)
        if events and events[-1] == event:
            return
        if len(events) >= MAX_BATCH_EVENTS:
            raise _lost(self._path)
        events.append(event)

    def _add_tree(self, top: str, events: list[Event] | None = None) -> None:
        """Watch all from `top` on that is not watched yet; tell what is in it already, if `events` are given.

        The events of directories that are renamed in quick succession come when their paths lead nowhere, or to
        others. So each event of a directory at a new place is an occasion to put right what is known of all below it.
        A tree may be deeper than Python's stack, hence the list.
        """
        todo = [top]
        while todo and not self._ends:
            directory = todo.pop()
            wd = self._add(directory)
            if wd is None:
                continue
            new = wd not in self._directories
            self._directories[wd] = directory
            found = self._content(directory)
            if new and events is not None:
                for name, _ in found:
                    self._found.add(name)
                    self._tell(events, name, CREATE)
            todo += [name for name, is_directory in reversed(found) if is_directory]

    def _add(self, directory: str) -> int | None:
        """The number of its watch, which may be there already; None when it is gone or closed to the user."""
        if self._inotify is None or (path := os.path.join(self._path, directory)) in _NOT_DIRECTORIES:
            return None
        try:
            wd = self._inotify.add(path, inotify.CONTENT | inotify.IN_DONT_FOLLOW)
        except OSError as error:
            if error.errno in _LIMITS:
                raise exhausted(path, _LIMITS[error.errno]) from None
            if error.errno in _GONE_OR_CLOSED:
                return None
            raise
        if wd not in self._directories and self._room() <= 0:
            self._inotify.remove(wd)
            raise exhausted(path, "this sandbox watches as many directories as it may; watch fewer, or end a watch")
        return wd

    def _content(self, directory: str) -> list[tuple[str, bool]]:
        """The relative paths of what is in a directory, in order, and whether each is a directory."""
        try:
            with os.scandir(os.path.join(self._path, directory)) as entries:
                found = [
                    (os.path.join(directory, entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries
                ]
        except OSError:  # gone again, or closed
            return []
        return sorted(found)

    def _cut_off(self, top: str) -> dict[int, str]:
        """Take a directory that moves away out, with all below it; return them by their paths relative to it."""
        inside = ((wd, path) for wd, path in self._directories.items() if f"{path}/".startswith(f"{top}/"))
        moved = {wd: path[len(top) :] for wd, path in inside}
        for wd in moved:
            del self._directories[wd]
        return moved

    def _remove(self, directories: Iterable[int]) -> None:
        for wd in directories:
            if self._inotify is not None:
                self._inotify.remove(wd)


def exhausted(path: str, reason: str) -> EnvdError:
    return EnvdError("resource_exhausted", f"cannot watch {path}: {reason}")


def _lost(path: str) -> EnvdError:
    reason = "more happened than could be told, and some of it is lost; list the directory and watch it again"
    return EnvdError("internal", f"watcher error: {path}: {reason}")
