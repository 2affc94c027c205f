"""A plain client of the agent, written against the protocol and not against the agent's own code."""

import base64
import json
import os
import pwd
import re
import select
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

TOKEN = "0123456789abcdef"
SOURCE = Path(__file__).parents[3] / "src"
# For what takes milliseconds, where others use the machine and its disk may hang. What a test lets sleep sleeps longer.
DEADLINE_S = 30.0
# Of a call that is to come to its deadline, but not before something has happened: the later ones for a slow machine.
DEADLINES_MS = (300, 3_000, 20_000)
MYSELF = pwd.getpwuid(os.getuid()).pw_name

Json = dict[str, Any]


def envelope(message: object, flags: int = 0) -> bytes:
    payload = json.dumps(message).encode()
    return struct.pack(">BI", flags, len(payload)) + payload


def eventually(condition: Callable[[], object], what: str) -> None:
    """Poll until the condition holds; fail after DEADLINE_S."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {DEADLINE_S} s: {what}")
        select.select([], [], [], 0.005)


class Running:
    """An agent as a process of its own."""

    def __init__(self, directory: Path, **agent: Any) -> None:
        self.file = directory / "agent.json"
        self.log = directory / "log"
        self.file.write_text(json.dumps(agent))
        environment = {
            **os.environ,
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",  # nothing in it is closed to anybody
            "PYTHONPATH": str(SOURCE),
            "ENVD_AGENT_FILE": str(self.file),
            "ENVD_LISTEN": "127.0.0.1:0",
        }
        with self.log.open("wb") as log:
            self.popen = subprocess.Popen([sys.executable, "-m", "envd"], stderr=log, env=environment)
        try:
            eventually(self._address, "the agent listens")
        except AssertionError as error:
            self.stop()
            raise AssertionError(f"{error}\n{self.log.read_text()}") from None
        self.port = int(self._address() or 0)

    def _address(self) -> str | None:
        found = re.search(r"listening on 127\.0\.0\.1:(\d+)", self.log.read_text())
        return found and found[1]

    @property
    def pid(self) -> int:
        return self.popen.pid

    def stop(self) -> None:
        self.popen.terminate()
        self.popen.wait(DEADLINE_S)

    def open_fds(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def memory_kb(self) -> int:
        """Its private memory; that which is mapped from files is shared by all agents of a host."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.findall(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)[0])


@contextmanager
def running_agent(directory: Path, **agent: Any) -> Iterator[Running]:
    """An agent for one sandbox, whose commands run as the present user and start in the subdirectory `work`."""
    workdir = directory / "work"
    workdir.mkdir()
    running = Running(directory, templateID="base", user=MYSELF, workdir=str(workdir), **agent)
    try:
        yield running
    finally:
        running.stop()


class Finished:
    """What a Start or Connect stream said until its end."""

    def __init__(self, messages: list[Json]) -> None:
        self.trailer = messages[-1]
        self.events = [message["event"] for message in messages[:-1]]
        self.stdout, self.stderr, self.pty = (self._joined(name) for name in ("stdout", "stderr", "pty"))
        self.end: Json = next((event["end"] for event in self.events if "end" in event), {})
        self.pid: int = next((event["start"]["pid"] for event in self.events if "start" in event), 0)
        self.error: Json = self.trailer.get("error", {})

    def _joined(self, name: str) -> bytes:
        return b"".join(base64.b64decode(event["data"].get(name, "")) for event in self.events if "data" in event)


class Client:
    """Calls as the SDK makes them. `user` is sent only when given, as there."""

    def __init__(self, port: int, token: str = TOKEN) -> None:
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"X-Access-Token": token}, timeout=DEADLINE_S
        )

    def rpc(self, method: str, message: Json, user: str | None = None) -> httpx.Response:
        return self.http.post(f"/{method}", json=message, headers=_basic(user))

    def ok(self, method: str, message: Json, user: str | None = None) -> Json:
        response = self.rpc(method, message, user)
        assert response.status_code == 200, response.text
        answer: Json = response.json()
        return answer

    def error(self, method: str, message: Json, user: str | None = None) -> str:
        """The Connect code of a call that must fail."""
        response = self.rpc(method, message, user)
        assert response.status_code >= 400, response.text
        return str(response.json()["code"])

    @contextmanager
    def stream(self, method: str, message: Json, user: str | None = None, **headers: str) -> Iterator[Iterator[Json]]:
        """The messages of a server stream as they come, the trailer as the last."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers |= {"Content-Type": "application/connect+json", **_basic(user)}
        with self.http.stream("POST", f"/{method}", content=envelope(message), headers=headers) as response:
            assert response.status_code == 200, response.read()
            assert response.headers["content-type"] == "application/connect+json"
            yield _messages(response)

    def start(self, message: Json, user: str | None = None, **headers: str) -> Finished:
        with self.stream("process.Process/Start", message, user, **headers) as messages:
            return Finished(list(messages))

    def run(self, command: str, user: str | None = None, stdin: bool = False, **process: Any) -> Finished:
        return self.start(bash(command, stdin=stdin, **process), user)

    def upload(self, path: str, content: bytes, username: str = "", **headers: str) -> httpx.Response:
        return self.http.post(
            "/files",
            params=_query(path, username),
            content=content,
            headers={"Content-Type": "application/octet-stream", **headers},
        )

    def download(self, path: str, username: str = "", **headers: str) -> httpx.Response:
        return self.http.get("/files", params=_query(path, username), headers=headers)


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not. It may go away before its file is opened, and before that is read."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def bash(command: str, stdin: bool = False, **process: Any) -> Json:
    return {"process": {"cmd": "/bin/bash", "args": ["-c", command], **process}, "stdin": stdin}


def _query(path: str, username: str) -> dict[str, str]:
    return {"path": path, **({"username": username} if username else {})}


def _basic(user: str | None) -> dict[str, str]:
    return {} if user is None else {"Authorization": "Basic " + base64.b64encode(f"{user}:".encode()).decode()}


def _messages(response: httpx.Response) -> Iterator[Json]:
    buffer = b""
    ended = False
    for data in response.iter_raw():
        buffer += data
        while len(buffer) >= 5:
            flags, length = struct.unpack(">BI", buffer[:5])
            if len(buffer) < 5 + length:
                break
            message: Json = json.loads(buffer[5 : 5 + length])
            buffer = buffer[5 + length :]
            assert flags in (0, 2) and not ended
            ended = flags == 2
            yield message
    assert ended and not buffer, "the stream broke off"
