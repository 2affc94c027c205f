"""Every effect that an examination has on the host, in one place, for tests to replace.

Runs commands, opens connections and reads files. Changes nothing.
"""

import os
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

COMMAND_S = 10.0
CONNECT_S = 5.0
MAX_ANSWER_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Output:
    """Of a command. The code is 127 when it is not installed, as in a shell, and 124 when it took too long."""

    code: int
    text: str


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes


def run(command: list[str], content: bytes = b"") -> Output:
    """Runs a command with that standard input, in the language of the program texts."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, input=content, capture_output=True, timeout=COMMAND_S, check=False, env=environment
        )
    except FileNotFoundError:
        return Output(127, f"{command[0]} is not installed")
    except subprocess.TimeoutExpired:
        return Output(124, f"{command[0]} took longer than {COMMAND_S:.0f} s")
    return Output(done.returncode, (done.stdout or done.stderr).decode(errors="replace"))


def certificate(address: tuple[str, int], name: str) -> bytes:
    """The certificate (DER) that is served there for that name, whoever signed it. Raises OSError."""
    with (
        socket.create_connection(address, CONNECT_S) as plain,
        _any_certificate().wrap_socket(plain, server_hostname=name) as connection,
    ):
        return connection.getpeercert(binary_form=True) or b""


def fetch(address: tuple[str, int], host: str, tls: bool) -> Answer:
    """GET / of that host at that address, with SNI when `tls`. Raises OSError."""
    with socket.create_connection(address, CONNECT_S) as plain:
        connection = _any_certificate().wrap_socket(plain, server_hostname=host) if tls else plain
        with connection:
            connection.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            received = b""
            while len(received) < MAX_ANSWER_BYTES and (piece := connection.recv(65536)):
                received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[1].isdigit():
        raise ConnectionError(f"{address[0]}:{address[1]} answers what is no HTTP: {head[:40]!r}")
    return Answer(int(words[1]), body)


def _any_certificate() -> ssl.SSLContext:
    """What is served is to be seen, whoever signed it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@dataclass(frozen=True)
class Effects:
    """`root` is the file system's root, below which files are read; addresses are (host, port)."""

    root: Path = Path("/")
    run: Callable[..., Output] = run
    certificate: Callable[[tuple[str, int], str], bytes] = certificate
    fetch: Callable[[tuple[str, int], str, bool], Answer] = fetch
    space: Callable[[str], os.statvfs_result] = os.statvfs
    now: Callable[[], float] = time.time
    uptime: Callable[[], float] = time.monotonic
    edge: tuple[str, int] = ("127.0.0.1", 443)

    def text(self, path: str) -> str:
        """Of a file of the host. Raises OSError."""
        return (self.root / path.lstrip("/")).read_text(errors="replace")

    def changed_at(self, path: str) -> float:
        """Unix seconds; 0 for a file that is not there."""
        try:
            return (self.root / path.lstrip("/")).stat().st_mtime
        except OSError:
            return 0.0
