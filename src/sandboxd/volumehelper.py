"""One request about the content of a volume, in a process of its own that can touch nothing else.

The host must not walk, as root, a file system that sandboxes write. So this process, before it looks at any name in the
volume, becomes what root inside a sandbox is: it enters a new user namespace that maps the sandboxes' range of uids and
nothing else, makes the volume its root directory, and drops all capabilities but those over files of that range. What
follows in `volumefiles` follows no link; should that be wrong, there is nothing here to be reached. A process for each
request has no state that one caller could leave to the next, and ends with its caller. A sandbox with the volume would
be as safe, and a hundred times as slow.

Standard input has a line of JSON, the request, and for `write` the content in pieces, each after its length in four
bytes; a length of zero is the end, without which nothing is kept. Standard output has a line of JSON, `{"found": ...}`
or `{"status", "message"}`, and for `read` the content.
"""

import ctypes
import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

from sandboxd import volumefiles
from sandboxd.volumefiles import Refused

LIFE_S = 3600  # E2B's clients give up a transfer then
PIECE = 256 * 1024
RANGE = 65536  # uids of the sandboxes, as the engine maps them
CLONE_NEWUSER = 0x10000000
PR_SET_NO_NEW_PRIVS = 38
KEPT = 1 << 0 | 1 << 1 | 1 << 3  # CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER
VERSION_3 = 0x20080522  # of capset(2)'s header
LENGTH = struct.Struct(">I")


def main(arguments: list[str]) -> None:
    """`ROOT BASE_UID`; a BASE_UID of -1 leaves the process what it is, which is for tests without root."""
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, lambda *_: sys.exit(1))  # what is half written is removed
    signal.alarm(LIFE_S)
    path, base_uid = arguments
    root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    "warm".encode("idna").decode("utf-8", errors="replace")  # codecs are files, too
    if int(base_uid) >= 0:
        confine(root, int(base_uid))
    serve(root, sys.stdin.buffer, sys.stdout.buffer)


def serve(root: int, source: BinaryIO, target: BinaryIO) -> None:
    fd = size = 0
    try:
        request = json.loads(source.readline())
        if request["do"] == "read":
            fd, size = volumefiles.reading(root, request["path"])
            answer: dict[str, Any] = {"found": size}
        else:
            answer = {"found": done(root, request, source)}
    except Refused as refused:
        answer = {"status": refused.status, "message": str(refused)}
    target.write(json.dumps(answer).encode() + b"\n")
    target.flush()
    if fd:
        send(fd, size, target)


def done(root: int, request: dict[str, Any], source: BinaryIO) -> object:
    path, values = request["path"], request.get("values", {})
    match request["do"]:
        case "look":
            return volumefiles.look(root, path)
        case "list":
            return volumefiles.listing(root, path, **values)
        case "make":
            return volumefiles.make_directory(root, path, **values)
        case "write":
            return volumefiles.write(root, path, pieces(source), **values)
        case "change":
            return volumefiles.change(root, path, **values)
        case "remove":
            volumefiles.remove(root, path)
            return None
    raise Refused(400, f"{request['do']!r} cannot be done")


def pieces(source: BinaryIO) -> Iterator[bytes]:
    while length := LENGTH.unpack(source.read(LENGTH.size) or b"\xff" * LENGTH.size)[0]:
        piece = source.read(length) if length < 2**31 else b""
        if len(piece) < length:
            raise Refused(400, "the upload broke off")
        yield piece


def send(fd: int, size: int, target: BinaryIO) -> None:
    """As many bytes as were promised, or fewer when the file became shorter meanwhile."""
    while size > 0 and (piece := os.read(fd, min(size, PIECE))):
        target.write(piece)
        size -= len(piece)
    target.flush()


def confine(root: int, base_uid: int) -> None:
    """Raises OSError when anything of it fails: nothing is done then."""
    libc = ctypes.CDLL(None, use_errno=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.setgroups([])
    said, saying = os.pipe()
    me = os.getpid()
    mapper = os.fork()
    if mapper == 0:
        write_maps(me, base_uid, said, saying)
    os.close(said)
    check(libc.unshare(CLONE_NEWUSER), "unshare")
    os.close(saying)
    if os.waitpid(mapper, 0)[1]:
        raise OSError(f"the uids from {base_uid} on cannot be mapped")
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    os.fchdir(root)
    os.chroot(".")
    os.chdir("/")
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    header = struct.pack("=Ii", VERSION_3, 0)
    check(libc.capset(header, struct.pack("=6I", KEPT, KEPT, 0, 0, 0, 0)), "capset")


def write_maps(process: int, base_uid: int, said: int, saying: int) -> None:
    """In a child that is root still, once the parent is in its new namespace. Does not return."""
    failed = 1
    try:
        os.close(saying)
        os.read(said, 1)  # ends when the parent closes the other side
        for name in ("gid_map", "uid_map"):
            with open(f"/proc/{process}/{name}", "w") as file:
                file.write(f"0 {base_uid} {RANGE}")
        failed = 0
    finally:
        os._exit(failed)


def check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    main(sys.argv[1:])
