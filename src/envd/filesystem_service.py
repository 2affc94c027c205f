"""`filesystem.Filesystem` of the protocol. Works on the file system as the calling user, in threads."""

import errno
import os
from collections.abc import Callable, Iterator
from stat import S_ISDIR

from envd import fields
from envd.codec import JsonObject
from envd.connect import Call, Method, Unary
from envd.entries import describe
from envd.errors import EnvdError, invalid_argument
from envd.identity import run_as
from envd.oserrors import rpc_error
from envd.tools import Tool
from envd.users import User, expand_path, make_directories


def methods() -> dict[str, Method]:
    """The methods of the service by name, those that watch apart (envd.watch_service)."""
    return {
        "Stat": _in_thread(stat),
        "ListDir": _in_thread(list_dir),
        "MakeDir": _in_thread(make_dir),
        "Move": Unary(move),
        "Remove": Unary(remove),
    }


def stat(call: Call, message: JsonObject) -> JsonObject:
    return {"entry": describe(_path(call, message, "path"))}


def list_dir(call: Call, message: JsonObject) -> JsonObject:
    """`depth` levels (0 means 1), in lexicographic pre-order; symlinks are not followed below the first level."""
    path = _path(call, message, "path")
    if not os.path.isdir(path):
        os.stat(path)  # says it better when there is nothing at all
        raise invalid_argument(f"path is not a directory: {path}")
    depth = max(1, fields.integer(message, "depth"))
    return {"entries": list(_walk(path, depth))}


def make_dir(call: Call, message: JsonObject) -> JsonObject:
    path = _path(call, message, "path")
    if os.path.isdir(path):
        raise EnvdError("already_exists", f"directory already exists: {path}")
    if os.path.lexists(path):
        raise invalid_argument(f"path already exists but it is not a directory: {path}")
    make_directories(path)
    return {"entry": describe(path)}


async def move(call: Call, message: JsonObject) -> JsonObject:
    source, destination = _path(call, message, "source"), _path(call, message, "destination")
    try:
        if not await run_as(call.user, _rename, source, destination):
            await _finish(["mv", "-T", "--", source, destination], call.user)  # keeps owners, modes and links
        return {"entry": await run_as(call.user, describe, destination)}
    except OSError as error:
        raise rpc_error(error) from error


async def remove(call: Call, message: JsonObject) -> JsonObject:
    """Remove whatever is there, with everything in it; nothing there is fine too."""
    # Late, because it brings compressors that the idle agent need not hold in memory; but not as the user, who may not
    # be allowed to read Python's own files.
    from shutil import rmtree

    path = _path(call, message, "path")
    try:
        await run_as(call.user, _remove, path, rmtree)
    except RecursionError:  # the tree is deeper than Python's stack; rm knows no such limit
        await _finish(["rm", "-rf", "--", path], call.user)
    except OSError as error:
        raise rpc_error(error) from error
    return {}


def _in_thread(method: Callable[[Call, JsonObject], JsonObject]) -> Unary:
    """A blocking method, run as the caller, as a unary one."""

    async def call_in_thread(call: Call, message: JsonObject) -> JsonObject:
        try:
            return await run_as(call.user, method, call, message)
        except OSError as error:
            raise rpc_error(error) from error

    return Unary(call_in_thread)


def _path(call: Call, message: JsonObject, name: str) -> str:
    return expand_path(fields.text(message, name), call.user, call.config.workdir)


def _remove(path: str, remove_tree: Callable[[str], None]) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if S_ISDIR(found.st_mode):
        remove_tree(path)
    else:
        os.unlink(path)


def _rename(source: str, destination: str) -> bool:
    """False when the two are on different file systems; /code is one of its own."""
    os.lstat(source)
    make_directories(os.path.dirname(destination))
    try:
        os.rename(source, destination)
    except OSError as error:
        if error.errno == errno.EXDEV:
            return False
        raise
    return True


async def _finish(command: list[str], user: User) -> None:
    tool = Tool(command, user)
    try:
        if await tool.finish():
            raise EnvdError("internal", tool.diagnostics or f"{command[0]} was killed")
    finally:
        tool.close()


def _walk(path: str, depth: int) -> Iterator[JsonObject]:
    """With a list and not with recursion: a tree may be deeper than Python's stack."""
    todo = [(os.path.join(path, name), 1) for name in sorted(os.listdir(path), reverse=True)]
    while todo:
        child, level = todo.pop()
        try:
            yield describe(child)
            if level < depth and os.path.isdir(child) and not os.path.islink(child):
                names = sorted(os.listdir(child), reverse=True)
                todo += [(os.path.join(child, name), level + 1) for name in names]
        except (FileNotFoundError, PermissionError):  # gone since the directory was read, or closed to the user
            continue
