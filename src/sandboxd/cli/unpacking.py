"""A tar stream from a sandbox becomes files here. The sandbox is not trusted: nothing may land outside of the target.

Not `tarfile.extract`: Debian 12's Python has no `filter="data"`, and releases that have it can be led out of the target
by links. Here links are made last, so that no name is ever resolved through one, and those that lead out are removed.
"""

import os
import posixpath
import tarfile
from contextlib import suppress
from typing import IO, BinaryIO

from sandboxd.cli.exits import CliError
from sandboxd.cli.http1 import Response
from sandboxd.cli.printing import warn
from sandboxd.cli.progress import Progress

BUFFER_BYTES = 1024 * 1024
MODE, MTIME = "x-file-mode", "x-file-mtime"  # octal, and Unix seconds
# What the sandbox says must not use up this machine. The agent's tar writes no sparse files, and no longer heads.
MAX_HEAD_BYTES = 1024 * 1024  # of a member: its name, for one, may have a block of its own
HOLES = "a file with holes, which may be of any size"
MAX_LINKS = 300_000  # kept in memory until all files are there
KEPT_FREE_BYTES, KEPT_FREE_SHARE = 1024**3, 0.05  # of the disk that is written to: the smaller of both
LOOK_BYTES = 4 * 1024 * 1024
ENTRY_BYTES = 4096  # of a disk, for a file with nothing in it
LONG_HEADS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


class Body:
    """The body of a response as a file that `tarfile` can read."""

    def __init__(self, response: Response, progress: Progress) -> None:
        self.headers = response.headers
        self._response, self._progress = response, progress

    def read(self, size: int) -> bytes:
        piece = self._response.read(size)
        self._progress.add(len(piece))
        return piece


class Member(tarfile.TarInfo):
    """One entry of an archive. `tarfile` would read a head of any length into memory, and write holes as zeros."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in LONG_HEADS and self.size > MAX_HEAD_BYTES:
            raise CliError(f"refused: the sandbox sent an archive with a head of {self.size} bytes.")
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise CliError(f"refused: the sandbox sent {self.name!r}, {HOLES}.")
        found: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return found


class Room:
    """Sees to it that the disk below `directory` is not written full."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._until_look = 0

    def take(self, size: int) -> None:
        """To be asked before so many bytes are written. Raises CliError when too little would be left."""
        self._until_look -= size
        if self._until_look > 0:
            return
        self._until_look = LOOK_BYTES
        disk = os.statvfs(self._directory)
        free = disk.f_bavail * disk.f_frsize
        kept = min(KEPT_FREE_BYTES, int(disk.f_blocks * disk.f_frsize * KEPT_FREE_SHARE))
        if free - size < kept or (disk.f_files and disk.f_favail < disk.f_files * KEPT_FREE_SHARE):
            raise CliError(
                f"stopped: {self._directory} is on a disk with {free >> 20} MB and {disk.f_favail} files left, of which"
                f" {kept >> 20} MB and {KEPT_FREE_SHARE:.0%} are left free. Nothing of the copy was kept."
            )


def pour(source: IO[bytes] | Body, file: BinaryIO, room: Room) -> None:
    while piece := source.read(BUFFER_BYTES):
        room.take(len(piece))
        file.write(piece)


def is_file(body: Body) -> bool:
    """Whether it is the content of one file; else it is an archive, of which an older agent makes a file as well."""
    return MODE in body.headers


def store(body: Body, path: str) -> None:
    """The content of one file, under a name that is not there yet."""
    with new_file(path) as file:
        pour(body, file, Room(os.path.dirname(path)))
    try:
        mode, mtime = int(body.headers[MODE], 8), int(body.headers[MTIME])
        os.chmod(path, mode & 0o777 | 0o600)
        os.utime(path, (mtime, mtime))
    except (KeyError, ValueError, OverflowError) as error:
        raise CliError(f"the sandbox sent a file with a damaged head: {error}.") from error


def unpack(body: Body, target: str) -> bool:
    """Unpacks below `target`, a new, empty directory of ours; says whether it was a directory that was packed.

    Of a directory the content lands in `target` itself, of a file the file under its own name. Raises CliError for a
    stream that is no tar or stops before its end.
    """
    directories: dict[str, tarfile.TarInfo] = {}
    links: dict[str, str] = {}
    is_directory = False
    room = Room(target)
    try:
        with tarfile.open(  # type: ignore[call-overload]
            fileobj=body, mode="r|", bufsize=BUFFER_BYTES, tarinfo=Member
        ) as archive:
            for member in archive:
                archive.members.clear()  # else all that came stays in memory
                room.take(ENTRY_BYTES)
                is_directory = is_directory or member.name == "." or member.name.startswith("./")
                path = inside(target, member.name)
                if member.issparse():
                    raise CliError(f"refused: the sandbox sent {member.name!r}, {HOLES}.")
                if member.isdir():
                    os.makedirs(path, exist_ok=True)
                    directories[path] = member
                elif member.isreg():
                    write_file(archive, member, path, room)
                elif member.islnk():
                    make_hard_link(inside(target, member.linkname), path, links)
                elif member.issym():
                    links[path] = member.linkname
                    if len(links) > MAX_LINKS:
                        raise CliError(f"refused: the sandbox sent more than {MAX_LINKS} links.")
                else:
                    warn(f"{member.name}: left out, since it is no file, directory or link")
    except tarfile.TarError as error:
        raise CliError(f"the sandbox sent a damaged archive: {error}.") from error
    while body.read(BUFFER_BYTES):  # the padding after the archive's end; a broken connection shows here
        pass
    make_links(target, links)
    for path, member in reversed(directories.items()):  # last: a directory may be read-only
        os.chmod(path, member.mode & 0o777 | 0o700)
        os.utime(path, (member.mtime, member.mtime))
    return is_directory


def inside(target: str, name: str) -> str:
    """The path of a member. Raises CliError when its name leads out of the target."""
    normal = posixpath.normpath(name)
    if normal.startswith(("/", "../")) or normal == "..":
        raise CliError(f"refused: the sandbox sent a file whose name leads out of the target: {name!r}.")
    return os.path.join(target, normal)


def write_file(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str, room: Room) -> None:
    """A new file, without set-user-id bits and the like."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with suppress(FileNotFoundError):
        os.unlink(path)  # a name that comes twice: it may be a hard link to another file
    source = archive.extractfile(member)
    with new_file(path) as file:
        if source is not None:
            pour(source, file, room)
        os.fchmod(file.fileno(), member.mode & 0o777 | 0o600)
    os.utime(path, (member.mtime, member.mtime))


def new_file(path: str) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def make_hard_link(original: str, path: str, links: dict[str, str]) -> None:
    """Another name for a file that came before, or for a symbolic link, which is made later as such."""
    if original in links:
        links[path] = links[original]
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if not os.path.isfile(original):
        raise CliError(f"the sandbox sent a damaged archive: {os.path.basename(path)} is a link to what did not come.")
    if path != original:
        with suppress(FileNotFoundError):
            os.unlink(path)
        os.link(original, path)


def make_links(target: str, links: dict[str, str]) -> None:
    """The symbolic links, without those that lead out of what was copied: by themselves, or by way of another one.

    Where one leads depends on the others (`a/b -> ..`, `c -> a/b/..`), so they are judged when all are there.
    """
    root = os.path.realpath(target)
    for path, goal in links.items():
        place = os.path.dirname(path)
        if os.path.realpath(place) != os.path.join(root, os.path.relpath(place, target)).removesuffix("/."):
            raise CliError(f"refused: the sandbox sent {os.path.relpath(path, target)!r}, which lies behind a link.")
        os.makedirs(place, exist_ok=True)
        with suppress(FileNotFoundError):
            os.unlink(path)
        os.symlink(goal, path)
    for path in [path for path, goal in links.items() if leads_out(path, goal, root)]:
        name = os.path.relpath(path, target)
        warn(f"{name}: left out, since this link leads out of what is copied, to {links[path]}")
        os.unlink(path)


def leads_out(path: str, goal: str, root: str) -> bool:
    final = os.path.realpath(path)
    return goal.startswith("/") or not (final == root or final.startswith(f"{root}/"))


def put_in_place(source: str, target: str) -> None:
    """Moves what was unpacked to its name. Directories are joined; links in the target are replaced, never followed.

    Devices and the like stay: as root, a file moved to /dev/null would take the place of the device.
    """
    if not os.path.isdir(source) or os.path.islink(source):
        if os.path.isdir(target) and not os.path.islink(target):
            raise CliError(f"{target}: is a directory, and a file would take its place. Remove it first.")
        if os.path.lexists(target) and not (os.path.isfile(target) or os.path.islink(target)):
            raise CliError(f"{target}: is no file. For a device or a pipe use: docker-sandbox download ID REMOTE - >")
        os.replace(source, target)
    elif not os.path.lexists(target):
        os.rename(source, target)
    elif os.path.isdir(target) and not os.path.islink(target):
        for name in sorted(os.listdir(source)):
            put_in_place(os.path.join(source, name), os.path.join(target, name))
    else:
        raise CliError(f"{target}: is no directory, and a directory would take its place. Remove it first.")
