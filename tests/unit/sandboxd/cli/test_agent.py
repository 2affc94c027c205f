"""The client of the agent: what it sends, how it reads a stream, and how refusals read."""

import json
import re
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from sandboxd.cli.agent import (
    ENVELOPE,
    MAX_MESSAGE_BYTES,
    Agent,
    AgentError,
    check_trailer,
    envelope,
    read_envelope,
)
from sandboxd.cli.exits import CliError
from sandboxd.cli.http1 import ConnectionBroken
from sandboxd.cli.remote import described
from tests.unit.envd.client import Running
from tests.unit.ports import nobody
from tests.unit.sandboxd.cli.conftest import TOKEN
from tests.unit.sandboxd.cli.doubles import ID, Scripted, answer_of, response_of


@pytest.fixture
def gateway() -> Iterator[Scripted]:
    made = Scripted(b"")
    yield made
    made.stop()


def message(command: str) -> dict[str, Any]:
    return {"process": {"cmd": "/bin/sh", "args": ["-c", command]}, "stdin": False}


def test_a_call_of_the_real_agent(client: Agent) -> None:
    assert client.call("filesystem.Filesystem/Stat", {"path": "/"})["entry"]["type"] == "FILE_TYPE_DIRECTORY"
    with pytest.raises(AgentError) as caught:
        client.call("filesystem.Filesystem/Stat", {"path": "/does/not/exist"})
    assert caught.value.code == "not_found" and "/does/not/exist" in str(caught.value)


def test_a_stream_of_the_real_agent(client: Agent) -> None:
    connection = client.connect()
    events = list(client.start(connection, message("exit 3")))
    connection.close()
    assert "pid" in events[0]["start"] and events[-1]["end"]["exitCode"] == 3


def test_a_running_process_is_followed_to_its_end(client: Agent) -> None:
    connections = [client.connect() for _ in range(3)]
    events = client.start(connections[0], {**message("read line; exit 4"), "stdin": True})
    pid = next(events)["start"]["pid"]
    with pytest.raises(AgentError) as caught:
        list(client.follow(connections[1], pid, timeout_s=0.1))
    assert caught.value.code == "deadline_exceeded"
    client.call("process.Process/CloseStdin", {"process": {"pid": pid}})
    followed = list(client.follow(connections[2], pid, timeout_s=10))
    assert followed[0] == {"start": {"pid": pid}} and followed[-1]["end"]["exitCode"] == 4
    for connection in connections:
        connection.close()


def test_its_patience_has_an_end(sandbox: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Agent(silent.getsockname(), sandbox)
        client.patience_s = 0.1
        with pytest.raises(CliError, match="timed out"):
            client.call("process.Process/List", {})


def test_the_deadline_is_the_agents(client: Agent) -> None:
    connection = client.connect()
    with pytest.raises(AgentError) as caught:
        list(client.start(connection, message("sleep 300"), timeout_s=0.1))
    connection.close()
    assert caught.value.code == "deadline_exceeded"


def test_a_wrong_token_is_refused(agent: Running, sandbox: dict[str, Any]) -> None:
    client = Agent(("127.0.0.1", agent.port), {**sandbox, "envdAccessToken": "wrong"})
    with pytest.raises(AgentError) as caught:
        client.call("process.Process/List", {})
    assert caught.value.exit_code == 1 and "wrong" not in str(caught.value)


def test_the_host_names_port_and_sandbox(sandbox: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        connection = Agent(listening.getsockname(), sandbox).connect()
        connection.begin("GET", "/", {}, 0)
        accepted, _ = listening.accept()
        with accepted:
            assert f"\r\nHost: 49983-{ID}.example.com\r\n" in accepted.recv(65536).decode()
        connection.close()


def test_headers(client: Agent, sandbox: dict[str, Any]) -> None:
    assert client.headers("application/json") == {
        "X-Access-Token": TOKEN,
        "Content-Type": "application/json",
        "Connect-Protocol-Version": "1",
    }
    assert client.headers("x", "root")["Authorization"] == "Basic cm9vdDo="
    as_root = Agent(("h", 1), sandbox, "root")
    assert as_root.headers("x")["Authorization"] == "Basic cm9vdDo="
    assert "Authorization" not in as_root.headers("x", "")
    assert client.file_headers(Content_Type="a/b") == {"X-Access-Token": TOKEN, "Content-Type": "a/b"}


def test_file_targets(client: Agent, sandbox: dict[str, Any]) -> None:
    assert client.file_target("/a b&c") == "/files?path=%2Fa%20b%26c"
    assert Agent(("h", 1), sandbox, "ro ot").file_target("x") == "/files?path=x&username=ro%20ot"


def test_a_gateway_that_does_not_listen(sandbox: dict[str, Any]) -> None:
    with nobody() as address, pytest.raises(CliError) as caught:
        Agent(address, sandbox).connect()
    assert caught.value.exit_code == 4
    assert f"127.0.0.1:{address[1]}" in str(caught.value) and "systemctl status haproxy" in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "code", "words"),
    [
        (404, {"code": "not_found", "message": "no such file"}, "not_found", "no such file"),
        (502, {"code": 502, "message": "The sandbox was not found"}, "", "docker-sandbox routes status"),
        (502, b"<html>", "", "docker-sandbox routes status"),
        (503, b"", "", "HTTP status 503: no message"),
        (400, b"[1]", "", "HTTP status 400: [1]"),
    ],
)
def test_refusals(gateway: Scripted, sandbox: dict[str, Any], status: int, body: Any, code: str, words: str) -> None:
    gateway.script = answer_of(status, body)
    client = Agent(gateway.address, sandbox)
    with pytest.raises(AgentError) as caught:
        client.call("a.B/C", {})
    assert (caught.value.code, caught.value.exit_code) == (code, 1) and words in str(caught.value)
    connection = client.connect()
    with pytest.raises(AgentError, match=re.escape(str(caught.value))):
        list(client.start(connection, {}))
    connection.close()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (b"", f"the connection to sandbox {ID} broke: the connection was closed without an answer"),
        (answer_of(200, b"<html>"), "no JSON: b'<html>'"),
    ],
)
def test_a_call_that_gets_no_answer(gateway: Scripted, sandbox: dict[str, Any], script: bytes, words: str) -> None:
    gateway.script = script
    with pytest.raises(CliError, match=words):
        Agent(gateway.address, sandbox).call("a.B/C", {})


def test_an_error_without_words_is_named_by_its_type(client: Agent) -> None:
    assert "broke: TimeoutError." in str(client.broken(TimeoutError()))


def test_envelopes() -> None:
    data = envelope({"a": "ü"}, flags=2)
    flags, length = struct.unpack(">BI", data[:5])
    assert flags == 2 and json.loads(data[5:]) == {"a": "ü"} and length == len(data) - 5
    assert read_envelope(response_of(data)) == (2, {"a": "ü"})
    with pytest.raises(ConnectionBroken, match="no JSON"):
        read_envelope(response_of(b"\0\0\0\0\1x"))
    with pytest.raises(ConnectionBroken, match="stops in the middle"):
        read_envelope(response_of(data[:-1]))


def test_a_message_of_any_length_is_not_waited_for() -> None:
    with pytest.raises(ConnectionBroken, match=f"a message of {MAX_MESSAGE_BYTES + 1} bytes"):
        read_envelope(response_of(ENVELOPE.pack(0, MAX_MESSAGE_BYTES + 1)))
    with pytest.raises(ConnectionBroken, match="no JSON"):
        read_envelope(response_of(ENVELOPE.pack(0, 200_000) + b"[" * 200_000))


@pytest.mark.parametrize("answer", [b"[1]", b"{}", b'{"entry": 1}', b'{"entry": {}}'])
def test_an_answer_of_another_shape_is_the_agents_fault(
    gateway: Scripted, sandbox: dict[str, Any], answer: bytes
) -> None:
    gateway.script = answer_of(200, answer)
    client = Agent(gateway.address, sandbox)
    with pytest.raises(CliError, match=f"the agent of sandbox {ID} does not keep to its protocol"), client.doubted():
        described(client.call("filesystem.Filesystem/Stat", {})["entry"])


def test_trailers() -> None:
    check_trailer({})
    for error, words in (({"code": "c", "message": "m"}, "m"), ({"code": "c"}, "c"), ({"x": 1}, "unknown error")):
        with pytest.raises(AgentError, match=words):
            check_trailer({"error": error})


@pytest.mark.parametrize(("state", "verb"), [("paused", "resume"), ("stopped", "start")])
def test_one_that_does_not_run_is_refused_with_how_it_would(sandbox: dict[str, Any], state: str, verb: str) -> None:
    with pytest.raises(CliError, match=rf"sandbox {ID} is {state}\. .*docker-sandbox {verb} {ID}"):
        Agent(("127.0.0.1", 1), {**sandbox, "state": state})
