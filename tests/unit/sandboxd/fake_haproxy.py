"""HAProxy's admin socket."""

import socket
import threading
from pathlib import Path

# What HAProxy 2.6 answers, cut to the columns that are of interest, with one that is empty.
STATISTICS = """\
# pxname,svname,scur,stot,bin,bout,econ,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,hrsp_other,type,
gateway,FRONTEND,3,120,4000,90000,,1,100,2,10,7,0,0,
sandboxes,BACKEND,2,110,3000,80000,4,1,95,2,9,3,0,1,
"""


def pointer(entry: tuple[str, str]) -> str:
    """By which HAProxy shows an entry of a map, and lets it be deleted."""
    return hex(id(entry))


class FakeHaproxy:
    """HAProxy's admin socket: one map, one command for a connection."""

    def __init__(self, path: Path, file: Path) -> None:
        self.path, self.file = path, file
        self.map: list[tuple[str, str]] = []
        self.refuses = False  # every change
        self.sessions: dict[str, str] = {}  # pointer -> the address that it is from
        self.commands: list[list[str]] = []
        self.hanging = threading.Event()  # set: connections are accepted, and nothing is answered
        self._stopped = threading.Event()
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen(64)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self.path.exists():
            self.path.unlink()
            self._server.shutdown(socket.SHUT_RDWR)
            self._server.close()
            self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection, connection.makefile("rw") as stream:
                words = stream.readline().split()
                if self.hanging.is_set():
                    self._stopped.wait(5)
                    continue
                self.commands.append(words)
                stream.write(self.answer(words) + "\n")

    def answer(self, words: list[str]) -> str:
        if words[:2] == ["show", "stat"]:
            return STATISTICS
        if words == ["show", "sess"]:
            shown = "0x1: proto=unix_stream src=unix:1 fe=GLOBAL\n"
            return shown + "".join(f"{one}: proto=tcpv4 src={ip}:4711 fe=tls\n" for one, ip in self.sessions.items())
        if words[:2] == ["shutdown", "session"]:
            del self.sessions[words[2]]
            return ""
        verb, _, name, *rest = words
        if self.refuses and verb in ("add", "set", "del"):
            return "Permission denied"
        if name != str(self.file):
            return "Unknown map identifier. Please use #<id> or <file>."
        if verb == "show":
            return "".join(f"{pointer(entry)} {entry[0]} {entry[1]}\n" for entry in self.map)
        if verb == "get" and (found := dict(self.map).get(rest[0])):
            return f'type=str, case=sensitive, found=yes, idx=tree, key="{rest[0]}", value="{found}", type="str"'
        if verb == "get":
            return "type=str, case=sensitive, found=no"
        if verb == "del" and rest[0].startswith("#"):
            self.map = [entry for entry in self.map if f"#{pointer(entry)}" != rest[0]]
            return ""
        known = [key for key, _ in self.map]
        if verb == "add":
            self.map.append((rest[0], rest[1]))
            return ""
        if rest[0] not in known:
            return "entry not found."
        self.map = [(key, value) for key, value in self.map if key != rest[0]]
        if verb == "set":
            self.map.append((rest[0], rest[1]))
        return ""
