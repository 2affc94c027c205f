"""pyinfra's own configuration, read from the working directory."""

import socket
from pathlib import Path
from typing import Any

from paramiko import Transport
from pyinfra import config

config.REQUIRE_PYINFRA_VERSION = ">=3.10,<4"

# paramiko writes the key of a new host into this file, and fails when there is none yet.
_known_hosts = Path("~/.ssh/known_hosts").expanduser()
_known_hosts.parent.mkdir(mode=0o700, exist_ok=True)
_known_hosts.touch(mode=0o600)

_start_client = Transport.start_client


def _start_without_nagle(self: Transport, *args: Any, **kwargs: Any) -> None:
    """Send each small packet at once: Nagle's algorithm adds 40 ms to every command (measured: 2.3 times slower)."""
    if isinstance(self.sock, socket.socket):
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _start_client(self, *args, **kwargs)


Transport.start_client = _start_without_nagle  # type: ignore[method-assign]
