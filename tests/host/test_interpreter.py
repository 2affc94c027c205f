"""The code interpreter in a sandbox, through the edge, asked as E2B's clients ask. The labs have a template for it."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.host.machine import Machine, Sandbox, eventually

PORT = 49999


@dataclass(frozen=True)
class Interpreter:
    """The interpreter of a sandbox."""

    machine: Machine
    sandbox: Sandbox
    url: str
    token: str

    def run(self, code: str, language: str | None = None, token: str | None = None) -> dict[str, Any]:
        """The lines of an execution by their type; `stdout` and `stderr` joined, results as a list."""
        body = {"code": code, "context_id": None, "language": language, "env_vars": None}
        headers = {"X-Access-Token": self.token if token is None else token}
        answer = self.machine.request("POST", f"{self.url}/execute", json=body, headers=headers, timeout=120)
        assert answer.status_code == 200, answer.text
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert lines[-1] == {"type": "end_of_execution"}
        found: dict[str, Any] = {"stdout": "", "stderr": "", "results": [], "error": None}
        for line in lines:
            if line["type"] in ("stdout", "stderr"):
                found[line["type"]] += line["text"]
            elif line["type"] == "result":
                found["results"].append(line)
            elif line["type"] == "error":
                found["error"] = line
        return found


@pytest.fixture(scope="module")
def interpreter(machine: Machine) -> Iterator[Interpreter]:
    with machine.sandbox("--template code-interpreter-v1") as sandbox:
        made = Interpreter(machine, sandbox, sandbox.url(PORT), sandbox.token())
        eventually(
            lambda: machine.request("GET", f"{made.url}/health").text, lambda text: text == "OK", 60, "interpreter"
        )
        yield made


@pytest.mark.disruptive
@pytest.mark.parametrize(
    ("language", "code", "expected"),
    [
        ("python", "import os, getpass; print(getpass.getuser(), os.getcwd())", "user /home/user\n"),
        (
            "javascript",
            "const { execSync } = require('node:child_process');"
            "console.log(execSync('id -un').toString().trim(), process.cwd())",
            "user /home/user\n",
        ),
        ("typescript", "const n: number = await Promise.resolve(1); console.log(n)", "1\n"),
        ("bash", "echo $(id -un) $(pwd)", "user /home/user\n"),
        ("python", "import os; print(os.environ['E2B_SANDBOX'], 'ENVD_ACCESS_TOKEN' in os.environ)", "true False\n"),
        ("bash", "cat /run/sandbox/agent.json 2>/dev/null || echo closed", "closed\n"),
    ],
)
def test_each_language_runs_as_the_user(interpreter: Interpreter, language: str, code: str, expected: str) -> None:
    done = interpreter.run(code, language)
    assert (done["stdout"], done["error"]) == (expected, None)


@pytest.mark.disruptive
def test_a_chart_of_a_table_is_a_png(interpreter: Interpreter) -> None:
    done = interpreter.run("import pandas\npandas.DataFrame({'a': [1, 2], 'b': [2, 4]}).plot()")
    assert done["error"] is None, done["error"]
    pictures = [base64.b64decode(result["png"]) for result in done["results"] if "png" in result]
    assert len(pictures) == 1 and pictures[0].startswith(b"\x89PNG")
    assert "<table" in interpreter.run("pandas.DataFrame({'a': [1]})")["results"][0]["html"]


@pytest.mark.disruptive
def test_what_the_user_installs_is_importable_at_once(interpreter: Interpreter) -> None:
    assert interpreter.run("import tomlkit")["error"]["name"] == "ModuleNotFoundError"
    interpreter.sandbox.run("pip install --quiet --disable-pip-version-check tomlkit")
    done = interpreter.run("import tomlkit; print(tomlkit.__name__)")
    assert (done["stdout"], done["error"]) == ("tomlkit\n", None)


@pytest.mark.disruptive
def test_it_asks_for_the_token_of_the_sandbox(interpreter: Interpreter) -> None:
    body = {"code": "1"}
    for headers in ({}, {"X-Access-Token": "wrong"}):
        answer = interpreter.machine.request("POST", f"{interpreter.url}/execute", json=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, 401)


@pytest.mark.disruptive
def test_it_comes_back_when_it_is_killed(interpreter: Interpreter) -> None:
    interpreter.sandbox.run("sudo pkill -KILL -f 'python -m [i]nterpreter'")
    found = eventually(
        lambda: interpreter.machine.request("GET", f"{interpreter.url}/health").text,
        lambda text: text == "OK",
        60,
        "interpreter",
    )
    assert found == "OK"
    assert interpreter.run("print(1)")["stdout"] == "1\n"
