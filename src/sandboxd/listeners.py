"""The sockets that a daemon listens on: how they are opened, and how nobody is cut off when they are closed."""

import ctypes
import grp
import os
import socket
import struct
from itertools import starmap
from pathlib import Path

from sandboxd.errors import ConfigError

SO_ATTACH_FILTER = 26  # asm-generic/socket.h
SOCK_FILTER = struct.Struct("HBBI")  # of linux/filter.h: code, where to jump if so, and if not, operand
NO_SYN = [  # drops what asks for a connection, and lets the rest of a handshake pass
    (0x30, 0, 0, 13),  # load a byte of the TCP header: its flags
    (0x45, 0, 1, 0x02),  # is SYN among them?
    (0x06, 0, 0, 0),
    (0x06, 0, 0, 0xFFFFFFFF),
]


def open_unix(path: Path, group: str) -> socket.socket:
    """A socket that is trusted by its file mode: 0660, root and the given group."""
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(f"{path}: its group {group!r} does not exist. Deploy again, or: groupadd {group}") from None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    os.chown(path, -1, gid)
    path.chmod(0o660)
    listener.listen(1024)
    return listener


def let_nobody_in(listener: socket.socket) -> None:
    """From now on, while who was let in before can still be accepted: close() would reset who comes between the two.

    Whoever comes by TCP is not heard, and his kernel asks again a second later; by a Unix socket he is refused.
    """
    if listener.family == socket.AF_UNIX:
        listener.shutdown(socket.SHUT_RD)
        return
    program = ctypes.create_string_buffer(b"".join(starmap(SOCK_FILTER.pack, NO_SYN)))
    fprog = struct.pack("HP", len(NO_SYN), ctypes.addressof(program))
    listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)


def open_tcp(address: tuple[str, int], key: str = "listen") -> socket.socket:
    try:
        return socket.create_server(address, backlog=1024)
    except OSError as error:
        raise ConfigError(
            f"{key} = {address[0]}:{address[1]}: {error.strerror}. Is another sandboxd running?"
        ) from error
