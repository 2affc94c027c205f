"""The sockets of the daemon, its word to systemd, and its complaints."""

import socket
from pathlib import Path

import pytest

from sandboxd import __main__ as daemon
from sandboxd.errors import ConfigError


def test_the_unix_socket_replaces_an_old_one(directory: Path) -> None:
    path = directory / "run" / "s.sock"
    for _ in range(2):
        with daemon.open_unix(path, "root") as listener:
            assert path.stat().st_mode & 0o777 == 0o660
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
            assert listener.family == socket.AF_UNIX


def test_an_unknown_group_is_named(directory: Path) -> None:
    with pytest.raises(ConfigError, match="socket_group = 'nobody-has-this': there is no such group"):
        daemon.open_unix(directory / "s.sock", "nobody-has-this")


def test_a_port_in_use_is_named() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ConfigError, match="Is another sandboxd running"),
    ):
        daemon.open_tcp(taken.getsockname())


def test_systemd_is_told(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        daemon.notify_ready()
        assert receiver.recv(100) == b"READY=1"
    monkeypatch.delenv("NOTIFY_SOCKET")
    daemon.notify_ready()


def test_a_bad_configuration_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["sandboxd", "--config", str(tmp_path / "none.toml")])
    assert daemon.main() == 1
    assert capsys.readouterr().err.splitlines() == [
        f"sandboxd: {tmp_path}/none.toml: No such file or directory. Deploy the host, or name the file with --config."
    ]
