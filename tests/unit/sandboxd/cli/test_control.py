"""The client of the control plane: refusals, silence and nonsense become messages and exit codes."""

import grp
import os
import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sandboxd.cli import control as module
from sandboxd.cli.control import ControlPlane, group_of, refusal, sandbox_path
from sandboxd.cli.exits import CliError
from tests.unit.sandboxd.cli import doubles
from tests.unit.sandboxd.cli.doubles import ID, answer_of


@pytest.fixture
def client(control: doubles.ControlPlane) -> ControlPlane:
    return ControlPlane(str(control.path))


def refused(client: ControlPlane, code: int) -> str:
    with pytest.raises(CliError) as caught:
        client.get("/pool")
    assert caught.value.exit_code == code
    return str(caught.value)


def test_requests_are_json_and_close_the_connection(client: ControlPlane, control: doubles.ControlPlane) -> None:
    control.answer("POST /cleanup", 200, {"removed": []})
    assert client.post("/cleanup", {"olderThan": 5}) == {"removed": []}
    (request,) = control.requests
    assert (request.body, request.headers["connection"]) == ({"olderThan": 5}, "close")
    assert request.headers["content-type"] == "application/json"


def test_an_answer_without_a_body(client: ControlPlane, control: doubles.ControlPlane) -> None:
    control.answer(f"DELETE /sandboxes/{ID}", 204)
    assert client.call("DELETE", f"/sandboxes/{ID}") is None


def test_a_sandbox_is_asked_for_by_what_was_typed(
    client: ControlPlane, control: doubles.ControlPlane, sandbox: dict[str, Any]
) -> None:
    assert client.sandbox(ID) == sandbox
    assert sandbox_path("../pool?x=ü") == "/sandboxes/..%2Fpool%3Fx%3D%C3%BC"


@pytest.mark.parametrize(
    ("status", "code"), [(400, 1), (401, 1), (404, 3), (409, 1), (429, 5), (500, 1), (502, 1), (503, 5)]
)
def test_refusals(client: ControlPlane, control: doubles.ControlPlane, status: int, code: int) -> None:
    control.answer("GET /pool", status, {"code": status, "message": "what is wrong, and what to do"})
    assert refused(client, code) == "what is wrong, and what to do"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"message": "m"}', "m"),
        (b"<html>\xff</html>", "HTTP status 500: <html>\ufffd</html>"),
        (b"[]", "HTTP status 500: []"),
        (b'{"detail": 1}', 'HTTP status 500: {"detail": 1}'),
        (b"", "HTTP status 500: no message"),
    ],
)
def test_a_refusal_of_any_form_has_a_message(content: bytes, message: str) -> None:
    assert refusal(500, content) == message


def test_an_answer_that_is_no_json(client: ControlPlane, control: doubles.ControlPlane) -> None:
    control.answer("GET /pool", 200, b"<html>")
    assert refused(client, 1) == "sandboxd answers GET /pool with what is no JSON: b'<html>'."


@pytest.mark.parametrize(
    "script", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", b"nonsense\r\n", b"HTTP/1.1 200 OK\r\n"]
)
def test_hanging_up_is_not_repeated(client: ControlPlane, control: doubles.ControlPlane, script: bytes) -> None:
    """Whether it was done is not known: a second sandbox would be nobody's."""
    control.answers["GET /pool"] = script
    message = refused(client, 4)
    assert message.startswith("sandboxd hung up on GET /pool: ") and "systemctl status '*-sandboxd'" in message
    assert len(control.requests) == 1


def test_silence(client: ControlPlane, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.05)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(directory / "silent"))
        silent.listen()
        client = ControlPlane(str(directory / "silent"))
        assert "has not answered" in refused(client, 1)


def test_silence_in_the_middle_of_a_stream_is_told_with_its_own_patience(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / "stops"))
        listening.listen()

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n{}\n")
                connection.recv(1)  # until the client has given up

        answering = threading.Thread(target=answer)
        answering.start()
        lines = ControlPlane(str(directory / "stops")).stream("POST", "/doctor", {}, 0.05)
        assert next(lines) == {}
        with pytest.raises(CliError, match=r"has not answered for 0\.05 s \(POST /doctor\)"):
            next(lines)
        answering.join()


def test_no_socket(directory: Path) -> None:
    message = refused(ControlPlane(str(directory / "none")), 4)
    assert message.startswith(f"sandboxd does not answer on {directory}/none: No such file or directory.")
    assert "systemctl status" in message and "journalctl" in message


def test_a_daemon_that_restarts_is_waited_for(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its socket is there, but nobody listens for a moment."""
    waits: list[float] = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / "restarting"))

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer_of(200, [1]))

        def wait(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                listening.listen()
                threading.Thread(target=answer, daemon=True).start()

        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=time.monotonic, sleep=wait))
        assert ControlPlane(str(directory / "restarting")).get("/pool") == [1]
    assert len(waits) == 3


def test_a_daemon_that_stays_away(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESTART_S", 0.12)
    with socket.socket(socket.AF_UNIX) as stopped:
        stopped.bind(str(directory / "stopped"))
        assert "Connection refused" in refused(ControlPlane(str(directory / "stopped")), 4)


def test_a_user_outside_the_group(client: ControlPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused and not unreachable: the daemon is well, and its remedy is another one."""

    class Closed(socket.socket):
        def connect(self, _: Any) -> None:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "socket", Closed)
    group = grp.getgrgid(os.getgid()).gr_name
    assert f"usermod --append --groups {group} USER" in refused(client, 1)


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), FileNotFoundError(2, "No such file")])
def test_a_socket_that_is_just_being_opened(directory: Path, monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    tries, listening = list[str](), socket.socket(socket.AF_UNIX)
    listening.bind(str(directory / "s.sock"))
    listening.listen()

    class Opening(socket.socket):
        def connect(self, path: Any) -> None:
            tries.append(path)
            if len(tries) < 3:
                raise error
            super().connect(path)

    monkeypatch.setattr(module, "OPENING_S", 60.0)
    monkeypatch.setattr(socket, "socket", Opening)
    with listening:
        ControlPlane(str(directory / "s.sock")).connect().close()
    assert len(tries) == 3


def test_the_group_of_a_socket(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert group_of(str(directory)) == grp.getgrgid(directory.stat().st_gid).gr_name
    assert group_of(str(directory / "none")) == "GROUP"

    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.setattr(grp, "getgrgid", unknown)
    assert group_of(str(directory)) == str(directory.stat().st_gid)


def test_the_lines_of_a_stream(client: ControlPlane, control: doubles.ControlPlane) -> None:
    control.answer("POST /doctor", 200, b'{"name": "a"}\n{"name": "b"}\n')
    assert list(client.stream("POST", "/doctor", {"probe": True})) == [{"name": "a"}, {"name": "b"}]
    assert control.requests[0].body == {"probe": True}


@pytest.mark.parametrize(("status", "code"), [(503, 5), (500, 1), (404, 3)])
def test_a_refusal_in_the_middle_of_a_stream(
    client: ControlPlane, control: doubles.ControlPlane, status: int, code: int
) -> None:
    control.answer("GET /logs/x", 200, b'{"kind": "line"}\n{"code": %d, "message": "stopped"}\n' % status)
    lines = client.stream("GET", "/logs/x")
    assert next(lines) == {"kind": "line"}
    with pytest.raises(CliError, match="stopped") as caught:
        next(lines)
    assert caught.value.exit_code == code


def test_a_stream_that_is_refused_at_once(client: ControlPlane, control: doubles.ControlPlane) -> None:
    with pytest.raises(CliError, match="not found") as caught:
        next(client.stream("GET", "/logs/x"))
    assert caught.value.exit_code == 3


def test_a_stream_that_falls_silent(client: ControlPlane, control: doubles.ControlPlane, directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / "silent"))
        listening.listen()

        def answer() -> None:
            connection, _ = listening.accept()
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            connection.recv(65536)  # until the client has lost its patience
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(CliError, match="has not answered"):
            next(ControlPlane(str(directory / "silent")).stream("GET", "/logs/x", patience_s=0.05))
        thread.join(5)
