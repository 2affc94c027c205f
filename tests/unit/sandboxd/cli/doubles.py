"""What the command line talks to: a control plane that answers what a test wants, and a gateway that can break off."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any

import pytest

from sandboxd.cli import main
from sandboxd.cli.http1 import Connection, Response

SOURCE = Path(__file__).parents[4] / "src"
ID = "000000000001"  # what the double of the engine calls its first container
DEADLINE_S = 40.0  # only what fails waits so long: a disk may hang for seconds, and others use the machine
Run = Callable[..., tuple[int, str, str]]  # the words of a command line -> exit code, output, messages
START = """\
import sys
sys.path.insert(0, sys.argv.pop(1))
from sandboxd.cli import main
from sandboxd.cli.http1 import Connection, Response
sys.exit(main(config=sys.argv.pop(1)))
"""


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


def connection_of(script: bytes) -> Connection:
    """A connection to somebody who says that and hangs up."""
    ours, theirs = socket.socketpair()

    def say() -> None:
        with theirs, suppress(OSError):
            theirs.sendall(script)

    threading.Thread(target=say, daemon=True).start()
    ours.settimeout(DEADLINE_S)
    return Connection(ours, "host")


def response_of(content: bytes) -> Response:
    """A response with that body, as it comes over a socket."""
    return connection_of(answer_of(200, content)).response()


class Server:
    """One request for a connection, each answered by `answer`, in a thread of its own."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        listening.listen(32)
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        """Accept no more. A second time changes nothing."""
        with suppress(OSError):
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
        self.path = path
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
        self.recorded()
        known = self.answers.get(f"{method} {target}", answer_of(404, {"code": 404, "message": f"{target} not found"}))
        connection.sendall(known.pop(0) if isinstance(known, list) else known)

    def recorded(self) -> None:
        """Before the answer to the last of `requests`."""


class Scripted(Server):
    """A gateway that reads a request's head and sends `script`, whatever was asked; it says no more than that."""

    def __init__(self, script: bytes) -> None:
        self.script = script
        super().__init__(socket.create_server(("127.0.0.1", 0)))
        self.address: tuple[str, int] = self._listening.getsockname()

    def talk(self, connection: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received and (piece := connection.recv(65536)):
            received += piece
        connection.sendall(self.script)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):  # else the kernel would take the answer back
            pass


class Relay(Server):
    """A gateway before a real agent. Connections break off after `limit` bytes of answers, or by `cut`; answers wait
    while `answering` is not set."""

    def __init__(self, port: int) -> None:
        self.limit: int | None = None
        self.forwarded = 0  # bytes of requests
        self.answering = threading.Event()
        self.answering.set()
        self._port = port
        self._pairs: list[socket.socket] = []
        super().__init__(socket.create_server(("127.0.0.1", 0)))
        self.address: tuple[str, int] = self._listening.getsockname()

    def cut(self) -> None:
        for connected in tuple(self._pairs):  # not those that are made because of it
            with suppress(OSError):  # the other half of the pair has gone already
                connected.shutdown(socket.SHUT_RDWR)

    def talk(self, connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self._port)) as agent:
            self._pairs += [connection, agent]
            threading.Thread(target=self._copy, args=(connection, agent), daemon=True).start()
            self._copy(agent, connection, 1 << 60 if self.limit is None else self.limit)

    def _copy(self, source: socket.socket, target: socket.socket, left: int = -1) -> None:
        """At most `left` bytes; without end when it is negative, as for requests, which are counted."""
        try:
            while left and (data := source.recv(65536 if left < 0 else min(65536, left))):
                if left < 0:
                    target.sendall(data)
                    self.forwarded += len(data)
                else:
                    self.answering.wait(DEADLINE_S)
                    target.sendall(data)
                    left -= len(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return


def write_place(file: Path, socket_path: Path, gateway: tuple[str, int]) -> Path:
    """As much of the configuration file as the command line reads."""
    audit = f'audit_log = "{file.parent}/log/audit.log"'
    file.write_text(f'socket = "{socket_path}"\n{audit}\n[gateway]\naddress = "{gateway[0]}:{gateway[1]}"\n')
    return file


@dataclass
class Cli:
    """`docker-sandbox` with a configuration of its own, within this process unless it is started."""

    config: Path
    work: Path  # where the agent's commands start

    def call(self, *arguments: str) -> int:
        """Within this process: what it prints is for capsys."""
        return main(list(arguments), config=str(self.config))

    def words(self, *arguments: str | bytes) -> list[str | bytes]:
        """The command line of a process."""
        return [sys.executable, "-I", "-c", START, str(SOURCE), str(self.config), *arguments]

    def start(
        self, *arguments: str | bytes, stdin: Any = subprocess.DEVNULL, **options: Any
    ) -> "subprocess.Popen[bytes]":
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen(self.words(*arguments), stdin=stdin, **options)

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
        """To its end, within this process, which saves Python's start; verbs that write past sys.stdout need Apart."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            with _written(out) as stdout, _written(err) as stderr, redirect_stdout(stdout), redirect_stderr(stderr):
                try:
                    code = self.call(*arguments)
                except SystemExit as end:  # argparse
                    code = int(end.code or 0)
            for file in (out, err):
                file.seek(0)
            return subprocess.CompletedProcess(arguments, code, out.read(), err.read())

    def out(self, *arguments: str) -> str:
        """What it prints. It must end with 0."""
        return _good(self.run(*arguments))

    def interrupt(self, process: "subprocess.Popen[bytes]", number: int) -> tuple[int, str]:
        """Sends a signal to a process from `start`. Returns its exit code and its standard error."""
        process.send_signal(number)
        try:
            _, err = process.communicate(timeout=DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return process.returncode, err.decode()


class Apart(Cli):
    """The same, whose commands are processes of their own."""

    def run(
        self, *arguments: str | bytes, stdin: bytes | Any = b"", **options: Any
    ) -> "subprocess.CompletedProcess[bytes]":
        """To its end. `stdin` is bytes, or a file; without any it is /dev/null, as in a script."""
        content = stdin if isinstance(stdin, bytes) and stdin else None
        source = subprocess.PIPE if content else subprocess.DEVNULL if isinstance(stdin, bytes) else stdin
        with self.start(*arguments, stdin=source, **options) as process:
            try:
                out, err = process.communicate(content, timeout=DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def out(self, *arguments: str | bytes, stdin: bytes | Any = b"") -> str:
        return _good(self.run(*arguments, stdin=stdin))


@contextmanager
def _written(file: IO[bytes]) -> Iterator[TextIOWrapper]:
    """A text stream to the file, which stays open."""
    stream = TextIOWrapper(file)
    yield stream
    stream.flush()
    stream.detach()


def _good(done: "subprocess.CompletedProcess[bytes]") -> str:
    assert done.returncode == 0, f"{done.args}: exit code {done.returncode}: {done.stderr.decode()}"
    return done.stdout.decode()


class Inside:
    """`docker-sandbox VERB ID ...` within this process; what it printed is kept."""

    def __init__(self, cli: Cli, captured: pytest.CaptureFixture[bytes]) -> None:
        self.cli, self._captured = cli, captured
        self.out, self.err = b"", ""

    def run(self, *arguments: object) -> int:
        verb, *rest = (os.fspath(word) if isinstance(word, Path) else str(word) for word in arguments)
        code = self.cli.call(*verb.split(), ID, *rest)
        self.out, err = self._captured.readouterr()
        self.err = err.decode()
        return code

    def ok(self, *arguments: object) -> None:
        assert self.run(*arguments) == 0, self.err
        assert self.err == ""

    def refused(self, *arguments: object) -> str:
        assert self.run(*arguments) == 1 and self.out == b""
        assert self.err.startswith("docker-sandbox: error: ")
        return self.err
