"""A tar stream from a sandbox becomes files here. The sandbox is not trusted: nothing may land outside of the target.

Not `tarfile.extract`: Debian 12's Python has no `filter="data"`, and releases that have it can be led out of the target
by links. Here links are made last, so that no name is ever resolved through one, and those that lead out are removed.
"""

import os
import posixpath
import shutil
import tarfile
from contextlib import suppress
from typing import BinaryIO

from sandboxd.cli.exits import CliError
from sandboxd.cli.http1 import Response
from sandboxd.cli.printing import warn
from sandboxd.cli.progress import Progress

BUFFER_BYTES = 1024 * 1024
MODE, MTIME = "x-file-mode", "x-file-mtime"  # octal, and Unix seconds


class Body:
    """The body of a response as a file that `tarfile` can read."""

    def __init__(self, response: Response, progress: Progress) -> None:
        self.headers = response.headers
        self._response, self._progress = response, progress

    def read(self, size: int) -> bytes:
        piece = self._response.read(size)
        self._progress.add(len(piece))
        return piece


def is_file(body: Body) -> bool:
    """Whether it is the content of one file; else it is an archive, of which an older agent makes a file as well."""
    return MODE in body.headers


def store(body: Body, path: str) -> None:
    """The content of one file, under a name that is not there yet."""
    with new_file(path) as file:
        while piece := body.read(BUFFER_BYTES):
            file.write(piece)
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
    directories: list[tuple[str, tarfile.TarInfo]] = []
    links: dict[str, str] = {}
    is_directory = False
    try:
        with tarfile.open(fileobj=body, mode="r|", bufsize=BUFFER_BYTES) as archive:  # type: ignore[call-overload]
            for member in archive:
                is_directory = is_directory or member.name == "." or member.name.startswith("./")
                path = inside(target, member.name)
                if member.isdir():
                    os.makedirs(path, exist_ok=True)
                    directories.append((path, member))
                elif member.isreg():
                    write_file(archive, member, path)
                elif member.islnk():
                    make_hard_link(inside(target, member.linkname), path, links)
                elif member.issym():
                    links[path] = member.linkname
                else:
                    warn(f"{member.name}: left out, since it is no file, directory or link")
    except tarfile.TarError as error:
        raise CliError(f"the sandbox sent a damaged archive: {error}.") from error
    while body.read(BUFFER_BYTES):  # the padding after the archive's end; a broken connection shows here
        pass
    make_links(target, links)
    for path, member in reversed(directories):  # last: a directory may be read-only
        os.chmod(path, member.mode & 0o777 | 0o700)
        os.utime(path, (member.mtime, member.mtime))
    return is_directory


def inside(target: str, name: str) -> str:
    """The path of a member. Raises CliError when its name leads out of the target."""
    normal = posixpath.normpath(name)
    if normal.startswith(("/", "../")) or normal == "..":
        raise CliError(f"refused: the sandbox sent a file whose name leads out of the target: {name!r}.")
    return os.path.join(target, normal)


def write_file(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
    """A new file, without set-user-id bits and the like."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with suppress(FileNotFoundError):
        os.unlink(path)  # a name that comes twice: it may be a hard link to another file
    source = archive.extractfile(member)
    with new_file(path) as file:
        if source is not None:
            shutil.copyfileobj(source, file, BUFFER_BYTES)
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
