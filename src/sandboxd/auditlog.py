"""The file of the audit log: one JSON object a line, each appended by one write. Touches that file and its directory.

logrotate renames it; whoever writes next sees that the name leads elsewhere, and makes a new one. When the disk is
full, or nobody rotates, records are lost, `trouble` says so, and the daemon goes on.
"""

import errno
import grp
import os
import threading
from contextlib import suppress
from pathlib import Path

GROUP = "adm"  # Debian's for people who read logs
MOST_BYTES = 256 * 1024 * 1024  # far beyond where logrotate acts: it does not


class AuditLog:
    """Safe to use from several threads. One process writes at a time: the daemon."""

    def __init__(self, path: Path, most_bytes: int = MOST_BYTES) -> None:
        self._path, self._most_bytes = path, most_bytes
        self._lock = threading.Lock()
        self._fd = -1
        self._inode = (0, 0)
        self.trouble = ""  # why the last record was lost, empty when it was not
        self.lost = 0

    def write(self, line: bytes) -> None:
        """Appends a line, which ends with a newline. What cannot be written is counted, not raised."""
        with self._lock:
            try:
                self._append(line)
            except OSError as error:
                self.lost += 1
                self.trouble = f"{self._path}: {error.strerror}: records are lost. Look with: df -h; logrotate --debug"
            else:
                self.trouble = ""

    def close(self) -> None:
        with self._lock:
            self._forget()

    def _append(self, line: bytes) -> None:
        self._open()
        size_bytes = os.fstat(self._fd).st_size
        if size_bytes + len(line) > self._most_bytes:
            raise OSError(errno.EFBIG, f"has more than {self._most_bytes} bytes, and nobody rotates it")
        if os.write(self._fd, line) < len(line):
            os.ftruncate(self._fd, size_bytes)  # half a line would spoil the next one
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _open(self) -> None:
        with suppress(FileNotFoundError):
            found = os.stat(self._path)
            if self._fd >= 0 and (found.st_dev, found.st_ino) == self._inode:
                return
        self._forget()
        self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._path, flags, 0o640)
        found = os.fstat(self._fd)
        self._inode = (found.st_dev, found.st_ino)
        os.fchmod(self._fd, 0o640)
        with suppress(PermissionError, KeyError):  # then fewer may read it, never more
            os.fchown(self._fd, -1, grp.getgrnam(GROUP).gr_gid)

    def _forget(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
