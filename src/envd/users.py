"""Linux users, and paths as a user means them. Reads the user database; creates directories."""

import contextlib
import os
import pwd
from dataclasses import dataclass

from envd.errors import invalid_argument, unauthenticated


@dataclass(frozen=True)
class User:
    """An account of the sandbox, with everything that a process of his needs."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str


def find_user(name: str) -> User:
    """Look `name` up afresh (accounts come and go in a sandbox); raise `unauthenticated` when it does not exist."""
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise unauthenticated(f"invalid username: '{name}'") from None
    groups = tuple(os.getgrouplist(name, entry.pw_gid))
    return User(name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir)


def expand_path(path: str, user: User, workdir: str) -> str:
    """Make `path` absolute and normal: "" and "~" are the home, a relative path begins at `workdir` (else the home)."""
    if "\0" in path:
        raise invalid_argument(f"path {path!r} contains a null byte")
    try:
        os.fsencode(path)
    except UnicodeEncodeError:  # JSON can spell it ("\\ud800"), a file's name cannot
        raise invalid_argument(f"path {path!r} has half of a surrogate pair, which no UTF-8 text can hold") from None
    if path in ("", "~"):
        path = user.home
    elif path.startswith("~/"):
        path = os.path.join(user.home, path[2:])
    else:
        path = os.path.join(workdir or user.home, path)
    return os.path.normpath(path)


def make_directories(path: str) -> None:
    """Create `path` and its missing parents, 0755, as whoever this thread acts; what exists already stays as it is."""
    missing = []
    while not os.path.lexists(path):
        missing.append(path)
        path = os.path.dirname(path)
    if not os.path.isdir(path):
        raise invalid_argument(f"path '{path}' is not a directory")
    for directory in reversed(missing):
        with contextlib.suppress(FileExistsError):  # somebody else was faster
            os.mkdir(directory, 0o755)
