"""What the command line talks to: a control plane that answers what a test wants, and a gateway that can break off."""

import json
import os
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandboxd.cli import main

SOURCE = Path(__file__).parents[4] / "src"
ID = "abc123def456"
DEADLINE_S = 10.0
START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from sandboxd.cli import main; sys.exit(main(config=sys.argv.pop(1)))"


@dataclass
class Request:
    method: str
    target: str
    headers: dict[str, str]
    content: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.content)


def answer_of(status: int, body: Any = None) -> bytes:
    """A whole response; a `body` of bytes is sent as it is, everything else as JSON."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(content), content)


class Server:
    """One request for a connection, each answered by `answer`, in a thread of its own."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        listening.listen(32)
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(DEADLINE_S)
            self.talk(connection)

    def talk(self, connection: socket.socket) -> None:
        raise NotImplementedError


class ControlPlane(Server):
    """sandboxd's Unix socket. `answers["GET /pool"]` is a response, or a list of which each is given once."""

    def __init__(self, path: Path) -> None:
        self.answers: dict[str, bytes | list[bytes]] = {}
        self.requests: list[Request] = []
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
        super().__init__(listening)

    def answer(self, request: str, status: int, *bodies: Any) -> None:
        answers = [answer_of(status, body) for body in bodies or (None,)]
        self.answers[request] = answers if len(answers) > 1 else answers[0]

    def talk(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            method, target, _ = stream.readline().decode().split(" ")
            headers = {}
            while line := stream.readline().decode().strip():
                name, _, value = line.partition(": ")
                headers[name.lower()] = value
            content = stream.read(int(headers.get("content-length", 0)))
        self.requests.append(Request(method, target, headers, content))
        known = self.answers.get(f"{method} {target}", answer_of(404, {"code": 404, "message": f"{target} not found"}))
        connection.sendall(known.pop(0) if isinstance(known, list) else known)


class Scripted(Server):
    """A gateway that reads a request's head and sends `script`, whatever was asked; then it hangs up."""

    def __init__(self, script: bytes) -> None:
        self.script = script
        super().__init__(socket.create_server(("127.0.0.1", 0)))
        self.address: tuple[str, int] = self._listening.getsockname()

    def talk(self, connection: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(65536)
        connection.sendall(self.script)


class Relay(Server):
    """A gateway before a real agent. Connections break off after `limit` bytes of answers, or by `cut`."""

    def __init__(self, port: int) -> None:
        self.limit: int | None = None
        self._port = port
        self._pairs: list[socket.socket] = []
        super().__init__(socket.create_server(("127.0.0.1", 0)))
        self.address: tuple[str, int] = self._listening.getsockname()

    def cut(self) -> None:
        for connected in self._pairs:
            connected.shutdown(socket.SHUT_RDWR)

    def talk(self, connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self._port)) as agent:
            self._pairs += [connection, agent]
            threading.Thread(target=self._copy, args=(connection, agent, None), daemon=True).start()
            self._copy(agent, connection, self.limit)

    @staticmethod
    def _copy(source: socket.socket, target: socket.socket, limit: int | None) -> None:
        left = 1 << 60 if limit is None else limit
        try:
            while left and (data := source.recv(min(65536, left))):
                target.sendall(data)
                left -= len(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return


@dataclass
class Cli:
    """`docker-sandbox` with a configuration of its own: as a process, or within this one."""

    directory: Path
    control: ControlPlane
    gateway: tuple[str, int]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def config(self) -> str:
        """The path of the file, written anew: what a test has changed holds."""
        file = self.directory / "config.toml"
        host, port = self.gateway
        socket_path = self.directory / "sandboxd.sock"
        file.write_text(f'socket = "{socket_path}"\n[gateway]\naddress = "{host}:{port}"\n')
        return str(file)

    def call(self, *arguments: str) -> int:
        """Within this process: what it prints is for capsys."""
        return main(list(arguments), config=self.config)

    def command(self, *arguments: str | bytes) -> list[str | bytes]:
        return [sys.executable, "-I", "-c", START, str(SOURCE), self.config, *arguments]

    def start(
        self, *arguments: str | bytes, stdin: Any = subprocess.DEVNULL, **options: Any
    ) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            self.command(*arguments),
            stdin=stdin,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
            env={**os.environ, **self.environment},
        )

    def run(
        self, *arguments: str | bytes, stdin: bytes | Any = b"", **options: Any
    ) -> "subprocess.CompletedProcess[bytes]":
        """To its end. `stdin` is bytes, or a file; nothing is /dev/null, as in a script."""
        piped = isinstance(stdin, bytes)
        process = self.start(
            *arguments, stdin=(subprocess.PIPE if stdin else subprocess.DEVNULL) if piped else stdin, **options
        )
        with process:
            try:
                out, err = process.communicate(stdin if piped and stdin else None, timeout=DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)
