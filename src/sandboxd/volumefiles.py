"""What is done with the files of a volume, whose file system hostile programs write at the same time.

Every function begins at a descriptor of the volume's root and steps down one name after the other, and no step follows
a symbolic link. So there is no way out, whatever is renamed or exchanged between two steps: what is opened by a
descriptor of a directory lies in that directory. Paths are absolute ones of the volume; `..` is resolved as text.
Only regular files are read and written: opening a FIFO does not wait, and the mount allows no devices.

Imports nothing but the standard library: `volumehelper`, which runs this, has little else.
"""

import errno
import os
import posixpath
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

MOST_ENTRIES = 10_000
MOST_TEXT = 1024 * 1024  # characters of their paths
MOST_DEPTH = 32
DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
PLAIN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
OWNER = 1000  # `user` inside, to whom a new file belongs unless it is said otherwise
DIRECTORY_MODE, FILE_MODE = 0o755, 0o644

STATUS = {
    errno.ENOENT: (404, "not found"),
    errno.ENOTDIR: (404, "something in this path is no directory; symbolic links are not followed"),
    errno.ELOOP: (400, "is a symbolic link, which is not followed"),
    errno.EEXIST: (409, "is there already; force replaces a file"),
    errno.EISDIR: (409, "is a directory"),
    errno.ENOTEMPTY: (409, "is a directory that is not empty"),
    errno.ENAMETOOLONG: (400, "is too long"),
    errno.EINVAL: (400, "cannot be"),
    errno.ENXIO: (400, "is no file"),
    errno.EACCES: (403, "is not allowed"),
    errno.EPERM: (403, "is not allowed"),
    errno.ENOSPC: (507, "the volume is full"),
    errno.EDQUOT: (507, "the volume is full"),
    errno.EMFILE: (400, "directories are nested too deeply"),
}


class Refused(Exception):
    """`status` is that of the HTTP answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@contextmanager
def told(path: str) -> Iterator[None]:
    """Errors of the kernel, and of what is nested too deeply, as Refused."""
    try:
        yield
    except RecursionError:
        raise Refused(400, f"path {path!r}: directories are nested too deeply") from None
    except OSError as error:
        status, message = STATUS.get(error.errno or 0, (500, os.strerror(error.errno or 0)))
        raise Refused(status, f"path {path!r}: {message}") from None


def split(path: str) -> list[str]:
    """The names on the way; none for the root. Raises Refused."""
    if "\0" in path:
        raise Refused(400, f"path {path!r}: has a zero byte")
    return [name for name in posixpath.normpath(f"/{path}").split("/") if name]


@contextmanager
def directory(root: int, names: Iterable[str]) -> Iterator[int]:
    """A descriptor of the directory at the end of these names. Raises OSError."""
    fd = os.dup(root)
    try:
        for name in names:
            below = os.open(name, DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)


@contextmanager
def parent(root: int, path: str) -> Iterator[tuple[int, str]]:
    """The directory of what the path names, and the last name. Raises OSError; Refused for the root itself."""
    names = split(path)
    if not names:
        raise Refused(400, "the root of a volume stays as it is")
    with directory(root, names[:-1]) as fd:
        yield fd, names[-1]


def look(root: int, path: str) -> dict[str, Any]:
    names = split(path)
    with told(path):
        if not names:
            return entry("/", "/", os.stat(root))
        with parent(root, path) as (fd, name):
            return looked(fd, name, "/" + "/".join(names))


def listing(root: int, path: str, depth: int) -> list[dict[str, Any]]:
    """What is in a directory, and in those in it, so many levels down. Raises Refused for too many entries."""
    names = split(path)
    found: list[dict[str, Any]] = []
    text = 0

    def walk(above: int, name: str, place: str, levels: int) -> None:
        nonlocal text
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | PLAIN, dir_fd=above)
        try:
            with os.scandir(fd) as entries:
                for one in entries:
                    if len(found) >= MOST_ENTRIES or text >= MOST_TEXT:
                        raise Refused(400, f"path {path!r}: has more entries than an answer can have; list a part")
                    with suppress(FileNotFoundError):  # removed since the directory was read
                        found.append(looked(fd, one.name, f"{place}/{shown(one.name)}"))
                        text += len(found[-1]["path"]) + len(found[-1].get("target", ""))
                        if levels > 1 and found[-1]["type"] == "directory":
                            with suppress(NotADirectoryError):  # another thing has its name by now
                                walk(fd, one.name, f"{place}/{shown(one.name)}", levels - 1)
        finally:
            os.close(fd)

    with told(path), directory(root, names) as fd:
        walk(fd, ".", "/".join(["", *names]), min(max(depth, 1), MOST_DEPTH))
    return found


def make_directory(root: int, path: str, uid: int, gid: int, mode: int, force: bool) -> dict[str, Any]:
    """With `force` also the directories above it, and it may be there already."""
    names = split(path)
    with told(path):
        if force:
            for number in range(1, len(names)):
                with suppress(FileExistsError):
                    made_directory(root, names[:number], uid, gid, mode)
        try:
            made_directory(root, names, uid, gid, mode)
        except FileExistsError:
            if not force or look(root, path)["type"] != "directory":
                raise
    return look(root, path)


def made_directory(root: int, names: list[str], uid: int, gid: int, mode: int) -> None:
    if not names:
        raise FileExistsError(errno.EEXIST, "")
    with directory(root, names[:-1]) as above:
        os.mkdir(names[-1], 0o700, dir_fd=above)
        fd = os.open(names[-1], os.O_RDONLY | os.O_DIRECTORY | PLAIN, dir_fd=above)
        try:
            own(fd, uid, gid, mode)
        finally:
            os.close(fd)


def reading(root: int, path: str) -> tuple[int, int]:
    """A descriptor of a regular file, and its size in bytes."""
    with told(path), parent(root, path) as (above, name):
        kind = os.stat(name, dir_fd=above, follow_symlinks=False).st_mode
        if not stat.S_ISREG(kind):
            raise Refused(404, f"path {path!r}: is no file, but a {kind_of(kind)}; symbolic links are not followed")
        fd = os.open(name, os.O_RDONLY | PLAIN, dir_fd=above)
        found = os.fstat(fd)  # anew: another thing may have its name by now
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            raise Refused(404, f"path {path!r}: is no file")
        return fd, found.st_size


def write(root: int, path: str, pieces: Iterable[bytes], uid: int, gid: int, mode: int, force: bool) -> dict[str, Any]:
    """A file that is there once it is whole. With `force` in place of another, or of a link, of that name."""
    with told(path), parent(root, path) as (above, name):
        with suppress(FileNotFoundError):
            kind = os.stat(name, dir_fd=above, follow_symlinks=False).st_mode
            if stat.S_ISDIR(kind):
                raise IsADirectoryError(errno.EISDIR, "")
            if not force:
                raise FileExistsError(errno.EEXIST, "")
        temporary = f".upload-{secrets.token_hex(8)}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | PLAIN, 0o600, dir_fd=above)
        try:
            with os.fdopen(fd, "wb") as file:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                if not force:
                    os.link(temporary, name, src_dir_fd=above, dst_dir_fd=above, follow_symlinks=False)
                own(fd, uid, gid, mode)
                if force:
                    os.rename(temporary, name, src_dir_fd=above, dst_dir_fd=above)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=above)
        return looked(above, name, "/" + "/".join(split(path)))


def change(root: int, path: str, uid: int | None, gid: int | None, mode: int | None) -> dict[str, Any]:
    """Owner and mode of a file or directory; None leaves one as it is."""
    with told(path), parent(root, path) as (above, name):
        fd = os.open(name, os.O_RDONLY | PLAIN, dir_fd=above)
        try:
            own(fd, -1 if uid is None else uid, -1 if gid is None else gid, mode)
        finally:
            os.close(fd)
        return looked(above, name, "/" + "/".join(split(path)))


def remove(root: int, path: str) -> None:
    """A directory with all that is in it."""
    with told(path), parent(root, path) as (above, name):
        if stat.S_ISDIR(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
            shutil.rmtree(name, dir_fd=above)  # steps down as we do: see shutil.rmtree.avoids_symlink_attacks
        else:
            os.unlink(name, dir_fd=above)


def own(fd: int, uid: int, gid: int, mode: int | None) -> None:
    os.fchown(fd, uid, gid)
    if mode is not None:
        os.fchmod(fd, mode)


def looked(above: int, name: str, path: str) -> dict[str, Any]:
    found = os.stat(name, dir_fd=above, follow_symlinks=False)
    seen = entry(shown(name), path, found)
    if stat.S_ISLNK(found.st_mode):
        with suppress(OSError):  # another thing has its name by now
            seen["target"] = shown(os.readlink(name, dir_fd=above))
    return seen


def entry(name: str, path: str, found: os.stat_result) -> dict[str, Any]:
    """The schema `VolumeEntryStat`."""
    return {
        "name": name,
        "type": kind_of(found.st_mode),
        "path": path,
        "size": found.st_size,
        "mode": stat.S_IMODE(found.st_mode),
        "uid": found.st_uid,
        "gid": found.st_gid,
        "atime": rfc3339(found.st_atime),
        "mtime": rfc3339(found.st_mtime),
        "ctime": rfc3339(found.st_ctime),
    }


def kind_of(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "symlink" if stat.S_ISLNK(mode) else "unknown"


def shown(name: str) -> str:
    """As text that JSON can hold, whatever bytes the name has."""
    return os.fsencode(name).decode(errors="replace")


def rfc3339(seconds: float) -> str:
    """Times that the calendar does not reach, which a sandbox can set, come as its ends."""
    seconds = min(max(seconds, 0.0), 253402300799.0)
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
