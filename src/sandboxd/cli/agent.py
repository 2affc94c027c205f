"""Client of the agent inside a sandbox, through the gateway: Connect calls with JSON, and plain HTTP for files.

Protocol: https://connectrpc.com/docs/protocol. A message of a stream is an envelope: flags, length, JSON.
"""

import binascii
import json
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sandboxd import AGENT_PORT
from sandboxd.cli.control import refusal
from sandboxd.cli.exits import FAILED, UNREACHABLE, CliError
from sandboxd.cli.http1 import Connection, ConnectionBroken, Response, quote

ENVELOPE = struct.Struct(">BI")
FLAG_END = 0x02
CONNECT_S = 10.0
ANSWER_S = 120.0
KEEPALIVE_S = 50  # the agent says so often that it is still there
MAX_MESSAGE_BYTES = 64 * 1024 * 1024  # of one message of a stream; the agent's own are a thousand times shorter


class AgentError(CliError):
    """The agent refused. `code` is Connect's, such as not_found; empty when the refusal came from elsewhere.

    `status` is that of HTTP, 0 when the refusal came at the end of a stream.
    """

    def __init__(self, message: str, code: str = "", exit_code: int = FAILED, status: int = 0) -> None:
        super().__init__(message, exit_code)
        self.code, self.status = code, status


class Agent:
    """The agent of one sandbox. Each connection is the caller's to close. `patience_s`: how long it may be silent.

    Raises CliError when the sandbox does not run.
    """

    def __init__(self, gateway: tuple[str, int], sandbox: dict[str, Any], user: str = "") -> None:
        self.id: str = sandbox["sandboxID"]
        self.patience_s = ANSWER_S
        state = sandbox.get("state", "running")  # the answer to a create has none
        if state != "running":
            remedy = f"docker-sandbox {'resume' if state == 'paused' else 'start'} {self.id}"
            raise CliError(f"sandbox {self.id} is {state}. Let it run again with: {remedy}")
        self._gateway, self._user = gateway, user
        self._token: str = sandbox["envdAccessToken"]
        self._host = f"{AGENT_PORT}-{self.id}.{sandbox['domain']}"

    def connect(self) -> Connection:
        """A new connection. Raises CliError when the gateway does not listen."""
        host, port = self._gateway
        try:
            connected = socket.create_connection(self._gateway, CONNECT_S)
        except OSError as error:
            look = "Look with: systemctl status haproxy; start it with: systemctl restart haproxy."
            raise CliError(f"the gateway does not answer on {host}:{port}: {error}. {look}", UNREACHABLE) from error
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.settimeout(self.patience_s)
        return Connection(connected, self._host)

    def headers(self, content_type: str, user: str | None = None) -> dict[str, str]:
        """Of a Connect call. `user` None is the user of this agent object, "" the sandbox's default user."""
        name = self._user if user is None else user
        headers = {"X-Access-Token": self._token, "Content-Type": content_type, "Connect-Protocol-Version": "1"}
        if name:
            headers["Authorization"] = "Basic " + binascii.b2a_base64(f"{name}:".encode(), newline=False).decode()
        return headers

    def call(self, method: str, message: dict[str, Any]) -> dict[str, Any]:
        """A unary call, such as "filesystem.Filesystem/Stat". Raises AgentError when the agent refuses."""
        connection = self.connect()
        try:
            body = json.dumps(message).encode()
            response = connection.request("POST", f"/{method}", self.headers("application/json"), body)
            content = response.read_all()
        except OSError as error:
            raise self.broken(error) from error
        finally:
            connection.close()
        if response.status != 200:
            raise self.refused(response.status, content)
        answer: dict[str, Any] = self.decoded(content)
        return answer

    def start(
        self, connection: Connection, message: dict[str, Any], timeout_s: float | None = None, user: str | None = None
    ) -> Iterator[dict[str, Any]]:
        """Starts a process; yields its events. Ends after the trailer; raises AgentError when that is an error."""
        return self._events(connection, "Start", message, timeout_s, user)

    def follow(self, connection: Connection, pid: int, timeout_s: float) -> Iterator[dict[str, Any]]:
        """The events of a running process, or one that has just ended; as `start` does it."""
        return self._events(connection, "Connect", {"process": {"pid": pid}}, timeout_s, None)

    def _events(
        self, connection: Connection, method: str, message: dict[str, Any], timeout_s: float | None, user: str | None
    ) -> Iterator[dict[str, Any]]:
        headers = self.headers("application/connect+json", user)
        headers["Keepalive-Ping-Interval"] = str(KEEPALIVE_S)
        if timeout_s is not None:
            headers["Connect-Timeout-Ms"] = str(max(1, int(timeout_s * 1000)))
        response = connection.request("POST", f"/process.Process/{method}", headers, envelope(message))
        if response.status != 200:
            raise self.refused(response.status, response.read_all())
        while True:
            flags, message = read_envelope(response)
            if flags & FLAG_END:
                check_trailer(message)
                return
            yield message["event"]

    def file_target(self, path: str) -> str:
        return f"/files?path={quote(path)}" + (f"&username={quote(self._user)}" if self._user else "")

    def file_headers(self, **more: str) -> dict[str, str]:
        return {"X-Access-Token": self._token, **{name.replace("_", "-"): value for name, value in more.items()}}

    def decoded(self, content: bytes) -> Any:
        """The JSON of an answer of success. Raises CliError when it is none."""
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise CliError(f"the agent of sandbox {self.id} answers what is no JSON: {content[:80]!r}.") from error

    @contextmanager
    def doubted(self) -> Iterator[None]:
        """A block in which answers are taken apart. Whoever is root in the sandbox may be the agent, and answer
        anything: what has not the shape of the protocol is a CliError.
        """
        try:
            yield
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise CliError(f"the agent of sandbox {self.id} does not keep to its protocol: {error!r}.") from error

    def refused(self, status: int, content: bytes) -> AgentError:
        """The error for an answer that is no success, from the agent or from the gateway before it."""
        message, code = refusal(status, content), ""
        try:
            values = json.loads(content)
            code = values["code"] if isinstance(values["code"], str) else ""
        except (ValueError, KeyError, TypeError):
            pass
        if status == 502 and not code:
            message = (
                f"the gateway does not reach the agent of sandbox {self.id}: {message}."
                " Was it removed? Look with: docker-sandbox list; docker-sandbox routes status."
            )
        return AgentError(message, code, status=status)

    def broken(self, error: OSError) -> CliError:
        return CliError(f"the connection to sandbox {self.id} broke: {str(error) or type(error).__name__}.")


def envelope(message: dict[str, Any], flags: int = 0) -> bytes:
    payload = json.dumps(message, separators=(",", ":")).encode()
    return ENVELOPE.pack(flags, len(payload)) + payload


def read_envelope(response: Response) -> tuple[int, dict[str, Any]]:
    """Flags and message. Raises ConnectionBroken when the stream stops before its trailer, or a message is too long."""
    flags, length = ENVELOPE.unpack(response.read_exactly(ENVELOPE.size))
    if length > MAX_MESSAGE_BYTES:
        raise ConnectionBroken(f"the agent sent a message of {length} bytes")
    try:
        message: dict[str, Any] = json.loads(response.read_exactly(length))
    except (ValueError, RecursionError) as error:
        raise ConnectionBroken(f"the agent sent what is no JSON: {error}") from error
    return flags, message


def check_trailer(trailer: dict[str, Any]) -> None:
    """Raises AgentError when the stream ended with an error."""
    if error := trailer.get("error"):
        raise AgentError(error.get("message") or error.get("code", "unknown error"), error.get("code", ""))
