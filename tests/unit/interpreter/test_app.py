"""The HTTP surface: contexts, access, and how a request that cannot be served is told."""

import signal
from pathlib import Path

import pytest

from tests.unit.envd.client import TOKEN, alive
from tests.unit.interpreter.client import Client, Running, eventually, message_of

# One interpreter, with one kernel of each language, serves all these tests.
pytestmark = pytest.mark.xdist_group("interpreter")


def test_health_needs_no_token(interpreter: Running) -> None:
    response = Client(interpreter.port, token=None).http.get("/health")
    assert (response.status_code, response.text) == (200, "OK")


@pytest.mark.parametrize("token", [None, "", "wrong"])
def test_execute_needs_the_token(interpreter: Running, token: str | None) -> None:
    client = Client(interpreter.port, token=token)
    assert "unauthorized" in client.refused({"code": "1"}, 401)


def test_contexts_need_no_token_but_no_wrong_one(client: Client) -> None:
    assert client.http.get("/contexts").status_code == 200
    assert client.http.get("/contexts", headers={"X-Access-Token": TOKEN}).status_code == 200
    message_of(client.http.get("/contexts", headers={"X-Access-Token": "wrong"}), 401)


def test_a_sandbox_that_is_claimed_gets_another_token_and_environment(tmp_path: Path) -> None:
    running = Running(tmp_path, envs={"WHO": "pool"})
    try:
        old, new = Client(running.port), Client(running.port, token="another")
        running.describe(accessToken="another", envs={"WHO": "claimed"})
        old.refused({"code": "1"}, 401)
        assert new.run("import os; print(os.environ['WHO'])").stdout == "claimed\n"
    finally:
        running.stop()


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 400, "not JSON"),
        (b"\xff", 400, "not JSON"),
        (b"[" * 100_000, 400, "not JSON"),
        ({"code": ["x" * 100_000]}, 400, "code = ['xxx"),
        ([], 400, "not a JSON object"),
        ({}, 400, "code = None"),
        ({"code": 5}, 400, "code = 5"),
        ({"code": "1", "language": 5}, 400, "language = 5"),
        ({"code": "1", "language": "cobol"}, 400, "'cobol' is not supported: use one of bash, javascript, python"),
        ({"code": "1", "context_id": "none"}, 404, "context 'none' not found"),
        ({"code": "1", "context_id": "none", "language": "python"}, 400, "exclude each other"),
        ({"code": "1", "env_vars": ["A"]}, 400, "must be an object"),
        ({"code": "1", "env_vars": {"A; B": "1"}}, 400, "'A; B' is not the name"),
        ({"code": "1", "env_vars": {"A": 1}}, 400, "A = 1"),
        ({"code": "1", "env_vars": {"A": "\0"}}, 400, "null bytes"),
        ({"code": "1", "env_vars": {"A": "\ud800"}}, 400, "must be UTF-8"),
        ({"code": "'\ud800'"}, 400, "half of a surrogate pair"),
    ],
)
def test_what_execute_refuses(client: Client, body: object, status: int, said: str) -> None:
    assert said in client.refused(body, status)


def test_what_other_calls_refuse(client: Client) -> None:
    assert "nothing is served" in message_of(client.http.get("/other"), 404)
    message_of(client.delete("none"), 404)
    message_of(client.restart("none"), 404)
    for method, path, allowed in (
        ("GET", "/execute", "POST"),
        ("PUT", "/contexts", "GET, HEAD, POST"),
        ("GET", "/contexts/x", "DELETE"),
        ("GET", "/contexts/x/restart", "POST"),
    ):
        response = client.http.request(method, path, headers=client.token)
        message_of(response, 405)
        assert response.headers["allow"] == allowed
    for body, said in (({"cwd": "/none"}, "cwd '/none' does not exist"), ({"language": "r"}, "'r' is not supported")):
        assert said in message_of(client.http.post("/contexts", json=body), 400)
    assert client.http.options("/execute").status_code == 204


def test_contexts_are_made_listed_and_deleted(client: Client, tmp_path: Path) -> None:
    first = client.create()
    second = client.create(language="bash", cwd=str(tmp_path))
    assert (first["language"], first["cwd"]) == ("python", str(Path.home()))
    assert (second["language"], second["cwd"]) == ("bash", str(tmp_path))
    assert [each for each in client.contexts() if each["id"] in (first["id"], second["id"])] == [first, second]
    assert client.run("pwd", context_id=second["id"]).stdout == f"{tmp_path}\n"
    for context in (first, second):
        assert client.delete(context["id"]).status_code == 204
        assert context not in client.contexts()


def test_the_default_context_of_a_language_is_one(client: Client) -> None:
    """Among the contexts that other tests have made, which are in the list before it if they came first."""

    def of_python() -> list[str]:
        return [each["id"] for each in client.contexts() if each["language"] == "python"]

    client.run("mine = 1")
    assert client.run("import os; print(mine, os.getcwd())", language="python").stdout == f"1 {Path.home()}\n"
    before, look = of_python(), "print('mine' in globals())"
    mine = [each for each in before if client.run(look, context_id=each).stdout == "True\n"]
    assert len(mine) == 1
    client.run("x=1", language="bash")
    assert client.run("echo $x", language="BASH").stdout == "1\n"
    assert of_python() == before
    client.delete(mine[0])
    assert client.run(look).stdout == "False\n"


def test_a_missing_program_is_told(tmp_path: Path) -> None:
    running = Running(tmp_path)
    try:
        (tmp_path / "bin/deno").unlink()
        client = Client(running.port)
        error = client.run("1", language="javascript").error
        assert error is not None and error["value"] == "there is no deno in this sandbox, which javascript needs"
        (tmp_path / "bin/python3").write_text("#!/bin/sh\nexit 3\n")
        assert "did not start" in message_of(client.http.post("/contexts", json={}), 500)
        assert [each["language"] for each in client.contexts()] == ["javascript"]
    finally:
        running.stop()


def test_an_idle_interpreter_is_small(tmp_path: Path) -> None:
    running = Running(tmp_path)
    try:
        assert Client(running.port).http.get("/health").status_code == 200
        assert running.memory_kb() < 20_000
    finally:
        running.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_its_kernels(tmp_path: Path, number: signal.Signals) -> None:
    running = Running(tmp_path)
    try:
        pid = int(Client(running.port).run("import os; os.getpid()").text or 0)
        running.popen.send_signal(number)
        assert running.popen.wait(120) == 0
    finally:
        running.stop()
    eventually(lambda: not alive(pid), "it is gone")
    assert "Traceback" not in running.log.read_text()
