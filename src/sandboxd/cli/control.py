"""Client of the control plane: JSON over its Unix socket. Turns refusals into messages and exit codes."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sandboxd.cli.exits import BUSY, FAILED, NOT_FOUND, UNREACHABLE, CliError
from sandboxd.cli.http1 import Connection, Response, quote

ANSWER_S = 900.0  # a drain or a cleanup of many sandboxes takes minutes
RESTART_S = 3.0  # a restart of the daemon refuses connections for a moment: that long it is tried again
OPENING_S = 0.2  # for a moment, in which it opens its socket, there is none, or one that is root's alone
RETRY_S = 0.05
EXIT_CODES = {404: NOT_FOUND, 503: BUSY, 429: BUSY}


class ControlPlane:
    """One request is one connection: the command makes one or two of them."""

    def __init__(self, path: str) -> None:
        self._path = path

    def get(self, target: str) -> Any:
        return self.call("GET", target)

    def post(self, target: str, body: dict[str, Any]) -> Any:
        return self.call("POST", target, body)

    def sandbox(self, sandbox_id: str) -> dict[str, Any]:
        """The sandbox with that id or unique beginning of one, its token included."""
        found: dict[str, Any] = self.get(sandbox_path(sandbox_id))
        return found

    def call(self, method: str, target: str, body: dict[str, Any] | None = None) -> Any:
        """The decoded answer, None when it has no body. Raises CliError."""
        with self._asked(method, target, body, ANSWER_S) as response:
            content = response.read_all()
        return decoded(content, f"{method} {target}") if content else None

    def text(self, target: str) -> str:
        """What is answered there, which is no JSON. Raises CliError."""
        with self._asked("GET", target, None, ANSWER_S) as response:
            return response.read_all().decode(errors="replace")

    def stream(
        self, method: str, target: str, body: dict[str, Any] | None = None, patience_s: float | None = None
    ) -> Iterator[dict[str, Any]]:
        """The lines of an answer that goes on, each as it comes; between two of them it waits so long, None: for ever.

        Raises CliError, also for a refusal in the middle.
        """
        with self._asked(method, target, body, patience_s) as response:
            for line in response.lines():
                value: dict[str, Any] = decoded(line, f"{method} {target}")
                if "code" in value:
                    raise CliError(refusal(value["code"], line), EXIT_CODES.get(value["code"], FAILED))
                yield value

    @contextmanager
    def _asked(
        self, method: str, target: str, body: dict[str, Any] | None, patience_s: float | None
    ) -> Iterator[Response]:
        """An answer of success, its body not yet read. What goes wrong while it is read is told here, too."""
        connected, waits_s = self.connect(), ANSWER_S
        connection = Connection(connected, "localhost")
        payload = b"" if body is None else json.dumps(body).encode()
        headers = {"Connection": "close", "Content-Type": "application/json"}
        try:
            response = connection.request(method, target, headers, payload)
            connected.settimeout(patience_s)
            waits_s = patience_s or ANSWER_S
            if not 200 <= response.status < 300:
                content = response.read_all()
                raise CliError(refusal(response.status, content), EXIT_CODES.get(response.status, FAILED))
            yield response
        except TimeoutError as error:
            raise CliError(
                f"sandboxd has not answered for {waits_s:g} s ({method} {target}). {self._look()}"
            ) from error
        except OSError as error:
            # Whether it was done is unknown, so it is not repeated.
            raise CliError(f"sandboxd hung up on {method} {target}: {error}. {self._look()}", UNREACHABLE) from error
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        """A connection, which is the caller's to close. Raises CliError when nobody answers."""
        begun = time.monotonic()
        while True:
            connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connected.settimeout(ANSWER_S)
            try:
                connected.connect(self._path)
                return connected
            except PermissionError as error:
                connected.close()
                if time.monotonic() < begun + OPENING_S:
                    time.sleep(RETRY_S)
                    continue
                raise CliError(
                    f"{self._path}: permission denied. Only root and the socket's group may use sandboxes;"
                    f" let root add you (usermod --append --groups {group_of(self._path)} USER), then log in again."
                ) from error
            except OSError as error:
                connected.close()
                waits_s = RESTART_S if isinstance(error, ConnectionRefusedError) else OPENING_S
                if time.monotonic() >= begun + waits_s:
                    message = f"sandboxd does not answer on {self._path}: {error.strerror}. {self._look()}"
                    raise CliError(message, UNREACHABLE) from error
            time.sleep(RETRY_S)

    def _look(self) -> str:
        return "Look with: systemctl status '*-sandboxd'; journalctl -u '*-sandboxd'."


def sandbox_path(sandbox_id: str) -> str:
    return f"/sandboxes/{quote(sandbox_id)}"


def decoded(content: bytes, request: str) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise CliError(f"sandboxd answers {request} with what is no JSON: {content[:80]!r}.") from error


def group_of(path: str) -> str:
    """The group that a file belongs to: its name, or else its number."""
    import grp  # only here: most commands never need it

    try:
        number = os.stat(path).st_gid
    except OSError:
        return "GROUP"
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def refusal(status: int, content: bytes) -> str:
    """The message of an answer that is no success: {"code": ..., "message": ...}, or whatever came instead."""
    try:
        return str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP status {status}: {content[:200].decode(errors='replace') or 'no message'}"
