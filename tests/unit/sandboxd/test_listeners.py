"""The sockets of a daemon: who may open them, and what becomes of who comes while they are closed."""

import os
import socket
from pathlib import Path

import pytest

from sandboxd.errors import ConfigError
from sandboxd.listeners import let_nobody_in, open_tcp, open_unix
from tests.unit.sandboxd.conftest import OWN_GROUP


def test_the_unix_socket_replaces_an_old_one(directory: Path) -> None:
    path = directory / "run" / "s.sock"
    for _ in range(2):
        with open_unix(path, OWN_GROUP) as listener:
            assert path.stat().st_mode & 0o777 == 0o660 and path.stat().st_gid == os.getgid()
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
            assert listener.family == socket.AF_UNIX


def test_the_unix_socket_is_never_open_to_others_not_even_at_first(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, modes = directory / "s.sock", list[int]()
    chown = os.chown

    def looking(target: Path, uid: int, gid: int) -> None:
        modes.append(path.stat().st_mode & 0o777)
        chown(target, uid, gid)

    monkeypatch.setattr("sandboxd.listeners.os.chown", looking)
    before = os.umask(0)
    try:
        open_unix(path, OWN_GROUP).close()
        assert os.umask(0) == 0, "the umask is as it was"
    finally:
        os.umask(before)
    assert modes == [0o600]


def test_an_unknown_group_is_named(directory: Path) -> None:
    with pytest.raises(ConfigError, match=r"s\.sock: its group 'nobody-has-this' does not exist"):
        open_unix(directory / "s.sock", "nobody-has-this")


def test_a_port_in_use_is_named() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ConfigError, match="Is another sandboxd running"),
    ):
        open_tcp(taken.getsockname())


def came(listener: socket.socket) -> socket.socket:
    """A client that asks to be let in."""
    client = socket.socket(listener.family)
    client.settimeout(0.3)
    client.connect(listener.getsockname())
    return client


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_nobody_is_let_in_any_more_and_who_was_is_accepted(directory: Path, kind: str) -> None:
    listener = open_unix(directory / "s.sock", OWN_GROUP) if kind == "unix" else open_tcp(("127.0.0.1", 0))
    with listener:
        listener.setblocking(False)
        with came(listener) as early:
            let_nobody_in(listener)
            with pytest.raises(TimeoutError if kind == "tcp" else ConnectionRefusedError):
                came(listener)
            accepted = listener.accept()[0]
            with accepted:
                early.sendall(b"x")
                assert accepted.recv(1) == b"x"
            with pytest.raises(BlockingIOError):
                listener.accept()
