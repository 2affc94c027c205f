"""`filesystem.Filesystem` of the protocol. Works on the file system as root, in threads; what it creates is the user's."""

import asyncio
import errno
import os
import subprocess
from collections.abc import AsyncGenerator, Callable, Iterator

from envd import fields
from envd.codec import JsonObject
from envd.connect import Call, Method, ServerStream, Unary
from envd.entries import describe
from envd.errors import EnvdError, invalid_argument
from envd.oserrors import rpc_error
from envd.users import expand_path, make_directories

def methods() -> dict[str, Method]:
    """The methods of the service by name. Watching is not there yet and says so."""
    watch = {"WatchDir": ServerStream(watch_dir), "CreateWatcher": Unary(no_watcher)}
    watch |= {"GetWatcherEvents": Unary(no_watcher), "RemoveWatcher": Unary(no_watcher)}
    served = {"Stat": stat, "ListDir": list_dir, "MakeDir": make_dir, "Move": move, "Remove": remove}
    return watch | {name: _in_thread(method) for name, method in served.items()}


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
    make_directories(path, call.user)
    return {"entry": describe(path)}


def move(call: Call, message: JsonObject) -> JsonObject:
    source, destination = _path(call, message, "source"), _path(call, message, "destination")
    os.lstat(source)
    make_directories(os.path.dirname(destination), call.user)
    try:
        os.rename(source, destination)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # /code is a file system of its own. mv keeps owners, modes and links across the border.
        mv = subprocess.run(["mv", "-T", "--", source, destination], capture_output=True)
        if mv.returncode:
            raise EnvdError("internal", mv.stderr.decode(errors="replace").strip()) from None
    return {"entry": describe(destination)}


def remove(call: Call, message: JsonObject) -> JsonObject:
    """Remove whatever is there, with everything in it; nothing there is fine too."""
    path = _path(call, message, "path")
    if os.path.isdir(path) and not os.path.islink(path):
        import shutil  # here, because it brings compressors that the idle agent need not hold in memory

        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
    return {}


async def watch_dir(call: Call, message: JsonObject) -> AsyncGenerator[JsonObject, None]:
    raise EnvdError("unimplemented", "watching directories is not implemented")
    yield {}  # makes this the generator that a server stream is


async def no_watcher(call: Call, message: JsonObject) -> JsonObject:
    raise EnvdError("unimplemented", "watching directories is not implemented")


def _in_thread(method: Callable[[Call, JsonObject], JsonObject]) -> Unary:
    """A blocking method as a unary one: a slow disk, or a huge tree, holds nobody else up."""

    async def call_in_thread(call: Call, message: JsonObject) -> JsonObject:
        try:
            return await asyncio.to_thread(method, call, message)
        except OSError as error:
            raise rpc_error(error) from error

    return Unary(call_in_thread)


def _path(call: Call, message: JsonObject, name: str) -> str:
    return expand_path(fields.text(message, name), call.user, call.config.workdir)


def _walk(path: str, depth: int) -> Iterator[JsonObject]:
    for name in sorted(os.listdir(path)):
        child = os.path.join(path, name)
        try:
            yield describe(child)
        except FileNotFoundError:  # gone since the directory was read
            continue
        if depth > 1 and os.path.isdir(child) and not os.path.islink(child):
            yield from _walk(child, depth - 1)
