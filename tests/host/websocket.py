"""A WebSocket as a browser opens one, through Traefik and gateway; and a server for it, to run in a sandbox."""

from __future__ import annotations

import base64
import os
import socket
import ssl
from types import TracebackType
from typing import Self

from tests.host.machine import Machine

# Answers each handshake, and from then on sends back what comes: frames are not looked at. Its kernel asks each second
# whether the other side is still there.
SERVER = """
import base64, hashlib, socket, socketserver
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
            self.request.setsockopt(socket.IPPROTO_TCP, option, 1)
        headers = {}
        self.rfile.readline()
        while line := self.rfile.readline().decode().strip():
            name, _, value = line.partition(': ')
            headers[name.lower()] = value
        if 'sec-websocket-key' not in headers:
            self.wfile.write(b'HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n')
            return
        key = headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.wfile.write(('HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n'
                          f'Sec-WebSocket-Accept: {accept}\\r\\n\\r\\n').encode())
        while data := self.request.recv(65536):
            self.request.sendall(data)
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(('127.0.0.1', 8000), Echo).serve_forever()
"""
PING = b"\x89\x80\0\0\0\0"  # RFC 6455, 5.5.2: a client's frame has a mask
PATIENCE_S = 120  # a sandbox that sleeps sees what comes on an open connection at a look, which is one each half minute


class WebSocket:
    """`status` is that of the answer to the handshake; 101 means that it is open."""

    def __init__(self, machine: Machine, host: str, cookie: str = "") -> None:
        authority = machine.authority()
        context = ssl.create_default_context(cafile=str(authority) if authority else None)
        plain = socket.create_connection((machine.target.address, 443), timeout=PATIENCE_S)
        self._connection = context.wrap_socket(plain, server_hostname=host)
        head = f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        head += f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
        head += f"Cookie: {cookie}\r\n\r\n" if cookie else "\r\n"
        self._connection.sendall(head.encode())
        self._reader = self._connection.makefile("rb")
        self.status = int(self._reader.readline().split()[1])
        while self._reader.readline().strip():
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def ping(self) -> bytes:
        """What comes back."""
        self._connection.sendall(PING)
        return self._reader.read(len(PING))
