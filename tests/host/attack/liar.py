"""An agent that means harm to whoever asks it. Takes the place of the real one in a sandbox; standard library only.

It says that it is well. What it answers to a request for a file is chosen by the file's name: see LIES.
"""

import io
import itertools
import os
import struct
import sys
import tarfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

MIB = 1 << 20
TIB = 1 << 40
TAR = {"Content-Type": "application/x-tar"}
FILE = {"Content-Type": "application/octet-stream", "X-File-Mode": "4755", "X-File-Mtime": "0"}


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, goal: str = "", mode: int = 0o6777) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = kind, goal, mode, len(content)
    info.devmajor, info.devminor = 1, 3
    return info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def archive(*members: bytes) -> Iterator[bytes]:
    yield member("./", kind=tarfile.DIRTYPE, mode=0o755)
    yield from members
    yield bytes(1024)


def number(value: int) -> bytes:
    """A size too large for octal digits, as GNU tar writes it."""
    return b"\x80" + value.to_bytes(11, "big")


def sized(name: str, kind: bytes, size: int) -> bytes:
    """A head that promises `size` bytes."""
    head = bytearray(member(name, kind=kind))
    head[124:136] = number(size)
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


def sparse() -> Iterator[bytes]:
    """A file of a tebibyte, all of it a hole: 2 KB on the wire."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.PAX_FORMAT) as made:
        info = tarfile.TarInfo("./sparse")
        info.pax_headers = {"GNU.sparse.map": f"{TIB},0", "GNU.sparse.size": str(TIB), "GNU.sparse.numblocks": "1"}
        made.addfile(info)
    yield member("./", kind=tarfile.DIRTYPE)
    yield whole.getvalue()


def old_sparse() -> Iterator[bytes]:
    head = bytearray(member("./sparse", kind=tarfile.GNUTYPE_SPARSE))
    head[386:398], head[398:410], head[483:495] = number(TIB), number(0), number(TIB)
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return archive(bytes(head))


def long_name() -> Iterator[bytes]:
    """A name without an end."""
    yield sized("././@LongLink", tarfile.GNUTYPE_LONGNAME, TIB)
    yield from itertools.repeat(b"a" * MIB)


def long_header() -> Iterator[bytes]:
    yield sized("./x", tarfile.XHDTYPE, TIB)
    yield from itertools.repeat(b"a" * MIB)


def endless() -> Iterator[bytes]:
    return itertools.repeat(b"a" * MIB)


def endless_member() -> Iterator[bytes]:
    yield member("./", kind=tarfile.DIRTYPE)
    yield sized("./endless", tarfile.REGTYPE, TIB)
    yield from endless()


def endless_links() -> Iterator[bytes]:
    for number in itertools.count():
        yield b"".join(member(f"./{number}-{n}", kind=tarfile.SYMTYPE, goal="x" * 90) for n in range(500))


def endless_json() -> Iterator[bytes]:
    yield b'[{"path": "'
    yield from endless()


DEVICES = {"block": tarfile.BLKTYPE, "character": tarfile.CHRTYPE, "pipe": tarfile.FIFOTYPE}
LIES: dict[str, tuple[dict[str, str], Callable[[], Iterator[bytes]]]] = {
    "up": (TAR, lambda: archive(member("./../../escaped", b"x"))),
    "far-up": (TAR, lambda: archive(member("../" * 20 + "tmp/attack-escaped", b"x"))),
    "absolute": (TAR, lambda: archive(member("/tmp/attack-escaped", b"x"))),
    "through-a-link": (
        TAR,
        lambda: archive(member("./d", kind=tarfile.SYMTYPE, goal="/tmp"), member("./d/attack-escaped", b"x")),
    ),
    "link-out": (TAR, lambda: archive(member("./out", kind=tarfile.SYMTYPE, goal="/etc/shadow"))),
    "link-to-parent": (TAR, lambda: archive(member("./out", kind=tarfile.SYMTYPE, goal="../canary"))),
    "hard-link": (TAR, lambda: archive(member("./out", kind=tarfile.LNKTYPE, goal="/etc/shadow"))),
    "hard-link-up": (TAR, lambda: archive(member("./out", kind=tarfile.LNKTYPE, goal="../canary"))),
    "devices": (TAR, lambda: archive(*(member(f"./{name}", kind=kind) for name, kind in DEVICES.items()))),
    "set-uid": (TAR, lambda: archive(member("./set-uid", b"#!/bin/sh\n"))),
    "other-name": (TAR, lambda: iter([member("canary", b"x"), bytes(1024)])),
    "sparse": (TAR, sparse),
    "old-sparse": (TAR, old_sparse),
    "long-name": (TAR, long_name),
    "long-header": (TAR, long_header),
    "endless-tar": (TAR, endless_member),
    "endless-links": (TAR, endless_links),
    "endless-file": (FILE, endless),
    "cut": (TAR, lambda: iter([member("./", kind=tarfile.DIRTYPE), member("./cut", b"x" * MIB)[: MIB // 2]])),
    "no-tar": (TAR, lambda: iter([os.urandom(4096)])),
    "set-uid-file": (FILE, lambda: iter([b"#!/bin/sh\n"])),
}
# What a call of Connect gets, by the name in the path that it asks for.
WORDS: dict[str, Callable[[], Iterator[bytes]]] = {
    "endless-json": endless_json,
    "wrong-shape": lambda: iter([b'{"entry": 1, "entries": [1], "event": 1}']),
    "no-json": lambda: iter([b"\xff\xfe"]),
    "deep-json": lambda: iter([b"[" * 200_000]),
}
STREAMS: dict[str, Callable[[], Iterator[bytes]]] = {
    "huge-message": lambda: itertools.chain([struct.pack(">BI", 0, 0xFFFFFFFF)], endless()),
    "wrong-event": lambda: iter([struct.pack(">BI", 0, 2) + b"{}"]),
    "no-json-event": lambda: iter([struct.pack(">BI", 0, 2) + b"\xff\xff"]),
}


class Liar(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        wanted = urlsplit(self.path)
        if wanted.path == "/health":
            self.send_response(204)
            self.end_headers()
            return
        name = parse_qs(wanted.query).get("path", [""])[0].rpartition("/")[2]
        self.say(*LIES.get(name, (FILE, lambda: iter([b"nothing"]))))

    def do_POST(self) -> None:
        asked = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(errors="replace")
        if "Start" in self.path:
            told = next((lie for name, lie in STREAMS.items() if name in asked), STREAMS["wrong-event"])
            self.say({"Content-Type": "application/connect+json"}, told)
        else:
            told = next((lie for name, lie in WORDS.items() if name in asked), WORDS["no-json"])
            self.say({"Content-Type": "application/json"}, told)

    def say(self, headers: dict[str, str], pieces: Callable[[], Iterator[bytes]]) -> None:
        self.send_response(200)
        for name, value in {**headers, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        for piece in pieces():
            self.wfile.write(piece)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def main() -> None:
    if not os.path.isdir("/run/sandbox"):
        sys.exit("this is no sandbox: nobody is lied to")
    ThreadingHTTPServer(("0.0.0.0", 49983), Liar).serve_forever()


if __name__ == "__main__":
    main()
