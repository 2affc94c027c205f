"""A plain client of the code interpreter, which asks as E2B's clients do; and an interpreter as a process."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.unit.envd.client import MYSELF, SOURCE, TOKEN

DEADLINE_S = 120.0  # a kernel that starts on a busy machine takes its time
BIN = Path(sys.executable).parent
STREAMS = ("stdout", "stderr")
START = "from interpreter import __main__, context, delivery, kernels; {}; raise SystemExit(__main__.main())"

Json = dict[str, Any]


def eventually(condition: Callable[[], object], what: str) -> None:
    """Poll until the condition holds; fail after DEADLINE_S."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {DEADLINE_S} s: {what}")
        time.sleep(0.02)


class Running:
    """An interpreter whose kernels run as the present user, at home in `home`."""

    def __init__(self, directory: Path, *, patience: str = "", **agent: Any) -> None:
        """`patience` is a statement that sets other times than those of a real one."""
        self.file = directory / "agent.json"
        self.log = directory / "log"
        self.describe(**agent)
        programs = directory / "bin"
        programs.mkdir()
        for name in ("python3", "deno"):
            # A script and not a link: Python finds its packages by the place of its program.
            (programs / name).write_text(f'#!/bin/sh\nexec "{BIN / name}" "$@"\n')
            (programs / name).chmod(0o755)
        environment = {
            **os.environ,
            "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin",
            "PYTHONPATH": str(SOURCE),
            "ENVD_AGENT_FILE": str(self.file),
            "INTERPRETER_LISTEN": "127.0.0.1:0",
        }
        with self.log.open("wb") as log:
            words = ["-c", START.format(patience)] if patience else ["-m", "interpreter"]
            command = [sys.executable, *words]
            self.popen = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            eventually(lambda: self._port() or self.popen.poll() is not None, "the interpreter listens")
            self.port = int(self._port() or 0)
            assert self.port, self.log.read_text()
        except AssertionError:
            self.stop()
            raise

    def describe(self, **agent: Any) -> None:
        """Write agent.json, in one step, as a host does it."""
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps({"accessToken": TOKEN, "user": MYSELF, "sandboxID": "abc123", **agent}))
        new.rename(self.file)

    def _port(self) -> str | None:
        found = re.search(r"listening on 127\.0\.0\.1:(\d+)", self.log.read_text())
        return found and found[1]

    def stop(self) -> int:
        self.popen.terminate()
        return self.popen.wait(DEADLINE_S)

    def memory_kb(self) -> int:
        status = Path(f"/proc/{self.popen.pid}/status").read_text()
        return int(re.findall(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)[0])


class Execution:
    """What the lines of one execution say, as a client sorts them."""

    def __init__(self, lines: list[Json]) -> None:
        self.lines = lines
        self.results = [line for line in lines if line["type"] == "result"]
        self.stdout = "".join(line["text"] for line in lines if line["type"] == "stdout")
        self.stderr = "".join(line["text"] for line in lines if line["type"] == "stderr")
        errors = [line for line in lines if line["type"] == "error"]
        assert len(errors) <= 1, errors
        self.error = errors[0] if errors else None
        self.count = next((line["execution_count"] for line in lines if line["type"] == "number_of_executions"), None)
        self.text = next((line.get("text") for line in self.results if line["is_main_result"]), None)
        assert lines[-1] == {"type": "end_of_execution"}, lines
        assert all(isinstance(line["timestamp"], int) for line in lines if line["type"] in STREAMS)


class Client:
    """Calls as E2B's clients make them: the token with /execute, and all fields even when they are null."""

    def __init__(self, port: int, token: str | None = TOKEN) -> None:
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE_S)
        self.headers = {"E2b-Sandbox-Id": "abc123", "E2b-Sandbox-Port": "49999"}
        self.token = {"X-Access-Token": token} if token is not None else {}

    @contextmanager
    def executing(self, code: str, **fields: Any) -> Iterator[Iterator[Json]]:
        """The lines as they come."""
        body = {"code": code, "context_id": None, "language": None, "env_vars": None, **fields}
        headers = {**self.headers, **self.token}
        with self.http.stream("POST", "/execute", json=body, headers=headers) as response:
            assert response.status_code == 200, response.read()
            yield (json.loads(line) for line in response.iter_lines())

    def run(self, code: str, **fields: Any) -> Execution:
        with self.executing(code, **fields) as lines:
            return Execution(list(lines))

    def refused(self, body: Any, status: int, **headers: str) -> str:
        """The message of a call to /execute that must fail."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        response = self.http.post("/execute", content=content, headers={**self.headers, **self.token, **headers})
        return message_of(response, status)

    def create(self, **fields: Any) -> Json:
        response = self.http.post("/contexts", json=fields, headers=self.headers)
        assert response.status_code == 200, response.text
        context: Json = response.json()
        return context

    def contexts(self) -> list[Json]:
        response = self.http.get("/contexts", headers=self.headers)
        assert response.status_code == 200, response.text
        contexts: list[Json] = response.json()
        return contexts

    def delete(self, id: str) -> httpx.Response:
        return self.http.delete(f"/contexts/{id}", headers=self.headers)

    def restart(self, id: str) -> httpx.Response:
        return self.http.post(f"/contexts/{id}/restart", headers=self.headers)


def message_of(response: httpx.Response, status: int) -> str:
    """What an error says; its body is always of the same form."""
    assert response.status_code == status, response.text
    error = response.json()
    assert set(error) == {"code", "message"} and error["code"] == status
    return str(error["message"])
