"""The way an SDK goes: HTTPS through Traefik and the gateway to the agent of a sandbox, one connection kept alive."""

import base64
import json
import socket
import ssl
import struct
from http.client import HTTPConnection, HTTPResponse
from typing import Any

from tools.bench.host.machine import Unexpected

AGENT_PORT = 49983
ENVELOPE = struct.Struct(">BI")
FLAG_END = 0x02


class Edge(HTTPConnection):
    """A connection to this host's port 443 for a name. The certificate is not checked: only time is measured."""

    def __init__(self, name: str) -> None:
        super().__init__(name, 443, timeout=30)
        self._context = ssl.create_default_context()
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE

    def connect(self) -> None:
        raw = socket.create_connection(("127.0.0.1", 443), 30)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = self._context.wrap_socket(raw, server_hostname=self.host)


class Agent:
    """The agent of one sandbox; `sandbox` is what sandboxd answered to its create."""

    def __init__(self, sandbox: dict[str, Any], domain: str) -> None:
        self._headers = {
            "X-Access-Token": sandbox["envdAccessToken"],
            "Content-Type": "application/connect+json",
            "Connect-Protocol-Version": "1",
        }
        self._connection = Edge(f"{AGENT_PORT}-{sandbox['sandboxID']}.{domain}")

    def run(self, command: str) -> str:
        """What `commands.run` of an SDK does: a login shell, followed to its end. Returns its output.

        Raises Unexpected when it does not end with 0.
        """
        output, code = b"", None
        for event in self._events(self._start(command)):
            output += base64.b64decode(event.get("data", {}).get("stdout", ""))
            if "end" in event:
                code = event["end"].get("exitCode", 0)
        if code != 0:
            raise Unexpected(f"{command!r} in the sandbox ended with {code}")
        return output.decode()

    def background(self, command: str) -> None:
        """Starts a command that lives on. The connection cannot be used for another one: it is closed."""
        next(self._events(self._start(command)))
        self.close()

    def close(self) -> None:
        self._connection.close()

    def _start(self, command: str) -> HTTPResponse:
        process = {"cmd": "/bin/bash", "args": ["-l", "-c", command]}
        payload = json.dumps({"process": process, "stdin": False}).encode()
        body = ENVELOPE.pack(0, len(payload)) + payload
        self._connection.request("POST", "/process.Process/Start", body, self._headers)
        answer = self._connection.getresponse()
        if answer.status != 200:
            raise Unexpected(f"the agent answered {answer.status}: {answer.read()[:200]!r}")
        return answer

    @staticmethod
    def _events(answer: HTTPResponse) -> Any:
        while True:
            flags, length = ENVELOPE.unpack(answer.read(ENVELOPE.size))
            message = json.loads(answer.read(length))
            if flags & FLAG_END:
                answer.read()
                if "error" in message:
                    raise Unexpected(f"the agent refused: {message['error']}")
                return
            yield message["event"]
