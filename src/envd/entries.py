"""EntryInfo: how the protocol describes a file. Reads the file system."""

import contextlib
import grp
import os
import pwd
import stat
from collections.abc import Mapping
from datetime import UTC, datetime

from envd.codec import JsonObject

XATTR_PREFIX = "user.e2b."
FIRST_NS, LAST_NS = -62135596800 * 10**9, 253402300800 * 10**9 - 1  # of the years 1 and 9999


def describe(path: str) -> JsonObject:
    """The EntryInfo of `path`; raises OSError. Of a symlink, type and mode are its target's, the rest its own."""
    own = os.lstat(path)
    entry: JsonObject = {"name": os.path.basename(path) or "/", "path": path}
    if stat.S_ISLNK(own.st_mode):
        target = _target_stat(path)
        entry |= {
            "type": _file_type(target.st_mode) if target else "FILE_TYPE_UNSPECIFIED",
            "mode": stat.S_IMODE((target or own).st_mode),
            "symlinkTarget": os.path.realpath(path),
            "isSymlink": True,
        }
    else:
        entry |= {"type": _file_type(own.st_mode), "mode": stat.S_IMODE(own.st_mode)}
    entry |= {
        "size": str(own.st_size),
        "permissions": _permissions(own.st_mode),
        "owner": _user_name(own.st_uid),
        "group": _group_name(own.st_gid),
        "modifiedTime": _timestamp(own.st_mtime_ns),
    }
    if stat.S_ISREG(own.st_mode) and (metadata := read_metadata(path)):
        entry["metadata"] = metadata
    return entry


def read_metadata(path: str | int) -> dict[str, str]:
    """The metadata that an upload left as extended attributes; empty where the file system has none."""
    try:
        names = [name for name in os.listxattr(path) if name.startswith(XATTR_PREFIX)]
        return {name.removeprefix(XATTR_PREFIX): os.getxattr(path, name).decode(errors="replace") for name in names}
    except OSError:
        return {}


def replace_metadata(fd: int, metadata: Mapping[str, str]) -> None:
    """Make `metadata` the whole metadata of an open file; silently nothing where the file system has no attributes."""
    with contextlib.suppress(OSError):
        for name in os.listxattr(fd):
            if name.startswith(XATTR_PREFIX) and name.removeprefix(XATTR_PREFIX) not in metadata:
                os.removexattr(fd, name)
        for key, value in metadata.items():
            os.setxattr(fd, XATTR_PREFIX + key, value.encode("utf-8", "surrogateescape"))


def _target_stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:  # dangling, or a loop
        return None


def _file_type(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "FILE_TYPE_DIRECTORY"
    return "FILE_TYPE_FILE" if stat.S_ISREG(mode) else "FILE_TYPE_UNSPECIFIED"


def _permissions(mode: int) -> str:
    """As Go's FileMode prints them: like ls, but a symlink is L."""
    text = stat.filemode(mode)
    return "L" + text[1:] if stat.S_ISLNK(mode) else text


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _timestamp(time_ns: int) -> str:
    """Within the years 1 to 9999, which are protobuf's; files may claim any."""
    seconds, nanoseconds = divmod(min(max(time_ns, FIRST_NS), LAST_NS), 1_000_000_000)
    fraction = f".{nanoseconds:09}".rstrip("0") if nanoseconds else ""
    return f"{datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()}{fraction}Z"
