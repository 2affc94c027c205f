"""The routes: HAProxy's runtime map, over its admin socket, and the map file that HAProxy reads at its start.

Both are kept in step. The file is written even while HAProxy is down, so that it comes up with the right routes.
This module touches those two things and nothing else.
"""

import csv
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sandboxd.errors import GatewayError

TIMEOUT_S = 5.0
# HAProxy serves 10 connections to its admin socket, and has as many wait; whoever comes then is turned away at once.
TALKS = 8


@dataclass(frozen=True)
class RouteStatus:
    """What differs between the ledger's routes (the truth), the map file and the runtime map."""

    in_step: bool
    routes: int
    missing: list[str]  # in the ledger, absent or with another value in the file or in HAProxy
    stale: list[str]  # in the file or in HAProxy, unknown to the ledger
    gateway: str  # empty, or why HAProxy cannot be asked


class Gateway:
    """The one writer of the routes. `routes` reads the truth, id -> `routes.text`, from the ledger.

    The ledger changes first, then `update` follows; `sync` mends whatever went astray.
    """

    called = "the gateway"

    def __init__(
        self, admin_socket: Path, routes_map: Path, routes: Callable[[], dict[str, str]], unit: str = "haproxy"
    ) -> None:
        """`unit` is the one in which HAProxy runs, for messages."""
        self._admin_socket, self._map, self._routes, self._unit = admin_socket, routes_map, routes, unit
        self._lock = threading.Lock()
        self._talks = threading.Semaphore(TALKS)

    def check(self) -> None:
        """Raises GatewayError when HAProxy does not answer or does not know our map."""
        self._refused(self._ask(f"get map {self._map} check"))

    def update(self, sandbox_id: str) -> None:
        """Makes the route of one sandbox what the ledger says, be it none.

        Raises GatewayError when HAProxy does not take it; the file has it all the same.
        """
        with self._lock:
            routes = self._routes()
            self._write(routes)
            if sandbox_id in routes:
                self._put(sandbox_id, routes[sandbox_id])
            else:
                self._drop(sandbox_id, sandbox_id)

    def sync(self) -> None:
        """Makes file and runtime map equal to the ledger, touching only what differs."""
        with self._lock:
            routes = self._routes()
            if self._file() != routes:
                self._write(routes)
            runtime = {}
            for pointer, sandbox_id, route in self._entries():
                if sandbox_id in routes:
                    runtime[sandbox_id] = route
                else:
                    # What a spoilt file has put there may be no word that a command takes.
                    self._drop(sandbox_id, f"#{pointer}")
            for sandbox_id, route in routes.items():
                if runtime.get(sandbox_id) != route:
                    self._put(sandbox_id, route)

    def status(self) -> RouteStatus:
        """Compares the ledger's routes with the file and with HAProxy."""
        with self._lock:
            routes, file, trouble = self._routes(), self._file(), ""
            try:
                runtime = self._runtime()
            except GatewayError as error:
                runtime, trouble = file, str(error)
        missing = [key for key, route in routes.items() if file.get(key) != route or runtime.get(key) != route]
        stale = (file.keys() | runtime.keys()) - routes.keys()
        in_step = not (missing or stale or trouble)
        return RouteStatus(in_step, len(routes), sorted(missing), sorted(stale), trouble)

    def statistics(self) -> list[dict[str, str]]:
        """What HAProxy has counted, a row for each of its frontends and backends: its management guide, chapter 9.1.

        Raises GatewayError.
        """
        answer = self._ask("show stat -1 3 -1")  # of all proxies; 1: frontends, 2: backends; of all servers
        if not answer.startswith("# "):
            self._refused(answer or "nothing")
        return list(csv.DictReader(answer.removeprefix("# ").splitlines()))

    def _put(self, sandbox_id: str, route: str) -> None:
        # `add map` would make a second entry beside one that is there, and `set map` refuses one that is not.
        if self._ask(f"set map {self._map} {sandbox_id} {route}"):
            self._refused(self._ask(f"add map {self._map} {sandbox_id} {route}"))

    def _drop(self, key: str, entry: str) -> None:
        """`entry` is the key itself, or `#` and the pointer that HAProxy shows."""
        answer = self._ask(f"del map {self._map} {entry}")
        if "not found" not in answer:
            self._refused(answer)

    def _runtime(self) -> dict[str, str]:
        return {key: value for _, key, value in self._entries()}

    def _entries(self) -> list[tuple[str, str, str]]:
        """Pointer, key and value of each entry that HAProxy has."""
        answer = self._ask(f"show map {self._map}")
        lines = answer.splitlines()
        if not all(line.startswith("0x") for line in lines):
            self._refused(answer)
        split = [line.partition(" ") for line in lines]
        return [(pointer, *rest.partition(" ")[::2]) for pointer, _, rest in split]

    def _file(self) -> dict[str, str]:
        """What is in the file, be it spoilt: a line that is no route is an entry, too, and so a difference."""
        try:
            lines = [line.split(None, 1) for line in self._map.read_text(errors="replace").splitlines()]
        except FileNotFoundError:
            return {}
        return {"".join(parts[:1]): "".join(parts[1:]) for parts in lines}

    def _write(self, routes: dict[str, str]) -> None:
        text = "".join(f"{key} {route}\n" for key, route in sorted(routes.items()))
        temporary = self._map.with_suffix(".new")
        try:
            temporary.write_text(text)
            temporary.chmod(0o644)
            os.replace(temporary, self._map)
        except OSError as error:
            raise GatewayError(f"{self._map}: cannot be written: {error.strerror}. Is the disk full?") from error

    def _refused(self, answer: str) -> None:
        """HAProxy answers an accepted command with nothing, or (get map) with what it found."""
        if answer and not answer.startswith("type="):
            raise GatewayError(
                f"HAProxy refuses a command on {self._map}: {answer!r}."
                " Its configuration must read this map file: deploy again, then"
                f" systemctl reload-or-restart {self._unit}."
            )

    def _ask(self, command: str) -> str:
        try:
            with self._talks, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(TIMEOUT_S)
                connection.connect(str(self._admin_socket))
                connection.sendall(command.encode() + b"\n")
                answer = b""
                while chunk := connection.recv(65536):
                    answer += chunk
        except OSError as error:
            raise GatewayError(
                f"{self.called} does not answer on {self._admin_socket}: {error}."
                f" Look with: systemctl status {self._unit}; start it with: systemctl restart {self._unit}."
            ) from error
        return answer.decode(errors="replace").strip()
